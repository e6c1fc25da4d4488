/// A run as a screen of text, for those who watch it. Knows no torch.
#pragma once

#include <string>
#include <vector>

#include "plait/record/run_view.h"

namespace plait {

struct ScreenStyle {
  bool colour = false;
  int columns = 80;
  int rows = 0;      ///< 0: as many as it takes
  int cores = 0;     ///< of the machine, 0 if not known
  std::string keys;  ///< the last line: what the keys do; empty: none
};

/// Lines without line ends, no more and no wider than the style allows: how far the run is, its
/// loss so far, a table of the last step by rank, the lanes of one of the last steps. Where rows
/// are few, communication lanes are left out first, then the ends of lanes and table, then the
/// loss. Same input, same lines. Cost: O(steps + events log events).
std::vector<std::string> draw_run(const RunView& run, const ScreenStyle& style);

}  // namespace plait
