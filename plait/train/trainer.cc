#include "plait/train/trainer.h"

#include <ATen/Parallel.h>
#include <fmt/core.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "plait/base/check.h"
#include "plait/program/measured_timeline.h"
#include "plait/runtime/clock_alignment.h"
#include "plait/runtime/driver.h"
#include "plait/runtime/reference.h"
#include "plait/torch/device_cuda.h"
#include "plait/train/column_share.h"
#include "plait/train/copies.h"
#include "plait/train/gradient_norm.h"
#include "plait/train/model_stream.h"
#include "plait/train/tensor_slices.h"

namespace plait {
namespace {

Nanoseconds thread_cpu_time() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<Nanoseconds>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

/// Of what the ranks have met; empty: all numbers are finite.
std::string earliest_not_finite(const std::vector<RankReport>& reports, double norm) {
  const NotFinite* first = nullptr;
  for (const RankReport& report : reports) {
    for (const NotFinite& one : report.not_finite)
      if (first == nullptr || one.place() < first->place()) first = &one;
  }
  if (first != nullptr) return first->text();
  return std::isfinite(norm) ? "" : fmt::format("the gradient's norm is {}", norm);
}

/// What the two trainers share: what comes before and after the step's own work.
class TrainerBase : public RankTrainer {
 public:
  TrainerBase(const TrainSetup& setup, int rank, Exchange& exchange)
      : setup_(setup),
        plan_(setup.plan),
        exchange_(exchange),
        place_(setup.settings.gpu ? cuda_place(rank) : at::Device(at::kCPU)) {}

  /// `program`: ColumnShare::build().
  Expected<void> build(const std::vector<int>& columns, const std::vector<int>& stages,
                       const RankProgram* program) {
    install_counting_allocator();
    if (setup_.settings.gpu) {
      PLAIT_TRY(gpu_, make_cuda_device(place_.index(), &probe_));
    }
    const LaneScope lane(gpu_.get(), Lane::kCompute);
    for (const int column : columns) {
      shares_.push_back(std::make_unique<ColumnShare>(setup_, column, place_));
      PLAIT_TRY_VOID(shares_.back()->build(stages, {lasting_, received_, activations_}, program));
    }
    return {};
  }

  Expected<StepOutcome> step(int stop_signal) override {
    const Nanoseconds begin = now();
    const Nanoseconds cpu_begin = thread_cpu_time();
    at::set_num_threads(setup_.settings.threads);
    activations_.reset_peak();
    lasting_.reset_peak();
    RankReport report;
    if (Expected<void> ran = run_rounds(report); !ran) return at_step(std::move(ran).error());
    report.peak_activation_bytes = std::max(report.peak_activation_bytes, activations_.peak());
    {
      const LaneScope lane(gpu_.get(), Lane::kCompute);
      for (const auto& share : shares_) {
        share->finish_gradients();
        for (SquareSums& sums : square_sums(share->slices())) {
          share->finite().look_at_gradient(sums);
          report.square_sums.push_back(std::move(sums));
        }
        if (share->finite().found()) report.not_finite.push_back(*share->finite().found());
      }
    }
    report.peak_state_bytes = lasting_.peak();
    report.cpu_ns = thread_cpu_time() - cpu_begin;
    report.stop_signal = stop_signal;
    report.passage = passage_;
    PLAIT_TRY_VOID(begin_clocks());
    PLAIT_TRY(const std::vector<RankReport> reports, gather_reports(report));
    PLAIT_TRY_VOID(follow_clocks(reports));
    PLAIT_TRY(StepOutcome outcome, conclude(reports));
    ++steps_done_;
    outcome.line.step_ns = now() - begin;
    return outcome;
  }

  int steps_done() const override { return static_cast<int>(steps_done_); }
  MemoryAccount& lasting() override { return lasting_; }
  MemoryAccount& received() override { return received_; }
  std::vector<Parameter> parameters() override {
    std::vector<Parameter> all;
    for (const auto& share : shares_) {
      for (Parameter& parameter : share->store().parameters()) all.push_back(std::move(parameter));
    }
    return all;
  }

