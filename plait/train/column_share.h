/// One column's share of a run on one rank: its stages, parameters, losses and optimiser.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/nn/parameter_store.h"
#include "plait/torch/memory.h"
#include "plait/torch/torch_stage.h"
#include "plait/train/copies.h"
#include "plait/train/finite_watch.h"
#include "plait/train/reduce.h"
#include "plait/train/shards.h"
#include "plait/train/train_setup.h"

namespace plait {

/// A rank of the pipeline holds one, the reference one of each column. Not thread-safe.
class ColumnShare {
 public:
  /// `device`: where its tensors are.
  ColumnShare(const TrainSetup& setup, int column, at::Device device);
  ~ColumnShare();

  /// What a rank's memory is charged to: parameters, gradients and optimiser; the batch and what
  /// comes from other ranks; what a step makes.
  struct Accounts {
    MemoryAccount& lasting;
    MemoryAccount& received;
    MemoryAccount& activations;
  };
  /// Makes the segments of `stages` and what trains them. `program`: what the rank trains with,
  /// whose other columns may hold the same parameters; null in the reference, where each column
  /// holds everything whole. Errors: those of the model's source.
  Expected<void> build(const std::vector<int>& stages, Accounts accounts,
                       const RankProgram* program);
  /// What reduces and gathers for the executor of a program of this rank; null if no other column
  /// holds the same parameters. The share outlives it.
  std::unique_ptr<Reducer> make_reducer(const RankProgram& program);

  int column() const { return column_; }
  /// By stage; null for those it does not hold.
  const std::vector<Stage*>& stages() const { return stages_; }
  RankModel& model() { return *model_; }
  ParameterStore& store() { return store_; }
  const LossSink& losses() const { return *losses_; }
  bool has_last_stage() const { return has_last_stage_; }
  /// What of this step's numbers was not finite.
  FiniteWatch& finite() { return finite_; }
  /// By stage, the names of the parameters that its segments use.
  const std::map<int, std::set<std::string>>& names() const { return names_; }
  /// Several columns may hold the same tensor; the lowest of them reports it and saves it. True if
  /// this column is the lowest.
  bool speaks_for(const Parameter& parameter) const;
  /// The parameters it speaks for.
  std::vector<Parameter> spoken_for() const;

  /// The micro-batches of a round; losses at zero, and before a step's first round the gradients.
  void begin_round(int step, int round);
  /// Divides the gradients, which have added up over rounds, micro-batches and columns.
  void finish_gradients();
  /// When the program of a round, or of a validation's batch, has ended.
  void end_run();
  /// What this column updates; gradients as finish_gradients() has left them.
  const std::vector<TrainedSlice>& slices() const { return slices_; }
  void update(double learning_rate, double gradient_scale) {
    if (optimizer_) optimizer_->step(slices_, learning_rate, gradient_scale);
  }
  void begin_validation(int batch);
  /// Parameters, buffers, optimiser and what the model has beside them.
  TrainState state();
  /// As build() has found the tensors; empty unless the settings compare them.
  const std::vector<TensorCopy>& copies() const { return copies_; }

 private:
  class ReceivingStage;
  Expected<void> cut(Accounts accounts);
  void renew_rounded();
  std::vector<TrainedSlice> make_slices() const;

  const TrainSetup& setup_;
  int column_;
  std::unique_ptr<RankModel> model_;
  FiniteWatch finite_;
  std::shared_ptr<LossSink> losses_ = std::make_shared<LossSink>();
  ParameterStore store_;
  std::vector<std::unique_ptr<ReceivingStage>> owned_;
  std::vector<Stage*> stages_;
  std::map<int, std::set<std::string>> names_;
  std::vector<Parameter> parameters_;
  ReducedRows rows_;                         // of several columns
  std::unique_ptr<ParameterShards> shards_;  // where they share out what they hold
  std::vector<TrainedSlice> slices_;
  std::vector<TensorCopy> copies_;
  std::unique_ptr<Optimizer> optimizer_;
  MemoryAccount* received_ = nullptr;
  bool has_last_stage_ = false;
};

}  // namespace plait
