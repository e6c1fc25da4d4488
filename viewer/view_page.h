/// Timelines as a page to look at: what `plait view` writes.
#pragma once

#include <span>
#include <string>

#include "plait/timeline/timeline.h"

namespace plait::viewer {

struct ViewedFile {
  std::string name;       ///< as the user named it; any bytes
  bool schedule = false;  ///< drawn with unit costs: times are units, not nanoseconds
  Timeline timeline;
};

/// viewer/page.html with the files in it. Cost: O(events), about 40 bytes for each.
std::string print_view_page(std::span<const ViewedFile> files);

}  // namespace plait::viewer