  Expected<ValidationLine> validate() override {
    const HeldOut held_out = shares_.front()->model().held_out();
    std::vector<double> sums(shares_.size());
    for (int batch = 0; batch < held_out.batches; ++batch) {
      {
        const LaneScope lane(gpu_.get(), Lane::kCompute);
        for (const auto& share : shares_) share->begin_validation(batch);
      }
      PLAIT_TRY_VOID(run_validation());
      for (std::size_t i = 0; i < sums.size(); ++i) {
        if (!shares_[i]->has_last_stage()) continue;
        sums[i] += shares_[i]->model().validation_sum(batch, shares_[i]->losses().losses());
      }
    }
    RankReport report;
    report.losses = sums;
    PLAIT_TRY(const std::vector<RankReport> reports, gather_reports(report));
    ValidationLine line;
    line.tokens_are_bytes = held_out.tokens_are_bytes;
    line.step = steps_done();
    line.tokens = held_out.tokens;
    double total = 0;
    for (const RankReport& one : reports) {
      for (const double loss : one.losses) total += loss;
    }
    line.loss = total / static_cast<double>(held_out.rows);
    if (std::isfinite(line.loss)) return line;
    return fail(ErrorCode::kNotFinite,
                fmt::format("behind step {}: the validation's loss is {}", line.step, line.loss));
  }

  Expected<void> stream(Saved what, TensorSink* sink) override {
    std::vector<TensorSlice> mine;
    for (const auto& share : shares_) {
      for (const TrainedSlice& slice : share->slices()) {
        if (!slice.speaks) continue;
        mine.push_back(slice.beside(what == Saved::kGradients ? slice.gradient : slice.value));
      }
      if (what == Saved::kGradients) continue;
      for (const Parameter& buffer : share->store().buffers()) {
        if (share->speaks_for(buffer)) mine.push_back(whole_tensor(buffer.name, buffer.tensor));
      }
    }
    const LaneScope lane(gpu_.get(), Lane::kCompute);
    return stream_tensors(exchange_, mine, sink, received_);
  }

  TrainState state() override {
    TrainState state;
    for (const auto& share : shares_) {
      for (StateSlice& slice : share->state()) state.push_back(std::move(slice));
    }
    state.push_back(slice_of("trainer.step", steps_done_));
    // Every rank has the numbers of the run.
    for (StateSlice& slice : state)
      slice.speaks = slice.speaks && (!slice.name.empty() || exchange_.rank() == 0);
    return state;
  }

  Expected<void> check_copies() override {
    std::vector<TensorCopy> mine;
    for (const auto& share : shares_)
      mine.insert(mine.end(), share->copies().begin(), share->copies().end());
    return compare_copies(exchange_, mine);
  }

 protected:
  /// Runs a round; after a step's last one gradients have been added up over columns. Adds counts,
  /// and fills in the round's times.
  virtual Expected<void> run_training(bool last_round, RankReport& report) = 0;
  virtual Expected<void> run_validation() = 0;
  virtual Timeline timeline_of(const std::vector<RankReport>& reports,
                               const std::vector<ClockOffset>& clocks) const = 0;

  class Probe final : public MemoryProbe {
   public:
    explicit Probe(MemoryAccount& account) : account_(account) {}
    Bytes live() const override { return account_.live(); }
    Bytes take_peak() override { return account_.take_peak(); }

   private:
    MemoryAccount& account_;
  };

  const TrainSetup& setup_;
  const TrainPlan& plan_;
  Exchange& exchange_;
  MemoryAccount lasting_;      // parameters, gradients, optimiser
  MemoryAccount received_;     // from other ranks, and the batch
  MemoryAccount activations_;  // what a step makes
  Probe probe_{activations_};
  at::Device place_;
  // Null on the CPU. What a rank does outside of its step's instructions is its compute lane's too.
  std::unique_ptr<Device> gpu_;
  std::vector<std::unique_ptr<ColumnShare>> shares_;  // one per column that this process runs

 private:
  std::optional<ClockAlignment> clocks_;
  Nanoseconds first_clock_error_ = 0;
  std::array<Nanoseconds, 2> passage_{};  // through the last exchange of reports
  std::int64_t steps_done_ = 0;

  tl::unexpected<Error> at_step(Error error) const {
    error.message = fmt::format("step {}: {}", steps_done_ + 1, error.message);
    return tl::unexpected<Error>(std::move(error));
  }

