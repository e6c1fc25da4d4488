#include "plait/train/run_recorder.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "plait/base/numbers_of.h"
#include "plait/checkpoint/model_folder.h"
#include "plait/checkpoint/safetensors.h"
#include "plait/draw/svg.h"
#include "plait/nn/model.h"

namespace plait {

static_assert(std::find(kRunFolderEntries.begin(), kRunFolderEntries.end(),
                        std::string_view(kRunCosts)) != kRunFolderEntries.end());

namespace {

/// Of model.safetensors with its header, and of config.json.
Bytes model_bytes(const ModelConfig& model) {
  constexpr Bytes kOfNames = 512, kOfConfig = 16384;
  Bytes bytes = kOfConfig;
  for (const auto& [name, shape] : parameter_shapes(model)) {
    bytes += static_cast<Bytes>(sizeof(float)) * numbers_of(shape) + kOfNames;
  }
  return bytes;
}

}  // namespace

RunRecorder::RunRecorder(RecordedRun run, const Options& options)
    : run_(std::move(run)), options_(options), profile_(run_.placement, run_.message_bytes) {
  options_.fits_costs = options_.fits_costs && run_.has_whole_actions;
}

Expected<void> RunRecorder::begin() {
  Recorder::Options options;
  options.folder = run_.folder;
  options.existing = options_.existing;
  options.steps = run_.steps;
  options.metrics = options_.metrics;
  options.timeline_step = options_.timeline_step;
  options.on_warning = options_.on_warning;
  options.room = model_bytes(run_.model) * (options_.gradients ? 2 : 1);
  PLAIT_TRY(Recorder recorder, Recorder::begin(options, run_.job));
  recorder_.emplace(std::move(recorder));
  return {};
}

void RunRecorder::step(const StepOutcome& outcome) {
  recorder_->step(outcome);
  if (outcome.line.step == options_.timeline_step) {
    const std::string title = fmt::format("{}, step {}", run_.folder, outcome.line.step);
    recorder_->write_to_look_at("timeline.svg", draw_svg(outcome.timeline, {title}));
  }
  if (options_.fits_costs && outcome.line.step > kWarmUp) {
    profile_.add(outcome.timeline);
    ++profiled_steps_;
  }
}

void RunRecorder::trained() {
  write_costs();
  recorder_->give_back_room();
}

// A schedule that never runs F, I and W of a stage by themselves has no cost file.
void RunRecorder::write_costs() {
  if (profiled_steps_ == 0) return;
  const Expected<std::string> costs = print_profile(run_.costs, profile_, profiled_steps_);
  if (costs) recorder_->write_result(kRunCosts, *costs);
}

std::unique_ptr<TensorSink> RunRecorder::model_sink() const {
  return std::make_unique<ModelFolderSink>(file("model"), run_.model, run_.max_sequence);
}

std::unique_ptr<TensorSink> RunRecorder::gradient_sink() const {
  return std::make_unique<SafetensorsSink>(file("gradients.safetensors"),
                                           std::map<std::string, std::string>{{"format", "pt"}});
}

}  // namespace plait
