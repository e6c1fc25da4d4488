// Makes a schedule, changes it, proves it and prices it, before and after.
#include <cstdio>
#include <string>

#include "plait/passes/passes.h"
#include "plait/schedule/generators.h"
#include "plait/sim/simulate.h"
#include "plait/verify/verify.h"

namespace {

constexpr int kRanks = 4;
constexpr int kMicrobatches = 12;

/// Prints the proof's line and the price, or what is wrong with the schedule. False if anything is.
bool prove_and_price(const char* title, plait::Schedule schedule) {
  const auto proven = plait::verify(std::move(schedule));
  if (!proven) {
    for (const plait::Diagnostic& finding : proven.error())
      std::printf("%s: %s\n", title, finding.text().c_str());
    return false;
  }
  // F takes 10 us, I 11 and W 8; a fused B saves one of them; a hop between ranks takes 2.
  plait::CostModel costs = plait::unit_cost_model(proven->placement().stages());
  for (plait::Nanoseconds& time : costs.actions.forward) time = 10'000;
  for (plait::Nanoseconds& time : costs.actions.backward_input) time = 11'000;
  for (plait::Nanoseconds& time : costs.actions.backward_weight) time = 8'000;
  for (plait::Nanoseconds& time : costs.actions.backward) time = 18'000;
  costs.actions.hop = 2'000;
  const auto price = plait::simulate(*proven, costs);
  if (!price) {
    std::printf("%s: %s\n", title, price.error().text().c_str());
    return false;
  }
  std::printf(
      "%s\n  %s\n  a step takes %.1f us, rank 0 is idle for %.1f and holds %lld stage "
      "activations\n",
      title, proven->summary().c_str(), static_cast<double>(price->makespan_ns) / 1e3,
      static_cast<double>(price->ranks[0].idle_ns) / 1e3,
      static_cast<long long>(price->ranks[0].peak_activations.amount));
  return true;
}

}  // namespace

int main() {
  const auto made = plait::generate("zbv", {kRanks, kMicrobatches});
  if (!made) {
    std::printf("%s\n", made.error().text().c_str());
    return 1;
  }
  // torch leaves every I and its W apart; where they stand side by side a whole B is cheaper.
  const auto changed = plait::run_passes("merge-backward,insert-comm,place-recv=1", *made);
  if (!changed) {
    std::printf("%s\n", changed.error().text().c_str());
    return 1;
  }
  const bool right = prove_and_price("zbv as it is made", *made) &&
                     prove_and_price("with whole backwards, lowered", *changed);
  return right ? 0 : 1;
}
