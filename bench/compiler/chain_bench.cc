/// The whole chain, a schedule made, lowered, proven and priced, and what each link of it costs per
/// action: for a schedule of usual size, over sizes from 10^4 to 10^8 actions, and at the largest
/// that this machine is asked to hold. One thread. Peak memory is the process's (VmHWM), reset
/// before each.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>
#include <utility>

#include "plait/base/check.h"
#include "plait/base/units.h"
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

struct ChainTimes {
  Nanoseconds generate = 0;
  Nanoseconds lower = 0;
  Nanoseconds verify = 0;
  Nanoseconds simulate = 0;
  std::size_t actions = 0;
};

void add_times(ChainTimes& sum, const char* name, const ScheduleShape& shape, bool lowered) {
  auto lap = [at = now()](Nanoseconds& into) mutable {
    const Nanoseconds end = now();
    into += end - at;
    at = end;
  };
  Expected<Schedule> schedule = generate(name, shape);
  lap(sum.generate);
  PLAIT_CHECK(schedule.has_value(), "the shape is legal");
  if (lowered) {
    schedule = run_passes(kLoweringPasses, *std::move(schedule));
    lap(sum.lower);
    PLAIT_CHECK(schedule.has_value(), "a generated schedule can be lowered");
  }
  sum.actions = 0;
  for (const auto& list : schedule->ranks) sum.actions += list.size();
  const auto verified = verify(*std::move(schedule));
  lap(sum.verify);
  PLAIT_CHECK(verified.has_value(), "a generated schedule is proven");
  const auto price = simulate(*verified, unit_cost_model(verified->placement().stages()));
  lap(sum.simulate);
  PLAIT_CHECK(price.has_value(), "unit costs are legal");
  benchmark::DoNotOptimize(price->makespan_ns);
}

void report(benchmark::State& state, const ChainTimes& sum) {
  const auto per_action = [&](Nanoseconds time) {
    return static_cast<double>(time) / static_cast<double>(state.iterations()) /
           static_cast<double>(sum.actions);
  };
  state.counters["actions"] = static_cast<double>(sum.actions);
  state.counters["generate_ns"] = per_action(sum.generate);
  state.counters["lower_ns"] = per_action(sum.lower);
  state.counters["verify_ns"] = per_action(sum.verify);
  state.counters["simulate_ns"] = per_action(sum.simulate);
  state.counters["peak_gib"] = peak_memory_gib();
}

/// R = 64, M = 128, V = 4: torch takes 1.9 s to lower it and 8 s to simulate it.
void interleaved_r64_m128_v4(benchmark::State& state) {
  reset_peak_memory();
  ChainTimes sum;
  for ([[maybe_unused]] const auto step : state)
    add_times(sum, "interleaved-1f1b", {64, 128, 4}, true);
  report(state, sum);
}
BENCHMARK(interleaved_r64_m128_v4)->Unit(benchmark::kMillisecond);

/// torch takes 18 s to lower it.
void dualpipe_v_r64_m640(benchmark::State& state) {
  reset_peak_memory();
  ChainTimes sum;
  for ([[maybe_unused]] const auto step : state) add_times(sum, "dualpipe-v", {64, 640, 2}, true);
  report(state, sum);
}
BENCHMARK(dualpipe_v_r64_m640)->Unit(benchmark::kMillisecond);

/// Counters are per action of the lowered schedule: flat if the chain is linear.
void interleaved_r8_v2(benchmark::State& state) {
  reset_peak_memory();
  ChainTimes sum;
  const int microbatches = static_cast<int>(state.range(0));
  for ([[maybe_unused]] const auto step : state)
    add_times(sum, "interleaved-1f1b", {8, microbatches, 2}, true);
  report(state, sum);
}
BENCHMARK(interleaved_r8_v2)->Arg(112)->Unit(benchmark::kMillisecond);
BENCHMARK(interleaved_r8_v2)
    ->Name("interleaved_r8_v2/large")
    ->Arg(1120)
    ->Arg(11200)
    ->Arg(112000)
    ->Arg(1120000)
    ->Unit(benchmark::kMillisecond);

/// 37.7 million cells, 68.7 million actions with the members of pairs; lowered, 203 million.
void dualpipe_v_r1024_m16384(benchmark::State& state) {
  reset_peak_memory();
  ChainTimes sum;
  for ([[maybe_unused]] const auto step : state)
    add_times(sum, "dualpipe-v", {1024, 16384, 2}, state.range(0) != 0);
  report(state, sum);
}
BENCHMARK(dualpipe_v_r1024_m16384)
    ->Name("dualpipe_v_r1024_m16384/large")
    ->ArgName("lowered")
    ->Arg(0)
    ->Arg(1)
    ->Iterations(1)
    ->Unit(benchmark::kSecond);

}  // namespace
}  // namespace plait
