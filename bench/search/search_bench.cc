// What the search reaches beside the best of our own generators and beside the bound: one row for
// each placement, memory, P and M. Seconds are of this process's CPU time, so that other work on
// the machine does not change the table much.

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <ctime>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "plait/ir/placements.h"
#include "plait/schedule/generators.h"
#include "plait/search/search.h"

namespace {

using namespace plait;

struct Case {
  std::string part;  // of docs/search.md's table
  std::string placement;
  int chunks;
  int numerator;  // of the memory, in activations of a rank's whole share: numerator / denominator
                  // P
  int denominator;
};

struct Costs {
  const char* name;
  Nanoseconds f, i, w, hop;  // of a rank's whole share, in ns; all even
};

double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

CostModel model_of(const Costs& costs, int chunks, int stages) {
  CostModel model;
  const auto count = static_cast<std::size_t>(stages);
  const auto all = [&](Nanoseconds time) { return std::vector<Nanoseconds>(count, time / chunks); };
  model.actions = {all(costs.f), all(costs.i), all(costs.w), all(costs.i + costs.w), costs.hop};
  return model;
}

/// The fastest of kGenerators, on any placement of as many chunks, that keeps the cap.
std::optional<std::pair<std::string, Nanoseconds>> best_generated(const Case& one, int ranks,
                                                                  int microbatches, int cap,
                                                                  const CostModel& costs) {
  std::optional<std::pair<std::string, Nanoseconds>> best;
  for (const GeneratorInfo& info : kGenerators) {
    if (info.name == "zb-auto" || info.name == "zbv-auto") continue;  // a search themselves
    const Expected<Schedule> schedule =
        info.generate({ranks, microbatches, one.chunks, true, costs.actions, cap});
    if (!schedule || schedule->forward_only || schedule->placement.copies > 1 ||
        schedule->placement.stages() != ranks * one.chunks)
      continue;
    const Expected<Price> priced = price(*schedule, costs, {});
    if (!priced || priced->worst_peak() > cap) continue;
    if (!best || priced->prediction.makespan_ns < best->second)
      best = {std::string(info.name), priced->prediction.makespan_ns};
  }
  return best;
}

std::string above(Nanoseconds makespan, Nanoseconds bound) {
  return fmt::format("{:.2f}",
                     100 * static_cast<double>(makespan - bound) / static_cast<double>(bound));
}

void print_row(const Case& one, const Costs& costs, int ranks, int microbatches, double seconds) {
  const int stages = ranks * one.chunks;
  const int cap = one.numerator * stages / one.denominator;
  SearchQuestion question;
  question.placement = *place(one.placement, ranks, stages);
  question.microbatches = microbatches;
  question.costs = model_of(costs, one.chunks, stages);
  question.cap.activations = cap;
  const double begin = cpu_seconds();
  question.go_on = [&](const SearchProgress& /*progress*/) {
    return cpu_seconds() - begin < seconds;
  };
  const Expected<SearchResult> found = search_schedule(question);
  if (!found) {
    fmt::print("| {} | {} | {} | {} | {} | {} |\n", one.part, costs.name, ranks, microbatches, cap,
               found.error().text());
    return;
  }
  const double took = cpu_seconds() - begin;
  const auto theirs = best_generated(one, ranks, microbatches, cap, question.costs);
  const Nanoseconds bound = found->price.bound.makespan;
  fmt::print("| {} | {} {}/{} P | {} | {} | {} | {} | {} | {:.2f} | {:.0f} | {} |\n", one.part,
             one.placement, one.numerator, one.denominator, costs.name, ranks, microbatches,
             theirs ? fmt::format("{} {}", theirs->first, above(theirs->second, bound)) : "none",
             above(found->price.prediction.makespan_ns, bound), took,
             took > 0 ? static_cast<double>(found->moves) / took / 1000 : 0, found->how);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 10;
  const int most_ranks = argc > 2 ? std::atoi(argv[2]) : 32;
  const int most_rounds = argc > 3 ? std::atoi(argv[3]) : 8;  // M / P
  const std::vector<Case> cases = {
      {"a", "loop", 1, 1, 1}, {"b", "v", 2, 1, 1},    {"b", "v", 2, 3, 4},
      {"b", "v", 2, 5, 8},    {"c", "v", 2, 1, 2},    {"c", "v", 2, 3, 8},
      {"d", "v", 2, 2, 1},    {"e", "loop", 1, 3, 4}, {"e", "loop", 1, 1, 2}};
  const std::array<Costs, 3> all_costs{{{"1 1 1 0.1", 200, 200, 200, 20},
                                        {"10 12 8 1", 200, 240, 160, 20},
                                        {"1 1.2 0.8 0.05", 200, 240, 160, 10}}};
  fmt::print(
      "| | memory | costs | P | M | best generator, % above bound | found | CPU s | 1000 moves/s "
      "| from |\n|---|---|---|---|---|---|---|---|---|---|\n");
  for (int ranks = 4; ranks <= most_ranks; ranks *= 2) {
    for (const Case& one : cases) {
      for (const Costs& costs : all_costs) {
        // The other costs only where that takes no minutes.
        constexpr int kAllCosts = 8;
        if (ranks > kAllCosts && costs.name != all_costs[1].name) continue;
        for (int rounds = 1; rounds <= most_rounds; rounds *= 2)
          print_row(one, costs, ranks, rounds * ranks, seconds);
      }
    }
  }
  return 0;
}
