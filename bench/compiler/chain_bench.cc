/// The whole chain, a schedule made, lowered, proven and priced, and what each link of it costs per
/// action: for a schedule of usual size, over sizes from 10^4 to 10^8 actions, and at the largest
/// that this machine is asked to hold. One thread, whose CPU time (user and system) is counted.
/// Peak memory is the process's (VmHWM), reset before each.
#include <benchmark/benchmark.h>
#include <time.h>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "plait/base/check.h"
#include "plait/base/units.h"
#include "plait/ir/forms/csv.h"
#include "plait/passes/insert_comm.h"
#include "plait/passes/limit_sends.h"
#include "plait/passes/passes.h"
#include "plait/schedule/generators.h"
#include "plait/sim/simulate.h"
#include "plait/verify/verify.h"

namespace plait {
namespace {

void reset_peak_memory() { std::ofstream("/proc/self/clear_refs") << "5"; }

double peak_memory_gib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    long kib = 0;
    if (std::sscanf(line.c_str(), "VmHWM: %ld kB", &kib) == 1)
      return static_cast<double>(kib) / (1 << 20);
  }
  return 0;
}

Nanoseconds cpu_time() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return std::int64_t{1'000'000'000} * time.tv_sec + time.tv_nsec;
}

/// The CPU time of each link of the chain, summed over the benchmark's iterations, and the actions
/// of the schedule as it came out of lowering.
class ChainTimes {
 public:
  void begin() { at_ = cpu_time(); }
  void lap(const char* link) {
    const Nanoseconds end = cpu_time();
    sums_[link] += end - at_;
    at_ = end;
  }
  void count(const Schedule& schedule) {
    actions_ = 0;
    for (const auto& list : schedule.ranks) actions_ += list.size();
  }
  void report(benchmark::State& state) const {
    state.counters["actions"] = static_cast<double>(actions_);
    for (const auto& [link, sum] : sums_) {
      state.counters[link + "_ns"] = static_cast<double>(sum) /
                                     static_cast<double>(state.iterations()) /
                                     static_cast<double>(actions_);
    }
    state.counters["peak_gib"] = peak_memory_gib();
  }

 private:
  std::map<std::string, Nanoseconds> sums_;
  Nanoseconds at_ = 0;
  std::size_t actions_ = 0;
};

Prediction price(const VerifiedSchedule& verified) {
  Expected<Prediction> price = simulate(verified, unit_cost_model(verified.placement().stages()));
  PLAIT_CHECK(price.has_value(), "unit costs are legal");
  return *std::move(price);
}

/// Without passes the schedule is proven and priced compute-only.
void run_chain(benchmark::State& state, const char* name, const ScheduleShape& shape,
               std::string_view passes) {
  reset_peak_memory();
  ChainTimes times;
  for ([[maybe_unused]] const auto step : state) {
    times.begin();
    Expected<Schedule> schedule = generate(name, shape);
    times.lap("generate");
    PLAIT_CHECK(schedule.has_value(), "the shape is legal");
    if (!passes.empty()) schedule = run_passes(passes, *std::move(schedule));
    times.lap("lower");
    PLAIT_CHECK(schedule.has_value(), "a generated schedule can be lowered");
    times.count(*schedule);
    times.begin();
    const auto verified = verify(*std::move(schedule));
    times.lap("verify");
    PLAIT_CHECK(verified.has_value(), "a generated schedule is proven");
    benchmark::DoNotOptimize(price(*verified).makespan_ns);
    times.lap("simulate");
  }
  times.report(state);
}

/// R = 64, M = 128, V = 4: torch takes 1.9 s to lower it and 8 s to simulate it.
void interleaved_r64_m128_v4(benchmark::State& state) {
  run_chain(state, "interleaved-1f1b", {64, 128, 4}, kLoweringPasses);
}
BENCHMARK(interleaved_r64_m128_v4)->Unit(benchmark::kMillisecond);

/// torch takes 18 s to lower it.
void dualpipe_v_r64_m640(benchmark::State& state) {
  run_chain(state, "dualpipe-v", {64, 640, 2}, kLoweringPasses);
}
BENCHMARK(dualpipe_v_r64_m640)->Unit(benchmark::kMillisecond);

/// At most N sends of a rank outstanding. R = 16, M = 160, N = 4: torch 2.15 does not end within
/// four minutes.
void limit_sends_dualpipe_v_r16_m160(benchmark::State& state) {
  const Schedule schedule =
      *run_passes(kLoweringPassesWithWaits, *generate("dualpipe-v", {16, 160}));
  for ([[maybe_unused]] const auto step : state) {
    const Expected<Schedule> limited = limit_sends(schedule, static_cast<int>(state.range(0)));
    PLAIT_CHECK(limited.has_value(), "one is enough for this order");
    benchmark::DoNotOptimize(limited->ranks.data());
  }
}
BENCHMARK(limit_sends_dualpipe_v_r16_m160)->Arg(1)->Arg(4)->Arg(16)->Unit(benchmark::kMillisecond);

/// The same, and the fewest found.
void fewest_sends_dualpipe_v_r16_m160(benchmark::State& state) {
  const Schedule schedule =
      *run_passes(kLoweringPassesWithWaits, *generate("dualpipe-v", {16, 160}));
  for ([[maybe_unused]] const auto step : state) {
    const Expected<FewestSends> fewest = fewest_outstanding_sends(schedule);
    PLAIT_CHECK(fewest.has_value() && fewest->number == 1, "one is enough for this order");
  }
}
BENCHMARK(fewest_sends_dualpipe_v_r16_m160)->Unit(benchmark::kMillisecond);

/// Over M, each link per action of the schedule with its messages: flat if the chain is linear.
void per_action(benchmark::State& state) {
  reset_peak_memory();
  ChainTimes times;
  for ([[maybe_unused]] const auto step : state) {
    times.begin();
    Expected<Schedule> schedule =
        generate("interleaved-1f1b", {8, static_cast<int>(state.range(0)), 2});
    times.lap("generate");
    schedule = insert_comm(*std::move(schedule));
    times.lap("insert_comm");
    times.count(*schedule);
    times.begin();
    const auto verified = verify(*std::move(schedule));
    times.lap("verify");
    benchmark::DoNotOptimize(price(*verified).makespan_ns);
    times.lap("simulate");
    const std::string text = print_csv(verified->schedule());
    times.lap("write_csv");
    const Expected<Schedule> again = read_csv(text, "bench", {});
    times.lap("read_csv");
    PLAIT_CHECK(again.has_value(), "what was written can be read");
  }
  times.report(state);
}
BENCHMARK(per_action)->Arg(112)->Unit(benchmark::kMillisecond);
BENCHMARK(per_action)
    ->Name("per_action/large")
    ->Arg(1120)
    ->Arg(11200)
    ->Arg(112000)
    ->Arg(1120000)
    ->Unit(benchmark::kMillisecond);

/// 37.7 million cells, 68.7 million actions with the members of pairs; with its messages 203
/// million, and 233.7 million as torch lowers it.
void dualpipe_v_r1024_m16384(benchmark::State& state) {
  constexpr std::string_view kPassesOf[] = {"", "insert-comm", kLoweringPasses};
  run_chain(state, "dualpipe-v", {1024, 16384, 2}, kPassesOf[state.range(0)]);
}
BENCHMARK(dualpipe_v_r1024_m16384)
    ->Name("dualpipe_v_r1024_m16384/large")
    ->ArgName("lowered")
    ->DenseRange(0, 2)
    ->Iterations(1)
    ->Unit(benchmark::kSecond);

}  // namespace
}  // namespace plait
