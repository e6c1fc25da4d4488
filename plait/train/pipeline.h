/// Trains a model of the caller's own under any schedule; the ranks are threads of this process.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/timeline/timeline.h"
#include "plait/torch/segment.h"

namespace plait {

/// What one stage runs, in order: a whole module as one segment, or its parts.
using StageSegments = std::vector<std::shared_ptr<Segment>>;

struct PipelineOptions {
  int ranks = 2;
  int microbatches = 8;
  std::string schedule = "dualpipe-v";  ///< a name of `plait list`, or a file
  /// Last words ("mlp" of "2.mlp") of the names of segments that keep only their inputs and run
  /// again before their backward.
  std::set<std::string> recompute{};
};

/// Not thread-safe. A step that failed ends it: later ones return the same error.
class Pipeline {
 public:
  /// Of one micro-batch: a scalar.
  using Loss = std::function<at::Tensor(const at::Tensor& output, const at::Tensor& target)>;

  /// The first stage's first segment gets the micro-batch; what the last one returns first goes to
  /// `loss`. Errors (kInvalidInput): a schedule that cannot be made or proven, another number of
  /// stages than it has, a stage without segments, a parameter that two stages hold.
  static Expected<std::unique_ptr<Pipeline>> make(std::vector<StageSegments> stages, Loss loss,
                                                  const PipelineOptions& options);
  ~Pipeline();

  /// Inputs and targets by micro-batch. The mean of the losses; its gradients are in the
  /// parameters' .grad afterwards. Errors: those of segments and of the loss, with their names.
  Expected<double> step(std::vector<at::Tensor> inputs, std::vector<at::Tensor> targets);

  /// Of all stages, in order.
  std::vector<at::Tensor> parameters() const;
  /// What was proven, in a line.
  std::string summary() const;
  /// Of the last step.
  Timeline timeline() const;

 private:
  struct State;
  explicit Pipeline(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace plait
