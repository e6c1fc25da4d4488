/// When the compute instructions of each rank ended, to find what an event awaited.
#pragma once

#include <optional>
#include <vector>

#include "plait/timeline/timeline.h"

namespace plait {

class ComputeEnds {
 public:
  /// Cost: O(events), in memory too, however a file numbers them.
  explicit ComputeEnds(const Timeline& timeline);

  /// Nothing if there is no such instruction.
  std::optional<Nanoseconds> find(int rank, int instruction) const;

 private:
  std::vector<std::vector<std::optional<Nanoseconds>>> ends_;  // by rank and instruction
};

}  // namespace plait
