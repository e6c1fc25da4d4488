/// One column's share of a run on one rank: parameters, stages and batches.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "plait/base/error.h"
#include "plait/nn/batch.h"
#include "plait/nn/parameter_store.h"
#include "plait/nn/router_loads.h"
#include "plait/torch/memory.h"
#include "plait/torch/torch_stage.h"
#include "plait/train/adamw.h"
#include "plait/train/dataset.h"
#include "plait/train/plan.h"

namespace plait {

/// A column sees its own sequences of every micro-batch: of the batch's rows, micro-batch m holds
/// neighbours, and column c its c-th share of them. Not thread-safe.
class Shard {
 public:
  Shard(const JobPlan& plan, const DataSplit& data, int column);
  ~Shard();

  /// What a rank's memory is charged to: what stays, with received messages; and what a step makes.
  struct Accounts {
    MemoryAccount& lasting;
    MemoryAccount& activations;
  };
  /// Makes the segments of `stages` and what trains them.
  /// Errors: a folder in `model.init` that does not fit.
  Expected<void> build(const std::vector<int>& stages, Accounts accounts);

  int column() const { return column_; }
  /// By stage; null for those it does not hold.
  const std::vector<Stage*>& stages() const { return stages_; }
  ParameterStore& store() { return store_; }
  RouterLoads& loads() { return *loads_; }
  const LossSink& losses() const { return *losses_; }
  bool has_head() const { return has_head_; }
  /// True if of all ranks that hold this parameter it is this column's that speaks for it.
  bool speaks_for(const std::string& parameter) const;
  /// The parameters it speaks for.
  std::vector<Parameter> spoken_for() const;

  /// Step `step`'s batch, gradients and losses at zero.
  void begin_step(int step);
  void finish_gradients();
  void update(double learning_rate, double gradient_scale) {
    optimizer_->step(learning_rate, gradient_scale);
  }

  /// A batch of windows `first` … of the held-out part, and its losses' sum once it has run, each
  /// micro-batch's mean times its scored rows.
  void begin_validation(std::size_t first, std::size_t windows);
  double validation_sum(std::size_t first, std::size_t windows) const;

 private:
  class ReceivingStage;
  void new_batch();
  void fill_row(const Dataset& source, int microbatch, int row, std::size_t start, bool scored);
  /// The row's number in the whole batch.
  int sequence_of(int microbatch, int row) const;

  const JobPlan& plan_;
  const DataSplit& data_;
  int column_;
  std::shared_ptr<BatchSlot> batch_ = std::make_shared<BatchSlot>();
  std::shared_ptr<LossSink> losses_ = std::make_shared<LossSink>();
  std::shared_ptr<RouterLoads> loads_ = std::make_shared<RouterLoads>();
  ParameterStore store_;
  std::vector<std::unique_ptr<ReceivingStage>> owned_;
  std::vector<Stage*> stages_;
  std::vector<Parameter> parameters_;
  std::unique_ptr<AdamW> optimizer_;
  MemoryAccount* lasting_ = nullptr;
  bool has_embedding_ = false;
  bool has_head_ = false;
};

}  // namespace plait
