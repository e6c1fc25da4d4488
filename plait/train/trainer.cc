#include "plait/train/trainer.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <fmt/core.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

#include "plait/base/check.h"
#include "plait/nn/model.h"
#include "plait/program/measured_timeline.h"
#include "plait/runtime/clock_alignment.h"
#include "plait/runtime/driver.h"
#include "plait/runtime/reference.h"
#include "plait/train/reduce.h"
#include "plait/train/shard.h"

namespace plait {
namespace {

Nanoseconds thread_cpu_time() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<Nanoseconds>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

/// What the two trainers share: what comes before and after the step's own work.
class TrainerBase : public RankTrainer {
 public:
  TrainerBase(const JobPlan& plan, const DataSplit& data, Exchange& exchange)
      : plan_(plan), data_(data), exchange_(exchange) {}

  Expected<void> build(const std::vector<int>& columns, const std::vector<int>& stages) {
    install_counting_allocator();
    for (const int column : columns) {
      shards_.push_back(std::make_unique<Shard>(plan_, data_, column));
      PLAIT_TRY_VOID(shards_.back()->build(stages, {lasting_, activations_}));
    }
    return {};
  }

  Expected<StepOutcome> step(int step, int stop_signal) override {
    const Nanoseconds begin = now();
    const Nanoseconds cpu_begin = thread_cpu_time();
    at::set_num_threads(plan_.job.run.threads);
    for (const auto& shard : shards_) shard->begin_step(step);
    activations_.reset_peak();
    RankReport report;
    {
      const ScopedAccount scope(activations_);
      if (Expected<void> ran = run_training(report); !ran)
        return at_step(std::move(ran).error(), step);
    }
    report.peak_activation_bytes = std::max(report.peak_activation_bytes, activations_.peak());
    for (const auto& shard : shards_) report_shard(*shard, report);
    report.cpu_ns = thread_cpu_time() - cpu_begin;
    report.stop_signal = stop_signal;
    report.passage = passage_;
    PLAIT_TRY_VOID(begin_clocks());
    PLAIT_TRY(const std::vector<RankReport> reports, gather_reports(report));
    PLAIT_TRY_VOID(follow_clocks(reports));
    PLAIT_TRY(StepOutcome outcome, conclude(step, reports));
    outcome.line.step_ns = now() - begin;
    return outcome;
  }

  Expected<ValidationLine> validate(int steps_done) override {
    const auto length = static_cast<std::size_t>(plan_.job.data.sequence_length);
    const std::size_t windows = (data_.validation.size() - 1) / length;
    const auto batch_size = static_cast<std::size_t>(plan_.job.run.batch_size);
    std::vector<double> sums(shards_.size());
    for (std::size_t first = 0; first < windows; first += batch_size) {
      for (const auto& shard : shards_) shard->begin_validation(first, windows);
      PLAIT_TRY_VOID(run_validation());
      for (std::size_t i = 0; i < sums.size(); ++i)
        sums[i] += shards_[i]->validation_sum(first, windows);
    }
    RankReport report;
    report.losses = sums;
    PLAIT_TRY(const std::vector<RankReport> reports, gather_reports(report));
    ValidationLine line;
    line.tokens_are_bytes = plan_.job.data.format == "bytes";
    line.step = steps_done;
    line.tokens = static_cast<std::int64_t>(windows * length);
    double total = 0;
    for (const RankReport& one : reports) {
      for (const double loss : one.losses) total += loss;
    }
    line.loss = total / static_cast<double>(windows);
    return line;
  }

