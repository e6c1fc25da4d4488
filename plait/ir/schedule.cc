#include "plait/ir/schedule.h"

namespace plait {

std::vector<int> Placement::stages_of(int rank) const {
  std::vector<int> stages_here;
  for (int stage = 0; stage < stages(); ++stage) {
    if (rank_of(stage) == rank) stages_here.push_back(stage);
  }
  return stages_here;
}

}  // namespace plait
