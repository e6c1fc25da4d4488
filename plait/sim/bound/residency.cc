#include "plait/sim/bound/residency.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

namespace plait {
namespace {

/// The most stages that a rank computes.
int most_stages(const Schedule& schedule) {
  std::size_t most = 1;
  for (const std::vector<Action>& list : schedule.ranks) {
    std::vector<bool> seen(static_cast<std::size_t>(schedule.placement.stages()));
    for (const Action& action : list) {
      if (is_compute(action.type)) seen[static_cast<std::size_t>(action.stage)] = true;
    }
    most = std::max(most, static_cast<std::size_t>(std::count(seen.begin(), seen.end(), true)));
  }
  return static_cast<int>(most);
}

/// The options that the question allows, in its order.
std::vector<PricedLowering> candidates(const Schedule& schedule,
                                       const ResidencyQuestion& question) {
  std::vector<PricedLowering> all;
  const auto add = [&](int active, std::string lookahead, std::string name) {
    PricedLowering one{question.options, std::move(name)};
    one.options.max_active_stages = active;
    one.options.unshard_lookahead = std::move(lookahead);
    all.push_back(std::move(one));
  };
  const int given = question.options.max_active_stages;
  const int first = question.any_active_stages ? 1 : given;
  const int last = question.any_active_stages ? most_stages(schedule) : given;
  const std::size_t ranks = schedule.ranks.size();
  for (int active = first; active <= last; ++active) {
    if (!question.any_lookahead) {
      add(active, question.options.unshard_lookahead, question.options.unshard_lookahead);
      continue;
    }
    add(active, "full", "full");
    for (int ahead = active - 1; ahead >= 1; --ahead) {
      add(active, fmt::format("{}", fmt::join(std::vector<int>(ranks, ahead), ",")),
          fmt::format("{}", ahead));
    }
    if (active > 2 && ranks > 1) add(active, "auto", "auto");  // below, it is full
  }
  return all;
}

}  // namespace

Expected<PricedLowerings> price_lowerings(const Schedule& schedule, const CostModel& costs,
                                          const ResidencyQuestion& question) {
  PricedLowerings result;
  const auto leave_out = [&](const Error& error) {
    if (result.why_not.empty()) result.why_not = error.text();
  };
  for (PricedLowering& one : candidates(schedule, question)) {
    Expected<Lowered> lowered = lower_as_torch(schedule, one.options);
    if (!lowered) {
      leave_out(lowered.error());
      continue;
    }
    one.notes = std::move(lowered->notes);
    Expected<Price> proven = price(std::move(lowered->schedule), costs, {});
    if (proven) {
      one.price = *std::move(proven);
      result.priced.push_back(std::move(one));
    } else if (proven.error().code == ErrorCode::kCheckFailed) {
      leave_out(proven.error());
    } else {
      return tl::unexpected<Error>(std::move(proven.error()));
    }
  }
  return result;
}

bool is_better(const PricedLowering& a, const PricedLowering& b) {
  if (a.price.prediction.makespan_ns != b.price.prediction.makespan_ns)
    return a.price.prediction.makespan_ns < b.price.prediction.makespan_ns;
  return a.price.worst_peak() < b.price.worst_peak();
}

}  // namespace plait
