#include "plait/verify/holders.h"

#include <cstdint>

namespace plait::verify_detail {

Holders::Holders(const Schedule& schedule)
    : stages_(schedule.placement.stages()),
      microbatches_(schedule.microbatches),
      rank_of_(schedule.placement.rank_of_stage) {
  const std::int64_t copies = schedule.placement.copies;
  // The smallest m with floor(copies * m / M) = copy.
  for (std::int64_t copy = 0; copy < copies; ++copy)
    copy_begin_.push_back(static_cast<int>((copy * microbatches_ + copies - 1) / copies));
}

bool Holders::holds(int rank, int stage) const {
  for (int copy = 0; copy < copies(); ++copy) {
    if (rank_of_copy(stage, copy) == rank) return true;
  }
  return false;
}

}  // namespace plait::verify_detail
