/// Adds up the gradients of ranks that hold the same parameters.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "plait/model/partition.h"
#include "plait/nn/parameter_store.h"
#include "plait/program/rank_program.h"
#include "plait/runtime/reducer.h"
#include "plait/torch/memory.h"

namespace plait {

/// By stage, over which groups its gradients add up on that grid.
std::vector<std::vector<Group>> reduced_groups(const ModelConfig& model,
                                               const std::vector<StagePart>& parts,
                                               const Grid& grid);

/// Experts' gradients over the replicas of the expert group, all others over all columns; each sum
/// in ascending order of columns, so that it has the same bits on every rank, and those of a loop
/// over the columns. Each of n members gets the addends of its own slice by a reduce-scatter, adds
/// them up, and hands the sum to the others by an all-gather: (n - 1) / n of the gradients' bytes
/// leave a rank in each. A tensor that two stages of the rank share is reduced
/// with the one whose REDUCE_GRAD comes later, its two gradients added up before.
class GradientReducer final : public Reducer {
 public:
  /// For the store of the rank that runs `program` in `column`; the store outlives it. `names`: by
  /// stage of the rank, the parameters that it uses. What it makes is charged to `buffers`.
  GradientReducer(const std::map<int, std::set<std::string>>& names, const Grid& grid, int column,
                  const RankProgram& program, ParameterStore& store, MemoryAccount& buffers);

  Expected<std::unique_ptr<ExchangeValue>> scatter(int stage, Group group) override;
  Expected<std::unique_ptr<ExchangeValue>> gather(int stage, Group group, Value addends) override;
  Expected<void> finish(int stage, Group group, Value sums) override;

 private:
  /// What one stage reduces over one group.
  const std::vector<Parameter>& parameters(int stage, Group group) const {
    return parameters_.at({stage, group});
  }
  std::int64_t members(Group group) const {
    return group == Group::kData ? grid_.data : grid_.columns();
  }
  /// This column's place among them.
  int member(Group group) const { return group == Group::kData ? column_ / grid_.expert : column_; }

  Grid grid_;
  int column_;
  ParameterStore& store_;
  MemoryAccount& buffers_;
  std::map<std::pair<int, Group>, std::vector<Parameter>> parameters_;
};

}  // namespace plait
