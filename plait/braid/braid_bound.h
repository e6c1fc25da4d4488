/// A lower bound of a pair's time: no order of its segments on two lanes is faster.
#pragma once

#include "plait/base/units.h"
#include "plait/braid/layer_braid.h"

namespace plait {

/// Let head(s) be the longest chain of costs that must end before a segment s begins, tail(s) the
/// longest that must follow it. For any segments S of one lane every order takes at least
///   min head(S) + their costs + min tail(S).
/// Proof: the first of S begins at min head(S) or later, since its head precedes it; a lane runs
/// one segment at a time, so the last of S ends at least their costs later; its tail follows. The
/// bound is the largest over both lanes and all S: the one-machine bound with heads and tails (J.
/// R. Jackson, 1955; J. Carlier, 1982). It suffices to try S = {head >= a, tail >= b} for all a and
/// b: of all sets with these minima it costs most.
///
/// It holds for every order, also such as differ from layer to layer. The lanes do not matter.
/// 0 if segments need each other in a circle. Cost: O(n^2) in the segments of all layers.
Nanoseconds braid_bound(const LayerBraid& braid);

}  // namespace plait
