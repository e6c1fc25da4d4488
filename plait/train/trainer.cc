#include "plait/train/trainer.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <fmt/format.h>
#include <time.h>

#include <cmath>
#include <cstring>
#include <map>
#include <utility>

#include "plait/base/check.h"
#include "plait/nn/batch.h"
#include "plait/nn/model.h"
#include "plait/nn/model_folder.h"
#include "plait/runtime/torch/memory.h"
#include "plait/runtime/torch/tensors.h"
#include "plait/runtime/torch/torch_stage.h"
#include "plait/train/adamw.h"

namespace plait {
namespace {

Nanoseconds thread_cpu_time() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<Nanoseconds>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

/// Targets that cross-entropy leaves out.
constexpr std::int64_t kIgnored = -100;

/// Charges what another rank hands over to the receiver's buffers: received bytes are nobody's
/// activations.
class ReceivingStage final : public Stage {
 public:
  ReceivingStage(std::unique_ptr<TorchStage> stage, MemoryAccount& buffers)
      : stage_(std::move(stage)), buffers_(buffers) {}

  Expected<ForwardResult> forward(int microbatch, Value input, bool for_backward) override {
    return stage_->forward(microbatch, received(std::move(input)), for_backward);
  }
  Expected<BackwardInputResult> backward_input(int microbatch, Value saved,
                                               Value output_gradient) override {
    return stage_->backward_input(microbatch, std::move(saved),
                                  received(std::move(output_gradient)));
  }
  Expected<void> backward_weight(int microbatch, Value saved_for_weight) override {
    return stage_->backward_weight(microbatch, std::move(saved_for_weight));
  }
  Expected<Value> backward(int microbatch, Value saved, Value output_gradient) override {
    return stage_->backward(microbatch, std::move(saved), received(std::move(output_gradient)));
  }

 private:
  Value received(Value value) {
    if (value) {
      for (const at::Tensor& tensor : static_cast<const Tensors&>(*value).tensors)
        recharge(tensor, buffers_);
    }
    return value;
  }

  std::unique_ptr<TorchStage> stage_;
  MemoryAccount& buffers_;
};

/// What the two trainers share: the tensors, the batches and what follows a step.
class TrainerBase : public RankTrainer {
 public:
  TrainerBase(const JobPlan& plan, const DataSplit& data, Exchange& exchange)
      : plan_(plan), data_(data), exchange_(exchange) {}

  Expected<void> build(const std::vector<int>& stages) {
    install_counting_allocator();
    const ScopedAccount scope(lasting_);
    stages_.resize(static_cast<std::size_t>(plan_.stages()));
    for (const int stage : stages) {
      const StagePart& part = plan_.parts[static_cast<std::size_t>(stage)];
      PLAIT_TRY(std::vector<std::shared_ptr<Segment>> segments,
                make_model_segments(plan_.job.model, part, batch_, plan_.job.run.seed,
                                    plan_.job.data.sequence_length, store_));
      has_embedding_ = has_embedding_ || part.embedding;
      has_head_ = has_head_ || part.head;
      owned_.push_back(std::make_unique<ReceivingStage>(
          std::make_unique<TorchStage>(std::move(segments), part.head ? losses_ : nullptr),
          lasting_));
      stages_[static_cast<std::size_t>(stage)] = owned_.back().get();
    }
    if (!plan_.job.model.init.empty())
      PLAIT_TRY_VOID(load_parameters(plan_.job.model.init, plan_.job.model, store_));
    store_.allocate_gradients();
    parameters_ = store_.parameters();
    optimizer_ = std::make_unique<AdamW>(parameters_, plan_.job.optimizer);
    return {};
  }

  Expected<StepOutcome> step(int step, int stop_signal) override {
    const Nanoseconds begin = now();
    const Nanoseconds cpu_begin = thread_cpu_time();
    at::set_num_threads(plan_.job.run.threads);
    fill_batch(step);
    store_.zero_gradients();
    activations_.reset_peak();
    losses_->reset(plan_.microbatches());
    RankReport report;
    {
      const ScopedAccount scope(activations_);
      if (Expected<void> ran = run_training(report); !ran)
        return at_step(std::move(ran).error(), step);
    }
    finish_gradients();
    report.square_sums = square_sums(parameters_);
    if (has_head_) report.losses = losses_->losses();
    report.peak_activation_bytes = activations_.peak();
    report.cpu_ns = thread_cpu_time() - cpu_begin;
    report.stop_signal = stop_signal;
    PLAIT_TRY(const std::vector<RankReport> reports, gather_reports(report));
    PLAIT_TRY(StepOutcome outcome, conclude(step, reports));
    outcome.line.step_ns = now() - begin;
    return outcome;
  }

