/// What rank 0 writes of a run: what a Recorder writes, the picture of a step, fitted costs,
/// the model.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "plait/base/error.h"
#include "plait/record/recorder.h"
#include "plait/saved/tensor_sink.h"
#include "plait/sim/profile.h"
#include "plait/train/job_costs.h"

namespace plait {

/// What is recorded of a run beside its steps.
struct RecordedRun {
  std::string folder;
  std::string job;  ///< the text of job.toml
  int steps = 0;
  ModelConfig model;
  std::int64_t max_sequence = 0;
  ProfiledRun costs;
  Placement placement;
  Bytes message_bytes = 0;         ///< of what one stage hands to the next
  bool has_whole_actions = false;  ///< a cost file can hold its stages
};

/// The calls are those of RunHooks, from one thread. A run that took no step leaves nothing behind
/// when its recorder ends. What cannot be written ends no run before its model is there
/// (recorder.h), and from begin() on the disk keeps room for the model.
class RunRecorder {
 public:
  struct Options {
    ExistingFolder existing = ExistingFolder::kRefuse;
    std::string metrics{};  ///< of a run that goes on: the metrics until there
    int timeline_step = 0;  ///< whose timeline is written, as JSON and SVG; 0: none
    /// Told once of each file that cannot be written: the run goes on.
    std::function<void(const Error&)> on_warning{};
    bool gradients = false;  ///< are written at the end too: there is room for them
    bool fits_costs = true;  ///< costs.toml at the end, where a cost file can hold the job's stages
  };

  RunRecorder(RecordedRun run, const Options& options);

  Expected<void> begin();
  void step(const StepOutcome& outcome);
  void validation(const ValidationLine& line) { recorder_->validation(line); }
  /// Of the folder model/, and of gradients.safetensors.
  std::unique_ptr<TensorSink> model_sink() const;
  std::unique_ptr<TensorSink> gradient_sink() const;
  /// Before the sinks are filled.
  void trained();
  /// Errors: the first result of the run that could not be written.
  Expected<void> end() { return recorder_->end(); }

  /// After begin().
  const std::string& folder() const { return recorder_->folder(); }
  std::string file(std::string_view name) const { return recorder_->file(name); }

 private:
  void write_costs();

  RecordedRun run_;
  Options options_;
  CostProfile profile_;
  int profiled_steps_ = 0;
  std::optional<Recorder> recorder_;
};

}  // namespace plait
