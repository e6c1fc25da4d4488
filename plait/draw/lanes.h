/// What ran when in a step, as rows of letters for terminals and documents.
#pragma once

#include <string>
#include <vector>

#include "plait/timeline/timeline.h"

namespace plait {

struct LanesStyle {
  bool colour = false;        ///< as in ascii.h
  int width = 160;            ///< columns, at least 20
  bool communication = true;  ///< its lanes too
};

/// Lines without line ends, none wider than the style's width: a row per rank, under it one for its
/// communication lane if anything ran there, then the axis and what the letters mean.
///
/// Time goes to the right on one axis, from the first begin to the last end; a span of no more ns
/// than columns gets the same whole number of columns for each. A column is '.' if the lane is idle
/// in more than half of it, and else what took most of it: the action's letter (action_look.h), its
/// micro-batch where there is room, '-' to its end, or '=' in a pair. Members of a pair that run at
/// one time are drawn one after the other in the columns of both.
/// Cost: O(n log n) in the events, and the width for each rank.
std::vector<std::string> draw_lanes(const Timeline& timeline, const LanesStyle& style);

}  // namespace plait