  /// Reports losses by column, then in order of micro-batches through all rounds.
  Expected<void> run_rounds(RankReport& report) {
    std::vector<std::vector<double>> losses(shares_.size());
    for (int round = 0; round < plan_.rounds; ++round) {
      {
        const LaneScope lane(gpu_.get(), Lane::kCompute);
        for (const auto& share : shares_) share->begin_round(steps_done(), round);
      }
      {
        const ScopedAccount scope(activations_);
        PLAIT_TRY_VOID(run_training(round + 1 == plan_.rounds, report));
      }
      for (std::size_t i = 0; i < losses.size(); ++i) {
        ColumnShare& share = *shares_[i];
        add_loads(share.model().loads(), report.router_loads);
        if (!share.has_last_stage()) continue;
        const std::vector<double>& more = share.losses().losses();
        for (std::size_t mb = 0; mb < more.size(); ++mb)
          share.finite().look_at_loss(static_cast<int>(mb), plan_.stages() - 1, more[mb]);
        losses[i].insert(losses[i].end(), more.begin(), more.end());
      }
    }
    for (const std::vector<double>& column : losses)
      report.losses.insert(report.losses.end(), column.begin(), column.end());
    return {};
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
  Expected<StepOutcome> conclude(const std::vector<RankReport>& reports) {
    const TrainSettings& settings = setup_.settings;
    StepOutcome outcome;
    StepLine& line = outcome.line;
    line.step = steps_done() + 1;
    line.tokens = settings.tokens_per_step;
    line.learning_rate = settings.learning_rate(steps_done());
    std::vector<SquareSums> sums;
    LayerLoads loads;
    for (const RankReport& report : reports) {
      sums.insert(sums.end(), report.square_sums.begin(), report.square_sums.end());
      for (const double loss : report.losses) line.loss += loss;
      add_loads(report.router_loads, loads);
      if (outcome.stop_signal == 0) outcome.stop_signal = report.stop_signal;
    }
    line.loss /= plan_.losses();
    line.grad_norm = global_norm(std::move(sums));
    const std::string not_finite = earliest_not_finite(reports, line.grad_norm);
    if (!not_finite.empty() && !settings.skips_not_finite)
      return fail(ErrorCode::kNotFinite, fmt::format("step {}: {}", line.step, not_finite));
    outcome.timeline = timeline_of(
        reports, clocks_->is_one_clock() ? std::vector<ClockOffset>{} : clocks_->offsets());
    outcome.timeline.step = line.step;
    fill_step_line(reports, measure(outcome.timeline), line);
    for (const ClockOffset& clock : clocks_->offsets()) line.clock_error_ns.push_back(clock.error);
    if (!not_finite.empty()) {
      line.skipped = 1;
      outcome.skipped_for = not_finite;
      return outcome;
    }
    const double limit = settings.clip_norm;
    const double scale = limit > 0 && line.grad_norm > limit ? limit / line.grad_norm : 1.0;
    const LaneScope lane(gpu_.get(), Lane::kCompute);
    for (const auto& share : shares_) {
      share->update(line.learning_rate, scale);
      share->model().end_step(loads, share->store());
    }
    return outcome;
  }
};

class PipelineTrainer final : public TrainerBase {
 public:
  PipelineTrainer(const TrainSetup& setup, int rank, Comm& comm, Exchange& exchange)
      : TrainerBase(setup, rank, exchange),
        rank_(rank),
        comm_(comm),
        measured_(setup.plan.training_programs, setup.plan.grid()) {}

