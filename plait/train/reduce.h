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

/// By stage and group, the parameters that are reduced together, in order of names.
using ReducedRows = std::map<std::pair<int, Group>, std::vector<Parameter>>;

/// Of the rank that runs `program`. A tensor that two of its stages share is in the row of the one
/// whose REDUCE_GRAD comes later. `names`: by stage of the rank, the parameters that it uses.
ReducedRows reduced_rows(const std::map<int, std::set<std::string>>& names,
                         const RankProgram& program, const ParameterStore& store);

/// Members of a group on that grid, and the place of `column` among them.
GroupPlace place_in(Group group, const Grid& grid, int column);

/// What came from the members of a reduction or a gather, one flat tensor each, in their order.
std::vector<at::Tensor> slices_in(const Value& arrived, std::int64_t members);

/// Experts' gradients over the replicas of the expert group, all others over all columns; each sum
/// in ascending order of columns, so that it has the same bits on every rank, and those of a loop
/// over the columns. Each of n members gets the addends of its own slice by a reduce-scatter, adds
/// them up, and hands the sum to the others by an all-gather: (n - 1) / n of the gradients' bytes
/// leave a rank in each. The two gradients of a tensor that two stages share are added up before.
class GradientReducer final : public Reducer {
 public:
  /// For the store of a rank in `column`; the store outlives it. What it makes is charged to
  /// `buffers`.
  GradientReducer(ReducedRows rows, const Grid& grid, int column, ParameterStore& store,
                  MemoryAccount& buffers)
      : grid_(grid),
        column_(column),
        store_(store),
        buffers_(buffers),
        parameters_(std::move(rows)) {}

  Expected<std::unique_ptr<ExchangeValue>> scatter(int stage, Group group) override;
  Expected<std::unique_ptr<ExchangeValue>> gather(int stage, Group group, Value addends) override;
  Expected<void> finish(int stage, Group group, Value sums) override;

 private:
  /// What one stage reduces over one group.
  const std::vector<Parameter>& parameters(int stage, Group group) const {
    return parameters_.at({stage, group});
  }
  std::int64_t members(Group group) const { return place_in(group, grid_, column_).members; }
  int member(Group group) const { return place_in(group, grid_, column_).member; }

  Grid grid_;
  int column_;
  ParameterStore& store_;
  MemoryAccount& buffers_;
  ReducedRows parameters_;
};

}  // namespace plait