  Expected<ValidationLine> validate(int steps_done) override {
    const auto length = static_cast<std::size_t>(plan_.job.data.sequence_length);
    const std::size_t windows = (data_.validation.size() - 1) / length;
    const auto batch_size = static_cast<std::size_t>(plan_.job.run.batch_size);
    const auto sequences = static_cast<std::size_t>(plan_.sequences());
    double sum = 0;
    for (std::size_t first = 0; first < windows; first += batch_size) {
      fill_validation(first, windows);
      losses_->reset(plan_.microbatches());
      PLAIT_TRY_VOID(run_validation());
      for (std::size_t mb = 0; mb < static_cast<std::size_t>(plan_.microbatches()) && has_head_;
           ++mb) {
        const std::size_t begin = std::min(first + mb * sequences, windows);
        const std::size_t scored = std::min(begin + sequences, windows) - begin;
        if (scored > 0) sum += losses_->losses()[mb] * static_cast<double>(scored);
      }
    }
    RankReport report;
    report.losses = {sum};
    PLAIT_TRY(const std::vector<RankReport> reports, gather_reports(report));
    ValidationLine line;
    line.tokens_are_bytes = plan_.job.data.format == "bytes";
    line.step = steps_done;
    line.tokens = static_cast<std::int64_t>(windows * length);
    double total = 0;
    for (const RankReport& one : reports) total += one.losses.front();
    line.loss = total / static_cast<double>(windows);
    return line;
  }

  Expected<std::vector<Parameter>> gather(bool gradients) override {
    std::vector<Parameter> all;
    for (const auto& [name, shape] : parameter_shapes(plan_.job.model)) {
      const at::Tensor mine = store_.contains(name) ? store_.find(name) : at::Tensor();
      const at::Tensor tensor = mine.defined() && gradients ? mine.grad() : mine;
      std::string_view bytes;
      if (tensor.defined())
        bytes = {static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes()};
      PLAIT_TRY(const std::vector<std::string> gathered, exchange_.all_gather(bytes));
      if (exchange_.rank() != 0) continue;
      at::Tensor whole = at::empty(shape, at::kFloat);
      bool found = false;
      for (const std::string& part : gathered) {
        if (part.empty()) continue;
        PLAIT_CHECK(part.size() == whole.nbytes(), "every rank knows the shapes");
        std::memcpy(whole.mutable_data_ptr(), part.data(), part.size());
        found = true;
      }
      PLAIT_CHECK(found, "every parameter lies on a rank");
      all.push_back({name, std::move(whole)});
    }
    return all;
  }

 protected:
  /// Runs the step and fills in times and counts.
  virtual Expected<void> run_training(RankReport& report) = 0;
  virtual Expected<void> run_validation() = 0;
  virtual Timeline timeline_of(const std::vector<RankReport>& reports) const = 0;

  const JobPlan& plan_;
  const DataSplit& data_;
  Exchange& exchange_;
  MemoryAccount lasting_;       // parameters, gradients, optimiser, received and batch
  MemoryAccount activations_;   // what a step makes
  std::vector<Stage*> stages_;  // by stage; null for those of other ranks

 private:
  static tl::unexpected<Error> at_step(Error error, int step) {
    error.message = fmt::format("step {}: {}", step + 1, error.message);
    return tl::unexpected<Error>(std::move(error));
  }

  void new_batch() {
    const ScopedAccount scope(lasting_);
    const std::int64_t length = plan_.job.data.sequence_length;
    batch_->batch.tokens.clear();
    batch_->batch.targets.clear();
    for (int mb = 0; mb < plan_.microbatches(); ++mb) {
      batch_->batch.tokens.push_back(at::empty({plan_.sequences(), length}, at::kLong));
      batch_->batch.targets.push_back(at::empty({plan_.sequences(), length}, at::kLong));
    }
  }

