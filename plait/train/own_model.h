/// A caller's own modules as the source of a run's stages.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "plait/runtime/value.h"
#include "plait/train/memory_plan.h"
#include "plait/train/pipeline.h"
#include "plait/train/shard_memory.h"
#include "plait/train/train_plan.h"

namespace plait {

/// Makes stages while the run is planned, for `columns` of the grid, and hands them to the ranks.
class OwnModelSource final : public ModelSource {
 public:
  OwnModelSource(OwnModel model, const Grid& grid, int stages)
      : model_(std::move(model)), grid_(grid), stages_(stages) {}

  /// What a plan must know of a stage. Keeps its segments for each of `columns`; without columns
  /// one is made, looked at and dropped. Errors (kInvalidInput): no segments; a parameter that an
  /// earlier stage of the column holds.
  Expected<void> add_stage(int stage, const std::vector<int>& columns,
                           const std::set<std::string>& recompute, StagesInfo& info);

  /// When all stages were added. Errors (kInvalidInput): a word that no segment has.
  Expected<void> check_recompute(const std::set<std::string>& recompute) const;

  /// By stage that was added: what its parameters and buffers need of a rank, with AdamW's moments;
  /// activations and batch aside.
  const std::vector<RankMemory>& memory() const { return memory_; }
  /// By stage that was added.
  const std::vector<std::vector<PlannedParameter>>& parameters() const { return parameters_; }

  std::unique_ptr<RankModel> make_rank(int column, at::Device device) override;
  /// The micro-batches of `rounds` rounds. Errors (kInvalidInput): another number of them.
  Expected<void> set_batch(StepBatch batch, int microbatches, int rounds);

 private:
  class Rank;
  Expected<StageSegments> make_segments(int stage, int column);
  Expected<void> run_sample(int stage, const StageSegments& segments, StagesInfo& info);
  Expected<void> check_parameters(int stage, int column, const StageSegments& segments);

  OwnModel model_;
  Grid grid_;
  int stages_;
  std::vector<RankMemory> memory_;
  std::vector<std::vector<PlannedParameter>> parameters_;
  std::set<std::string> words_;  // of the segments that compute, of all stages
  StepBatch batch_;
  int microbatches_ = 0;                               // of a round
  std::map<std::pair<int, int>, StageSegments> made_;  // by stage and column
  // By stage and column: where the round that its rank runs begins in the batch.
  std::map<std::pair<int, int>, std::shared_ptr<int>> firsts_;
  std::map<int, std::set<const void*>> seen_;  // by column, the tensors of earlier stages
  Value sample_;                               // what the last stage made of the sample
};

}  // namespace plait
