/// A timeline as a picture for documents and papers.
#pragma once

#include <string>

#include "plait/timeline/timeline.h"

namespace plait {

struct SvgStyle {
  std::string title;  ///< of the picture, as text; may be empty
  int width = 1200;   ///< pixels
};

/// A row per rank, time to the right on one axis. Boxes are coloured by what they do, in colours
/// that colour-blind readers tell apart, and darker for a rank's later stages; the numbers are
/// micro-batches, left out where they have no room. A frame joins the members of a pair; members
/// that run at one time share the row's height. Below a row that communicates is a thin one of its
/// messages and collectives. At the right: each rank's bubble as a share of the step.
/// An empty timeline is an empty picture. Cost: O(n log n) in the events.
std::string draw_svg(const Timeline& timeline, const SvgStyle& style);

}  // namespace plait
