// What recording every step costs a rank: clocks and memory read around each instruction, the
// report that it sends, and the timeline and figures that it makes of everyone's; with the costs
// that rank 0 fits to it.
//
// Beside the compute of the step itself, at a given time of F, I and W: that is all a step would
// take a rank without a bubble, so the share is an upper one.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <vector>

#include "plait/passes/insert_comm.h"
#include "plait/program/measured_timeline.h"
#include "plait/record/step_report.h"
#include "plait/schedule/generators.h"
#include "plait/sim/profile.h"
#include "plait/torch/memory.h"

namespace plait {
namespace {

Nanoseconds median(std::vector<Nanoseconds> times) {
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

/// What an executor does for the record around one compute instruction.
double per_instruction() {
  constexpr int kCalls = 100'000;
  MemoryAccount account;
  std::vector<std::array<Nanoseconds, 2>> times(1024);
  std::vector<EventMemory> memory(1024);
  const Nanoseconds begin = now();
  for (std::size_t i = 0; i < kCalls; ++i) {
    EventMemory& held = memory[i % memory.size()];
    held.peak = account.take_peak();
    held.before = account.live();
    times[i % times.size()][0] = now();
    times[i % times.size()][1] = now();
    held.peak = std::max(held.peak, account.take_peak());
    held.after = account.live();
  }
  return static_cast<double>(now() - begin) / kCalls;
}

void bench(const std::string& name, int ranks, int microbatches, Nanoseconds action, int steps) {
  const VerifiedSchedule schedule = *verify(*insert_comm(*generate(name, {ranks, microbatches})));
  std::vector<RankProgram> programs;
  std::vector<RankReport> reports;
  for (int rank = 0; rank < ranks; ++rank) {
    programs.push_back(*lower(schedule, rank));
    const std::size_t size = programs.back().instructions.size();
    RankReport report;
    for (std::size_t i = 0; i < size; ++i) {
      const auto at = static_cast<Nanoseconds>(i) * 1'000'000;
      report.times.push_back({1'000'000'000'000'000 + at, 1'000'000'000'900'000 + at});
      report.memory.push_back({3'000'000, 4'000'000, 3'500'000});
    }
    reports.push_back(std::move(report));
  }
  const MeasuredTimeline measured(programs, {ranks, 1, 1});
  CostProfile profile(schedule.placement(), 0);
  std::vector<Nanoseconds> taken;
  for (int step = 0; step < steps; ++step) {
    const Nanoseconds begin = now();
    const std::string packed = reports.front().pack();
    std::vector<InstructionTimes> times;
    std::vector<std::vector<EventMemory>> memory;
    for (int rank = 0; rank < ranks; ++rank) {
      RankReport report = *RankReport::unpack(packed);
      report.times.resize(programs[static_cast<std::size_t>(rank)].instructions.size());
      report.memory.resize(report.times.size());
      times.push_back(std::move(report.times));
      memory.push_back(std::move(report.memory));
    }
    Timeline timeline = measured.make(times);
    measured.add_memory(memory, timeline);
    if (measure(timeline).ranks.empty()) fmt::print("nothing was measured\n");
    profile.add(timeline);
    taken.push_back(now() - begin);
  }
  const double instructions = static_cast<double>(programs.front().instructions.size());
  const double around = instructions * per_instruction();
  const double after = static_cast<double>(median(std::move(taken)));
  const int actions = 3 * microbatches * (schedule.placement().stages() / ranks);
  const double compute = static_cast<double>(actions) * static_cast<double>(action);
  fmt::print(
      "{}, {} ranks, {} micro-batches: {:.0f} instructions a rank, {:.1f} us around them, {:.1f} "
      "us "
      "after the step; {:.2f} % of {:.0f} ms of compute\n",
      name, ranks, microbatches, instructions, around / 1e3, after / 1e3,
      100 * (around + after) / compute, compute / 1e6);
}

}  // namespace
}  // namespace plait

int main(int argc, char** argv) {
  CLI::App app{"what recording a step costs"};
  int steps = 200;
  double action_us = 1000;
  app.add_option("--steps", steps, "steps to take the median of")->check(CLI::PositiveNumber);
  app.add_option("--action-us", action_us, "what F, I and W take")->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  const auto action = static_cast<plait::Nanoseconds>(action_us * 1e3);
  fmt::print("recording, F, I and W of {:.0f} us\n", action_us);
  plait::bench("dualpipe-v", 2, 8, action, steps);
  plait::bench("dualpipe-v", 4, 16, action, steps);
  plait::bench("dualpipe-v", 16, 64, action, steps);
  return 0;
}
