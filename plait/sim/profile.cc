#include "plait/sim/profile.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "plait/timeline/compute_ends.h"

namespace plait {
namespace {

/// In the order of CostProfile's times.
constexpr std::array kKeys{StageKey::kForward, StageKey::kBackwardInput, StageKey::kBackwardWeight,
                           StageKey::kBackward};

}  // namespace

void CostProfile::add(const Timeline& timeline) {
  std::vector<const TimelineEvent*> compute;
  const ComputeEnds ends(timeline);
  for (const TimelineEvent& event : timeline.events) {
    if (event.lane == Lane::kCompute) compute.push_back(&event);
  }
  Nanoseconds action = 0;  // the present one's parts so far
  std::optional<EventMemory> memory;
  for (std::size_t i = 0; i < compute.size(); ++i) {
    const TimelineEvent& event = *compute[i];
    const auto of_this_rank = [&](std::size_t index) {
      return index < compute.size() && compute[index]->rank == event.rank ? compute[index]
                                                                          : nullptr;
    };
    const TimelineEvent* before = i > 0 ? of_this_rank(i - 1) : nullptr;
    const auto made = ends.find(event.awaited_rank, event.awaited_instruction);
    const bool waited = made && (before == nullptr || *made > before->end);
    if (waited && event.awaited_rank != event.rank) {
      hops_.add(event.begin - *made);
    } else if (before != nullptr && !waited) {
      gaps_.add(event.begin - before->end);
    }
    const bool goes_on = before != nullptr && before->action == event.action;
    action = (goes_on ? action : 0) + event.end - event.begin;
    if (!timeline.memory.empty()) {
      const auto number = static_cast<std::size_t>(&event - timeline.events.data());
      const EventMemory& part = timeline.memory[number];
      memory = goes_on && memory
                   ? EventMemory{memory->before, std::max(memory->peak, part.peak), part.after}
                   : part;
    }
    const TimelineEvent* next = of_this_rank(i + 1);
    if (next != nullptr && next->action == event.action) continue;
    add_action(event, action, memory ? &*memory : nullptr);
  }
}

void CostProfile::add_action(const TimelineEvent& last, Nanoseconds time,
                             const EventMemory* memory) {
  if (!is_compute(last.action.type)) return;
  Seen& seen = seen_[static_cast<std::size_t>(last.action.stage)][compute_index(last.action.type)];
  seen.time.add(time);
  if (memory == nullptr) return;
  has_memory_ = true;
  seen.growth.add(memory->after - memory->before);
  seen.rise.add(memory->peak - memory->before);
}

Expected<CostSettings> CostProfile::settings() const {
  CostSettings settings;
  const Nanoseconds gap = gaps_.value();
  for (std::size_t key = 0; key < kKeys.size(); ++key) {
    StageCost cost;
    cost.is_list = true;
    cost.where = "profile";
    bool all_seen = true;
    for (std::size_t stage = 0; stage < seen_.size(); ++stage) {
      const RunningMean& seen = seen_[stage][key].time;
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
  if (has_memory_) add_bytes(settings);
  settings.comm = std::max<Nanoseconds>(hops_.value(), 0);
  return settings;
}

// The formula is at settings(): a result counts with the stage that reads it. I, W and B add
// nothing that stays.
void CostProfile::add_bytes(CostSettings& settings) const {
  const auto list = [&](StageKey key) -> std::vector<std::int64_t>& {
    return settings.of(key).emplace(StageCost{{}, true, "profile"}).values;
  };
  auto& activations = list(StageKey::kActivationBytes);
  auto& between = list(StageKey::kBetweenBytes);
  std::array<std::vector<std::int64_t>*, 4> scratch{};
  for (std::size_t key = 0; key < scratch.size(); ++key) scratch[key] = &list(kScratchKeys[key]);
  const int stages = placement_.stages();
  for (int stage = 0; stage < stages; ++stage) {
    const auto& [forward, input, weight, whole] = seen_[static_cast<std::size_t>(stage)];
    const Bytes made = stage + 1 < stages ? message_ : 0;
    const Bytes read = stage > 0 && !reads_message(stage) ? message_ : 0;
    activations.push_back(std::max<Bytes>(forward.growth.value() - made + read, 0));
    between.push_back(std::max<Bytes>(-weight.growth.value(), 0));
    const Bytes beside = forward.rise.value() - activations.back();
    const std::array<Bytes, 4> rises{beside, input.rise.value(), weight.rise.value(),
                                     whole.rise.value()};
    for (std::size_t key = 0; key < scratch.size(); ++key)
      scratch[key]->push_back(std::max<Bytes>(rises[key], 0));
  }
}

CostSettings CostProfile::merged(const CostSettings& settings, int count) const {
  const int stages = placement_.stages();
  // By stage, also of a number for all of them; zeros of what was not given.
  const auto list = [&](StageKey key) {
    const std::optional<StageCost>& cost = settings.of(key);
    if (cost && cost->is_list) return cost->values;
    return std::vector<std::int64_t>(static_cast<std::size_t>(stages),
                                     cost ? cost->values.front() : 0);
  };
  CostSettings merged = settings;
  for (const StageKeyInfo& info : kStageKeys) {
    std::optional<StageCost>& cost = merged.of(info.key);
    if (!cost) continue;
    const std::vector<std::int64_t> values = list(info.key);
    cost->is_list = true;
    cost->values.assign(values.size() / static_cast<std::size_t>(count), 0);
    for (std::size_t stage = 0; stage < values.size(); ++stage)
      cost->values[stage / static_cast<std::size_t>(count)] += values[stage];
  }
  if (!settings.of(StageKey::kActivationBytes)) return merged;
  const std::vector<std::int64_t> held = list(StageKey::kActivationBytes);
  const std::vector<std::int64_t> between = list(StageKey::kBetweenBytes);
  std::array<std::vector<std::int64_t>, 4> scratch;
  for (std::size_t key = 0; key < scratch.size(); ++key) {
    scratch[key] = list(kScratchKeys[key]);
    merged.of(kScratchKeys[key]) = StageCost{{}, true, "profile"};
  }
  for (int first = 0; first + count <= stages; first += count) {
    const Group group = join(first, first + count, held, between, scratch);
    merged.of(StageKey::kActivationBytes)->values[static_cast<std::size_t>(first / count)] =
        group.activations;
    for (std::size_t key = 0; key < kScratchKeys.size(); ++key)
      merged.of(kScratchKeys[key])->values.push_back(group.scratch[key]);
  }
  return merged;
}

CostProfile::Group CostProfile::join(
    int first, int end, const std::vector<std::int64_t>& held,
    const std::vector<std::int64_t>& between,
    const std::array<std::vector<std::int64_t>, 4>& scratch) const {
  Group group;
  Bytes most = 0;
  for (int stage = first; stage < end; ++stage) {
    const auto index = static_cast<std::size_t>(stage);
    // The value between the two stages was a message; now the later stage's input is kept.
    if (stage > first && reads_message(stage)) group.activations += message_;
    group.activations += held[index];
    most = std::max(most, group.activations + scratch[0][index]);
    group.scratch[2] = std::max(group.scratch[2], scratch[2][index]);
  }
  group.scratch[0] = most - group.activations;
  Bytes of_input = 0, of_whole = 0;  // freed so far
  for (int stage = end - 1; stage >= first; --stage) {
    const auto index = static_cast<std::size_t>(stage);
    group.scratch[1] = std::max(group.scratch[1], scratch[1][index] - of_input);
    group.scratch[3] = std::max(group.scratch[3], scratch[3][index] - of_whole);
    of_input += held[index] - between[index];
    of_whole += held[index];
  }
  return group;
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