  /// Row `sequence` of the whole batch from position `start` of `source`.
  void fill_row(const Dataset& source, int sequence, std::size_t start, bool scored) {
    const std::int64_t length = plan_.job.data.sequence_length;
    const auto mb = static_cast<std::size_t>(sequence / plan_.sequences());
    const std::int64_t row = sequence % plan_.sequences();
    auto* tokens = batch_->batch.tokens[mb].mutable_data_ptr<std::int64_t>() + row * length;
    auto* targets = batch_->batch.targets[mb].mutable_data_ptr<std::int64_t>() + row * length;
    for (std::int64_t i = 0; i < length; ++i) {
      tokens[i] = source.at(start + static_cast<std::size_t>(i));
      targets[i] = scored ? source.at(start + static_cast<std::size_t>(i) + 1) : kIgnored;
    }
  }

  void fill_batch(int step) {
    new_batch();
    if (!has_embedding_ && !has_head_) return;
    const auto length = static_cast<std::size_t>(plan_.job.data.sequence_length);
    const std::vector<std::size_t> starts = sample_starts(
        plan_.job.run.seed, step, plan_.job.run.batch_size, data_.training.size() - length);
    for (int sequence = 0; sequence < plan_.job.run.batch_size; ++sequence) {
      fill_row(data_.training, sequence, starts[static_cast<std::size_t>(sequence)], true);
    }
  }

  /// Windows `first` … of the held-out part. Past the last window, rows of a micro-batch that has
  /// scored rows are left out of its mean; a micro-batch without any is scored and not counted.
  void fill_validation(std::size_t first, std::size_t windows) {
    new_batch();
    const auto length = static_cast<std::size_t>(plan_.job.data.sequence_length);
    const auto sequences = static_cast<std::size_t>(plan_.sequences());
    for (int sequence = 0; sequence < plan_.job.run.batch_size; ++sequence) {
      const std::size_t window = first + static_cast<std::size_t>(sequence);
      const std::size_t microbatch_begin =
          first + static_cast<std::size_t>(sequence) / sequences * sequences;
      const bool real = window < windows;
      fill_row(data_.validation, sequence, real ? window * length : 0,
               real || microbatch_begin >= windows);
    }
  }

  void finish_gradients() {
    store_.add_alias_gradients();
    for (const Parameter& parameter : parameters_)
      parameter.tensor.mutable_grad().div_(plan_.microbatches());
  }

  Expected<std::vector<RankReport>> gather_reports(const RankReport& mine) {
    PLAIT_TRY(const std::vector<std::string> packed, exchange_.all_gather(mine.pack()));
    std::vector<RankReport> reports;
    for (const std::string& one : packed) {
      PLAIT_TRY(RankReport report, RankReport::unpack(one));
      reports.push_back(std::move(report));
    }
    return reports;
  }

  /// Everything that is the same on all ranks, then the optimiser.
  Expected<StepOutcome> conclude(int step, const std::vector<RankReport>& reports) {
    StepOutcome outcome;
    StepLine& line = outcome.line;
    line.step = step + 1;
    line.tokens =
        static_cast<std::int64_t>(plan_.job.run.batch_size) * plan_.job.data.sequence_length;
    line.learning_rate = learning_rate(plan_.job.optimizer, step, plan_.job.run.steps);
    std::vector<std::pair<std::string, double>> sums;
    for (const RankReport& report : reports) {
      sums.insert(sums.end(), report.square_sums.begin(), report.square_sums.end());
      for (const double loss : report.losses) line.loss += loss;
      line.peak_activation_bytes.push_back(report.peak_activation_bytes);
      line.cpu_ns.push_back(report.cpu_ns);
      line.pairs_in_sequence += report.pairs_in_sequence;
      line.whole_backwards += report.whole_backwards;
      if (outcome.stop_signal == 0) outcome.stop_signal = report.stop_signal;
    }
    line.loss /= plan_.microbatches();
    line.grad_norm = global_norm(std::move(sums));
    if (!std::isfinite(line.grad_norm)) {
      return fail(ErrorCode::kNotFinite,
                  fmt::format("step {}: the gradient's norm is {}", step + 1, line.grad_norm));
    }
    outcome.timeline = timeline_of(reports);
    const StepMetrics metrics = measure(outcome.timeline);
    for (int rank = 0; rank < static_cast<int>(metrics.ranks.size()); ++rank) {
      line.bubble_share.push_back(metrics.bubble_share(rank));
      line.exposed_comm_ns.push_back(metrics.ranks[static_cast<std::size_t>(rank)].exposed_comm_ns);
    }
    const double limit = plan_.job.optimizer.clip_norm;
    const double scale = limit > 0 && line.grad_norm > limit ? limit / line.grad_norm : 1.0;
    optimizer_->step(line.learning_rate, scale);
    return outcome;
  }