  Expected<void> build_executors() {
    const Grid grid = plan_.grid();
    const int pipeline_rank = grid.pipeline_of(rank_), column = grid.column_of(rank_);
    const auto of_rank = [&](const std::vector<RankProgram>& programs) -> const RankProgram& {
      return programs[static_cast<std::size_t>(pipeline_rank)];
    };
    PLAIT_TRY_VOID(build({column}, plan_.placement().stages_of(pipeline_rank),
                         &of_rank(plan_.training_programs)));
    if (gpu_) comm_.use(*gpu_);
    const auto executor = [&](const std::vector<RankProgram>& programs, Device& device) {
      const RankProgram& program = of_rank(programs);
      reducers_.push_back(shares_.front()->make_reducer(program));
      return std::make_unique<Executor>(program, shares_.front()->stages(), comm_,
                                        Column{grid.columns(), column}, reducers_.back().get(),
                                        &device);
    };
    Device& counting = gpu_ ? *gpu_ : counting_device_;
    training_ = executor(plan_.training_programs, counting);
    if (plan_.rounds > 1) accumulating_ = executor(plan_.accumulating_programs, counting);
    validation_ = executor(plan_.validation_programs, gpu_ ? *gpu_ : device_);
    if (plan_.has_exchanges()) {
      wait_ = Wait::kSleep;
      chaining_ = Chaining::kOnCompletion;
    }
    return {};
  }
  std::vector<Executor*> executors() override {
    std::vector<Executor*> all{training_.get(), validation_.get()};
    if (accumulating_) all.push_back(accumulating_.get());
    return all;
  }
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
  Expected<void> run_training(bool last_round, RankReport& report) override {
    Executor& executor = last_round ? *training_ : *accumulating_;
    PLAIT_TRY_VOID(watched([&] { return run_step(executor, wait_, chaining_); }));
    shares_.front()->end_run();
    report.peak_activation_bytes = std::max(report.peak_activation_bytes, executor.peak_memory());
    report.pairs_braided += executor.counts().pairs_braided;
    report.pairs_in_sequence += executor.counts().pairs_in_sequence;
    report.whole_backwards += executor.counts().whole_backwards;
    if (!last_round) return {};
    if (plan_.grid().columns() == 1) {
      const LaneScope lane(gpu_.get(), Lane::kCompute);
      shares_.front()->store().add_alias_gradients();
    }
    report.times = executor.times();
    report.memory = executor.memory();
    return {};
  }
  Expected<void> run_validation() override {
    PLAIT_TRY_VOID(watched([&] { return run_step(*validation_, wait_, chaining_); }));
    shares_.front()->end_run();
    return {};
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

  int rank_;
  Comm& comm_;
  MeasuredTimeline measured_;
  CpuDevice counting_device_{&probe_};
  CpuDevice device_;
  std::vector<std::unique_ptr<Reducer>> reducers_;  // of the executors; null without replicas
  std::unique_ptr<Executor> training_;
  std::unique_ptr<Executor> accumulating_;  // where a step has several rounds
  std::unique_ptr<Executor> validation_;
  Wait wait_ = Wait::kSpin;
  Chaining chaining_ = Chaining::kOwnThread;
  Watchdog* watchdog_ = nullptr;
};

/// All columns side by side in the calling thread.
class ReferenceTrainer final : public TrainerBase {
 public:
  ReferenceTrainer(const TrainSetup& setup, Exchange& exchange)
      : TrainerBase(setup, /*rank=*/0, exchange) {}
  std::vector<Executor*> executors() override { return {}; }
  void set_watchdog(Watchdog*) override {}

 private:
  Expected<void> run(bool for_backward) {
    const LaneScope lane(gpu_.get(), Lane::kCompute);
    SideBySide model{{}, plan_.shapes, plan_.expert};
    for (const auto& share : shares_) model.columns.push_back(share->stages());
    for (int mb = 0; mb < plan_.microbatches(); ++mb)
      PLAIT_TRY_VOID(run_side_by_side(model, mb, for_backward));
    for (const auto& column : model.columns) {
      for (Stage* stage : column) PLAIT_TRY_VOID(stage->end_step());
    }
    return {};
  }
  Expected<void> run_training(bool last_round, RankReport&) override {
    PLAIT_TRY_VOID(run(/*for_backward=*/true));
    if (!last_round) return {};
    const LaneScope lane(gpu_.get(), Lane::kCompute);
    for (const auto& share : shares_) share->store().add_alias_gradients();
    add_gradients();
    return {};
  }
  Expected<void> run_validation() override { return run(/*for_backward=*/false); }

  /// Over the columns that hold a parameter, in ascending order.
  void add_gradients() {
    if (shares_.size() == 1) return;
    for (const auto& first : shares_) {
      for (const Parameter& parameter : first->spoken_for()) {
        at::Tensor sum = parameter.tensor.grad().clone();
        std::vector<at::Tensor> others;
        for (const auto& share : shares_) {
          if (share == first || !share->store().contains(parameter.name)) continue;
          others.push_back(share->store().find(parameter.name).grad());
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

Expected<std::unique_ptr<RankTrainer>> make_pipeline_trainer(const TrainSetup& setup, int rank,
                                                             Comm& comm, Exchange& exchange) {
  auto trainer = std::make_unique<PipelineTrainer>(setup, rank, comm, exchange);
  PLAIT_TRY_VOID(trainer->build_executors());
  return trainer;
}

Expected<std::unique_ptr<RankTrainer>> make_reference_trainer(const TrainSetup& setup,
                                                              Exchange& exchange) {
  auto trainer = std::make_unique<ReferenceTrainer>(setup, exchange);
  std::vector<int> stages, columns;
  for (int stage = 0; stage < setup.plan.stages(); ++stage) stages.push_back(stage);
  for (int column = 0; column < setup.plan.grid().columns(); ++column) columns.push_back(column);
  PLAIT_TRY_VOID(trainer->build(columns, stages, nullptr));
  return trainer;
}

}  // namespace plait
