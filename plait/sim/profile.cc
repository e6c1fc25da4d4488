#include "plait/sim/profile.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

namespace plait {
namespace {

/// In the order of CostProfile's times.
constexpr std::array kKeys{StageKey::kForward, StageKey::kBackwardInput, StageKey::kBackwardWeight,
                           StageKey::kBackward};

std::optional<std::size_t> index_of(ActionType type) {
  switch (type) {
    case ActionType::kForward:
      return 0;
    case ActionType::kBackwardInput:
      return 1;
    case ActionType::kBackwardWeight:
      return 2;
    case ActionType::kBackward:
      return 3;
    default:
      return std::nullopt;
  }
}

}  // namespace

void CostProfile::add(const Timeline& timeline) {
  std::vector<const TimelineEvent*> compute;
  std::map<std::pair<int, int>, Nanoseconds> ends;  // by rank and instruction
  for (const TimelineEvent& event : timeline.events) {
    if (event.lane != Lane::kCompute) continue;
    compute.push_back(&event);
    ends[{event.rank, event.instruction}] = event.end;
  }
  Nanoseconds action = 0;  // the present one's parts so far
  for (std::size_t i = 0; i < compute.size(); ++i) {
    const TimelineEvent& event = *compute[i];
    const auto of_this_rank = [&](std::size_t at) {
      return at < compute.size() && compute[at]->rank == event.rank ? compute[at] : nullptr;
    };
    const TimelineEvent* before = i > 0 ? of_this_rank(i - 1) : nullptr;
    const auto made = ends.find({event.awaited_rank, event.awaited_instruction});
    const bool waited = made != ends.end() && (before == nullptr || made->second > before->end);
    if (waited && event.awaited_rank != event.rank) {
      hops_.add(event.begin - made->second);
    } else if (before != nullptr && !waited) {
      gaps_.add(event.begin - before->end);
    }
    const bool goes_on = before != nullptr && before->action == event.action;
    action = (goes_on ? action : 0) + event.end - event.begin;
    const TimelineEvent* next = of_this_rank(i + 1);
    if (next != nullptr && next->action == event.action) continue;
    if (const auto index = index_of(event.action.type))
      times_[static_cast<std::size_t>(event.action.stage)][*index].add(action);
  }
}

Expected<CostSettings> CostProfile::settings() const {
  CostSettings settings;
  const Nanoseconds gap = gaps_.value();
  for (std::size_t key = 0; key < kKeys.size(); ++key) {
    StageCost cost;
    cost.is_list = true;
    cost.where = "profile";
    bool all_seen = true;
    for (std::size_t stage = 0; stage < times_.size(); ++stage) {
      const RunningMean& seen = times_[stage][key];
      if (seen.count() == 0 && kKeys[key] != StageKey::kBackward) {
        return fail(
            ErrorCode::kInvalidInput,
            fmt::format("stage {} never ran {} by itself, needed a schedule with F, I and W "
                        "of every stage, as dualpipe-v or zbv",
                        stage, "FIW"[key]));
      }
      all_seen = all_seen && seen.count() > 0;
      cost.values.push_back(seen.value() + gap);
    }
    if (all_seen) settings.of(kKeys[key]) = std::move(cost);
  }
  settings.comm = std::max<Nanoseconds>(hops_.value(), 0);
  return settings;
}

CostSettings merge_stages(const CostSettings& settings, int count) {
  CostSettings merged = settings;
  for (std::optional<StageCost>& cost : merged.stage) {
    if (!cost || !cost->is_list) continue;
    std::vector<std::int64_t> sums;
    for (std::size_t stage = 0; stage < cost->values.size(); ++stage) {
      if (stage % static_cast<std::size_t>(count) == 0) sums.push_back(0);
      sums.back() += cost->values[stage];
    }
    cost->values = std::move(sums);
  }
  return merged;
}

std::string print_costs(const CostSettings& settings) {
  std::string text = "[stage]\n";
  for (const StageKeyInfo& info : kStageKeys) {
    if (const std::optional<StageCost>& cost = settings.of(info.key))
      text += fmt::format("{} = [{}]\n", info.name, fmt::join(cost->values, ", "));
  }
  if (settings.comm) text += fmt::format("\n[link]\ncomm_ns = {}\n", *settings.comm);
  return text;
}

}  // namespace plait
