/// A layer's braid as text, and as the table of a measured profile; comments from # to the line's
/// end.
///
///   braid 1                      the format's version; the first line that is no comment
///   layers 4
///   segment attn.F compute needs previous combine.F ns 4310000 4260000 4440000 4470000
///   segment dispatch.F communication needs attn.F ns 6692500
///   segment mlp.F compute needs dispatch.F
///   …
///   compute: attn.F mlp.F …
///   communication: dispatch.F …
///
/// `segment WORD LANE`, then `needs` and the segments that must have ended before (of the same
/// layer, behind `previous` of the layer before), then `ns` and one cost for all layers or one for
/// each. A segment without `ns` has no known cost. `compute:` and `communication:` are the orders
/// of the two lanes; every segment stands once in its lane's line.
#pragma once

#include <string>
#include <string_view>

#include "plait/base/error.h"
#include "plait/braid/layer_braid.h"

namespace plait {

inline constexpr int kBraidTextVersion = 1;

/// Reads all of `text`; lines end in \n or \r\n. A text whose lanes wait in a circle is no error
/// here: PreparedBraid::make() refuses it. Errors name `file`, line and column. Cost: O(text).
Expected<LayerBraid> read_braid_text(std::string_view text, const std::string& file);

/// read_braid_text of it gives the same braid. Cost: O(segments * layers).
std::string print_braid_text(const LayerBraid& braid);

/// The comma-separated table `segment,lane,depends_on,layer0,layer1,…`: lanes `compute` and `comm`,
/// "previous layer's X" for a need of the layer before, several needs with ';' between, costs in
/// milliseconds. Each lane's order is that of the rows. Errors as above. Cost: O(text).
Expected<LayerBraid> read_braid_csv(std::string_view text, const std::string& file);

}  // namespace plait
