#include "plait/ir/schedule.h"

namespace plait {

std::vector<int> Placement::stages_of(int rank) const {
  std::vector<int> stages_here;
  for (int stage = 0; stage < stages(); ++stage) {
    bool here = false;
    for (int copy = 0; copy < copies; ++copy) here = here || rank_of(stage, copy) == rank;
    if (here) stages_here.push_back(stage);
  }
  return stages_here;
}

}  // namespace plait