  Expected<std::vector<Parameter>> gather(bool gradients) override {
    std::vector<Parameter> all;
    Shapes shapes = parameter_shapes(plan_.job.model);
    if (!gradients) shapes.merge(buffer_shapes(plan_.job.model));
    for (const auto& [name, shape] : shapes) {
      const at::Tensor tensor = find(name, gradients);
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
  /// Runs the step, with gradients added up over columns, and fills in times and counts.
  virtual Expected<void> run_training(RankReport& report) = 0;
  virtual Expected<void> run_validation() = 0;
  virtual Timeline timeline_of(const std::vector<RankReport>& reports,
                               const std::vector<ClockOffset>& clocks) const = 0;

  const JobPlan& plan_;
  const DataSplit& data_;
  Exchange& exchange_;
  MemoryAccount lasting_;      // parameters, gradients, optimiser, received and batch
  MemoryAccount activations_;  // what a step makes
  std::vector<std::unique_ptr<Shard>> shards_;  // one per column that this process runs

 private:
  std::optional<ClockAlignment> clocks_;
  Nanoseconds first_clock_error_ = 0;
  std::array<Nanoseconds, 2> passage_{};  // through the last exchange of reports

  static tl::unexpected<Error> at_step(Error error, int step) {
    error.message = fmt::format("step {}: {}", step + 1, error.message);
    return tl::unexpected<Error>(std::move(error));
  }

  /// The tensor or its gradient if a shard here speaks for it.
  at::Tensor find(const std::string& name, bool gradient) {
    for (const auto& shard : shards_) {
      if (!shard->speaks_for(name) || !shard->store().contains(name)) continue;
      const at::Tensor tensor = shard->store().find(name);
      return gradient ? tensor.grad() : tensor;
    }
    return {};
  }

  static void report_shard(Shard& shard, RankReport& report) {
    shard.finish_gradients();
    std::vector<std::pair<std::string, double>> sums = square_sums(shard.spoken_for());
    report.square_sums.insert(report.square_sums.end(), sums.begin(), sums.end());
    if (shard.has_head()) {
      const std::vector<double>& losses = shard.losses().losses();
      report.losses.insert(report.losses.end(), losses.begin(), losses.end());
    }
    add_loads(shard.loads().sums(), report.router_loads);
  }

  static void add_loads(const LayerLoads& from, LayerLoads& to) {
    for (const auto& [layer, loads] : from) {
      std::vector<std::int64_t>& sums = to[layer];
      sums.resize(loads.size());
      for (std::size_t expert = 0; expert < loads.size(); ++expert) sums[expert] += loads[expert];
    }
  }

  /// Exchanges in a row when clocks are compared.
  static constexpr int kFirstExchanges = 32, kMoreExchanges = 8;

  Expected<void> begin_clocks() {
    if (clocks_) return {};
    PLAIT_TRY(clocks_, name_clocks(exchange_));
    PLAIT_TRY_VOID(align_clocks(exchange_, kFirstExchanges, *clocks_));
    first_clock_error_ = clocks_->worst_error();
    return {};
  }

  /// All ranks hold the same bounds and so decide the same.
  Expected<void> follow_clocks(const std::vector<RankReport>& reports) {
    if (clocks_->is_one_clock()) return {};
    std::vector<std::array<Nanoseconds, 2>> passages;
    for (const RankReport& report : reports) passages.push_back(report.passage);
    if (passages.front()[1] != 0) clocks_->add(passages);
    if (clocks_->worst_error() <= 2 * first_clock_error_) return {};
    return align_clocks(exchange_, kMoreExchanges, *clocks_);
  }

  Expected<std::vector<RankReport>> gather_reports(const RankReport& mine) {
    const std::string bytes = mine.pack();
    passage_[0] = now();
    PLAIT_TRY(const std::vector<std::string> packed, exchange_.all_gather(bytes));
    passage_[1] = now();
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
    LayerLoads loads;
    for (const RankReport& report : reports) {
      sums.insert(sums.end(), report.square_sums.begin(), report.square_sums.end());
      for (const double loss : report.losses) line.loss += loss;
      add_loads(report.router_loads, loads);
      if (outcome.stop_signal == 0) outcome.stop_signal = report.stop_signal;
    }
    line.loss /= plan_.microbatches() * plan_.grid().columns();
    line.grad_norm = global_norm(std::move(sums));
    if (!std::isfinite(line.grad_norm)) {
      return fail(ErrorCode::kNotFinite,
                  fmt::format("step {}: the gradient's norm is {}", step + 1, line.grad_norm));
    }
    outcome.timeline = timeline_of(
        reports, clocks_->is_one_clock() ? std::vector<ClockOffset>{} : clocks_->offsets());
    outcome.timeline.step = line.step;
    fill_step_line(reports, measure(outcome.timeline), line);
    for (const ClockOffset& clock : clocks_->offsets()) line.clock_error_ns.push_back(clock.error);
    const double limit = plan_.job.optimizer.clip_norm;
    const double scale = limit > 0 && line.grad_norm > limit ? limit / line.grad_norm : 1.0;
    for (const auto& shard : shards_) {
      shard->update(line.learning_rate, scale);
      if (plan_.job.model.bias_update_speed > 0)
        update_router_bias(shard->store(), loads, plan_.job.model.bias_update_speed);
    }
    return outcome;
  }
};

class PipelineTrainer final : public TrainerBase {
 public:
  PipelineTrainer(const JobPlan& plan, const DataSplit& data, int rank, Comm& comm,
                  Exchange& exchange)
      : TrainerBase(plan, data, exchange),
        rank_(rank),
        comm_(comm),
        measured_(plan.training_programs, plan.grid()) {}

  Expected<void> build_executors() {
    const Grid grid = plan_.grid();
    const int pipeline_rank = grid.pipeline_of(rank_), column = grid.column_of(rank_);
    PLAIT_TRY_VOID(build({column}, plan_.placement().stages_of(pipeline_rank)));
    const auto executor = [&](const std::vector<RankProgram>& programs, Device& device) {
      return std::make_unique<Executor>(programs[static_cast<std::size_t>(pipeline_rank)],
                                        shards_.front()->stages(), comm_,
                                        Column{grid.columns(), column}, reducer_.get(), &device);
    };
    if (grid.columns() > 1) {
      reducer_ = std::make_unique<GradientReducer>(
          plan_.job.model, plan_.parts, grid, column,
          plan_.training_programs[static_cast<std::size_t>(pipeline_rank)],
          shards_.front()->store(), lasting_);
    }
    training_ = executor(plan_.training_programs, counting_device_);
    validation_ = executor(plan_.validation_programs, device_);
    if (plan_.has_exchanges()) {
      wait_ = Wait::kSleep;
      chaining_ = Chaining::kOnCompletion;
    }
    return {};
  }
  std::vector<Executor*> executors() override { return {training_.get(), validation_.get()}; }
  void set_watchdog(Watchdog* watchdog) override { watchdog_ = watchdog; }

 private:
  /// Under the watchdog's clock.
  template <typename Work>
  Expected<void> watched(const Work& work) {
    if (watchdog_ != nullptr) watchdog_->enter_step();
    Expected<void> result = work();
    if (watchdog_ != nullptr) watchdog_->leave_step();
    return result;
  }
  Expected<void> run_training(RankReport& report) override {
    if (Expected<void> ran = watched([&] { return run_step(*training_, wait_, chaining_); }); !ran)
      return ran;
    if (plan_.grid().columns() == 1) shards_.front()->store().add_alias_gradients();
    report.times = training_->times();
    report.memory = training_->memory();
    report.peak_activation_bytes = training_->peak_memory();
    report.pairs_braided = training_->counts().pairs_braided;
    report.pairs_in_sequence = training_->counts().pairs_in_sequence;
    report.whole_backwards = training_->counts().whole_backwards;
    return {};
  }
  Expected<void> run_validation() override {
    return watched([&] { return run_step(*validation_, wait_, chaining_); });
  }
  Timeline timeline_of(const std::vector<RankReport>& reports,
                       const std::vector<ClockOffset>& clocks) const override {
    std::vector<InstructionTimes> times;
    std::vector<std::vector<EventMemory>> memory;
    for (const RankReport& report : reports) {
      times.push_back(report.times);
      memory.push_back(report.memory);
    }
    Timeline timeline = measured_.make(times, clocks);
    measured_.add_memory(memory, timeline);
    return timeline;
  }

  class Probe final : public MemoryProbe {
   public:
    explicit Probe(MemoryAccount& account) : account_(account) {}
    Bytes live() const override { return account_.live(); }
    Bytes take_peak() override { return account_.take_peak(); }

   private:
    MemoryAccount& account_;
  };

  int rank_;
  Comm& comm_;
  MeasuredTimeline measured_;
  Probe probe_{activations_};
  CpuDevice counting_device_{&probe_};
  CpuDevice device_;
  std::unique_ptr<GradientReducer> reducer_;  // where several columns hold the same parameters
  std::unique_ptr<Executor> training_;
  std::unique_ptr<Executor> validation_;
  Wait wait_ = Wait::kSpin;
  Chaining chaining_ = Chaining::kOwnThread;
  Watchdog* watchdog_ = nullptr;
};

/// All columns side by side in the calling thread.
class ReferenceTrainer final : public TrainerBase {
 public:
  using TrainerBase::TrainerBase;
  std::vector<Executor*> executors() override { return {}; }
  void set_watchdog(Watchdog*) override {}

 private:
  Expected<void> run(bool for_backward) {
    SideBySide model{{}, plan_.shapes, plan_.grid().expert};
    for (const auto& shard : shards_) model.columns.push_back(shard->stages());
    for (int mb = 0; mb < plan_.microbatches(); ++mb)
      PLAIT_TRY_VOID(run_side_by_side(model, mb, for_backward));
    for (const auto& column : model.columns) {
      for (Stage* stage : column) PLAIT_TRY_VOID(stage->end_step());
    }
    return {};
  }
  Expected<void> run_training(RankReport&) override {
    PLAIT_TRY_VOID(run(/*for_backward=*/true));
    for (const auto& shard : shards_) shard->store().add_alias_gradients();
    add_gradients();
    return {};
  }
  Expected<void> run_validation() override { return run(/*for_backward=*/false); }

  /// Over the columns that hold a parameter, in ascending order.
  void add_gradients() {
    if (shards_.size() == 1) return;
    for (const auto& first : shards_) {
      for (const Parameter& parameter : first->spoken_for()) {
        at::Tensor sum = parameter.tensor.grad().clone();
        std::vector<at::Tensor> others;
        for (const auto& shard : shards_) {
          if (shard == first || !shard->store().contains(parameter.name)) continue;
          others.push_back(shard->store().find(parameter.name).grad());
          sum.add_(others.back());
        }
        parameter.tensor.grad().copy_(sum);
        for (at::Tensor& other : others) other.copy_(sum);
      }
    }
  }

  Timeline timeline_of(const std::vector<RankReport>&,
                       const std::vector<ClockOffset>&) const override {
    return {};
  }
};

}  // namespace

Expected<std::unique_ptr<RankTrainer>> make_pipeline_trainer(const JobPlan& plan,
                                                             const DataSplit& data, int rank,
                                                             Comm& comm, Exchange& exchange) {
  auto trainer = std::make_unique<PipelineTrainer>(plan, data, rank, comm, exchange);
  PLAIT_TRY_VOID(trainer->build_executors());
  return trainer;
}

Expected<std::unique_ptr<RankTrainer>> make_reference_trainer(const JobPlan& plan,
                                                              const DataSplit& data,
                                                              Exchange& exchange) {
  auto trainer = std::make_unique<ReferenceTrainer>(plan, data, exchange);
  std::vector<int> stages, columns;
  for (int stage = 0; stage < plan.stages(); ++stage) stages.push_back(stage);
  for (int column = 0; column < plan.grid().columns(); ++column) columns.push_back(column);
  PLAIT_TRY_VOID(trainer->build(columns, stages));
  return trainer;
}

}  // namespace plait
