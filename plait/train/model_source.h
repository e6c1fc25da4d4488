/// Where the stages of a run come from, and what fills them: a job's model and data, or a user's
/// own.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "plait/base/error.h"
#include "plait/nn/parameter_store.h"
#include "plait/nn/router_loads.h"
#include "plait/torch/segment.h"
#include "plait/train/train_state.h"

namespace plait {

/// What one stage runs, in order: a whole module as one segment, or its parts.
using StageSegments = std::vector<std::shared_ptr<Segment>>;

/// What a run is validated on.
struct HeldOut {
  int batches = 0;
  std::int64_t rows = 0;    ///< over which losses are averaged
  std::int64_t tokens = 0;  ///< for the report
  bool tokens_are_bytes = false;
};

/// One column's model on one rank. Not thread-safe: each rank has its own.
class RankModel {
 public:
  virtual ~RankModel() = default;

  /// The segments of a stage; the first stage's first takes no input, the last stage's last returns
  /// the loss of a micro-batch. Their parameters and buffers go into `store`. Called for the rank's
  /// stages in ascending order. Errors: a stage that cannot be made.
  virtual Expected<StageSegments> make_stage(int stage, ParameterStore& store) = 0;
  /// When all stages are made: fills `store`, where the run starts from what is on disk.
  virtual Expected<void> load(ParameterStore&) { return {}; }

  /// Puts the micro-batches of round `round` of step `step`, both from 0, where the segments find
  /// them.
  virtual void begin_round(int step, int round) = 0;
  /// Rows of each expert in the step that has ended, by layer.
  virtual LayerLoads loads() const { return {}; }
  /// After the optimiser's step. `loads` are those of all ranks.
  virtual void end_step(const LayerLoads&, ParameterStore&) {}
  /// What else the next step depends on.
  virtual TrainState state() { return {}; }

  virtual HeldOut held_out() const { return {}; }
  virtual void begin_validation(int batch) = 0;
  /// Sum over the rows of that batch in this column, of their losses; `losses` are those of the
  /// micro-batches. Asked where the last stage is.
  virtual double validation_sum(int batch, const std::vector<double>& losses) const = 0;
};

class ModelSource {
 public:
  virtual ~ModelSource() = default;
  /// `column` of the grid, `device` of the rank, where batches go. What is made must not outlive
  /// the source.
  virtual std::unique_ptr<RankModel> make_rank(int column, at::Device device) = 0;
};

}  // namespace plait