  std::shared_ptr<BatchSlot> batch_ = std::make_shared<BatchSlot>();
  std::shared_ptr<LossSink> losses_ = std::make_shared<LossSink>();
  ParameterStore store_;
  std::vector<std::unique_ptr<ReceivingStage>> owned_;
  std::vector<Parameter> parameters_;
  std::unique_ptr<AdamW> optimizer_;
  bool has_embedding_ = false;
  bool has_head_ = false;
};

class PipelineTrainer final : public TrainerBase {
 public:
  PipelineTrainer(const JobPlan& plan, const DataSplit& data, int rank, Exchange& exchange)
      : TrainerBase(plan, data, exchange), rank_(static_cast<std::size_t>(rank)) {}

  Expected<void> build_executors(Comm& comm) {
    PLAIT_TRY_VOID(build(plan_.placement().stages_of(static_cast<int>(rank_))));
    training_ = std::make_unique<Executor>(plan_.training_programs[rank_], stages_, comm);
    validation_ = std::make_unique<Executor>(plan_.validation_programs[rank_], stages_, comm);
    return {};
  }
  std::vector<Executor*> executors() override { return {training_.get(), validation_.get()}; }
  void set_watchdog(Watchdog* watchdog) override { watchdog_ = watchdog; }

 private:
  Expected<void> run(Executor& executor) {
    if (watchdog_ != nullptr) watchdog_->enter_step();
    Expected<void> result = run_step(executor, Threads::kOnePerRank);
    if (watchdog_ != nullptr) watchdog_->leave_step();
    return result;
  }
  Expected<void> run_training(RankReport& report) override {
    PLAIT_TRY_VOID(run(*training_));
    report.times = training_->times();
    report.pairs_in_sequence = training_->counts().pairs_in_sequence;
    report.whole_backwards = training_->counts().whole_backwards;
    return {};
  }
  Expected<void> run_validation() override { return run(*validation_); }
  Timeline timeline_of(const std::vector<RankReport>& reports) const override {
    std::vector<std::vector<std::array<Nanoseconds, 2>>> times;
    for (const RankReport& report : reports) times.push_back(report.times);
    return make_timeline(plan_.training_programs, times);
  }

  std::size_t rank_;
  std::unique_ptr<Executor> training_;
  std::unique_ptr<Executor> validation_;
  Watchdog* watchdog_ = nullptr;
};

class ReferenceTrainer final : public TrainerBase {
 public:
  using TrainerBase::TrainerBase;
  std::vector<Executor*> executors() override { return {}; }
  void set_watchdog(Watchdog*) override {}

 private:
  Expected<void> run_training(RankReport&) override {
    for (int mb = 0; mb < plan_.microbatches(); ++mb) {
      std::vector<Value> saved;
      Value value;
      for (Stage* stage : stages_) {
        PLAIT_TRY(ForwardResult result, stage->forward(mb, std::move(value), true));
        value = std::move(result.output);
        saved.push_back(std::move(result.saved));
      }
      for (std::size_t stage = stages_.size(); stage-- > 0;) {
        PLAIT_TRY(value, stages_[stage]->backward(mb, std::move(saved[stage]), std::move(value)));
      }
    }
    return {};
  }
  Expected<void> run_validation() override {
    for (int mb = 0; mb < plan_.microbatches(); ++mb) {
      Value value;
      for (Stage* stage : stages_) {
        PLAIT_TRY(ForwardResult result, stage->forward(mb, std::move(value), false));
        value = std::move(result.output);
      }
    }
    return {};
  }
  Timeline timeline_of(const std::vector<RankReport>&) const override { return {}; }
};

}  // namespace

Expected<std::unique_ptr<RankTrainer>> make_pipeline_trainer(const JobPlan& plan,
                                                             const DataSplit& data, int rank,
                                                             Comm& comm, Exchange& exchange) {
  auto trainer = std::make_unique<PipelineTrainer>(plan, data, rank, exchange);
  PLAIT_TRY_VOID(trainer->build_executors(comm));
  return trainer;
}

Expected<std::unique_ptr<RankTrainer>> make_reference_trainer(const JobPlan& plan,
                                                              const DataSplit& data,
                                                              Exchange& exchange) {
  auto trainer = std::make_unique<ReferenceTrainer>(plan, data, exchange);
  std::vector<int> stages;
  for (int stage = 0; stage < plan.stages(); ++stage) stages.push_back(stage);
  PLAIT_TRY_VOID(trainer->build(stages));
  return trainer;
}

}  // namespace plait
