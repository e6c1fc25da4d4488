/// A braid's predicted timeline as a picture of letters.
#pragma once

#include <string>

#include "plait/base/error.h"
#include "plait/braid/layer_braid.h"

namespace plait {

/// Two rows, one per lane, time to the right, folded into bands of `width` columns: `|` begins a
/// segment, its word and layer follow, `=` fills it, `.` is idle. Segments that take no time are
/// not drawn.
///
/// Errors: as lay_out() and PreparedBraid::make(); a segment without a cost. Cost: O(segments of
/// all layers).
Expected<std::string> draw_braid(const LayerBraid& braid, int width);

}  // namespace plait
