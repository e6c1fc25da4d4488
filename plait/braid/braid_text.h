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
/// A segment has its word, its lane, what it needs (of its own layer, or `previous`: of the layer
/// before) and what it costs: nothing that is known, one number, or one for each layer. The two
/// lanes are each lane's order, in which every segment of the lane stands once.
#pragma once

#include <string>
#include <string_view>

#include "plait/base/error.h"
#include "plait/braid/layer_braid.h"

namespace plait {

inline constexpr int kBraidTextVersion = 1;

/// Reads all of `text`; lines end in \n or \r\n. Lanes that wait in a circle are read too:
/// PreparedBraid finds them. Errors name `file`, line and column. Cost: O(text).
Expected<LayerBraid> read_braid_text(std::string_view text, const std::string& file);

/// read_braid_text of it gives the same braid. Cost: O(segments * layers).
std::string print_braid_text(const LayerBraid& braid);

/// The comma-separated table `segment,lane,depends_on,layer0,layer1,…`: lanes `compute` and `comm`,
/// "previous layer's X" for a need of the layer before, several needs with ';' between, costs in
/// milliseconds. Each lane's order is that of the rows. Errors as above. Cost: O(text).
Expected<LayerBraid> read_braid_csv(std::string_view text, const std::string& file);

}  // namespace plait
