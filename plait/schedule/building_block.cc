#include "plait/schedule/building_block.h"

#include <fmt/core.h>

#include <algorithm>
#include <deque>

#include "plait/base/check.h"
#include "plait/ir/placements.h"
#include "plait/schedule/compute_action.h"
#include "plait/schedule/shape_checks.h"

namespace plait {
namespace {

constexpr int kPeriod = 6;

/// Every rank's actions in unit slots.
class SlotTable {
 public:
  SlotTable(const Schedule& schedule)
      : stages_(schedule.placement.stages()),
        microbatches_(schedule.microbatches),
        rows_(schedule.ranks.size()),
        slot_of_(3 * static_cast<std::size_t>(stages_) * static_cast<std::size_t>(microbatches_),
                 -1) {}

  void put(std::size_t rank, int slot, const Action& action) {
    std::vector<Action>& row = rows_[rank];
    if (static_cast<std::size_t>(slot) >= row.size())
      row.resize(static_cast<std::size_t>(slot) + 1);
    PLAIT_CHECK(action_in(rank, slot).type == ActionType::kIdle, "two actions in one slot");
    action_in(rank, slot) = action;
    slot_of(action) = slot;
  }

  /// Every I without W gets it in the next free slot, the oldest first.
  void fill_weights() {
    for (std::size_t rank = 0; rank < rows_.size(); ++rank) {
      std::deque<Action> due;
      for (int slot = 0; slot < size(rank) || !due.empty(); ++slot) {
        const Action action = slot < size(rank) ? action_in(rank, slot) : Action{};
        if (action.type == ActionType::kBackwardInput) {
          Action weight = action;
          weight.type = ActionType::kBackwardWeight;
          if (slot_of(weight) < 0) due.push_back(weight);
        } else if (action.type == ActionType::kIdle && !due.empty()) {
          put(rank, slot, due.front());
          due.pop_front();
        }
      }
    }
  }

  /// Takes the actions before slot `begin` and after slot `end` in the order of time, and moves
  /// each to the earliest free slot behind its inputs that does not raise its rank's peak of live
  /// activations. `only`: the one type that is moved; kIdle: all are.
  void tighten(int begin, int end, ActionType only) {
    std::vector<std::pair<int, std::size_t>> moving;
    for (std::size_t rank = 0; rank < rows_.size(); ++rank) {
      for (int slot = 0; slot < size(rank); ++slot) {
        const ActionType type = action_in(rank, slot).type;
        if (type == ActionType::kIdle || (slot >= begin && slot <= end)) continue;
        if (only == ActionType::kIdle || type == only) moving.emplace_back(slot, rank);
      }
    }
    std::sort(moving.begin(), moving.end());
    std::vector<std::vector<int>> live;
    std::vector<int> peak;
    for (std::size_t rank = 0; rank < rows_.size(); ++rank) {
      live.push_back(live_of(rank));
      peak.push_back(
          live.back().empty() ? 0 : *std::max_element(live.back().begin(), live.back().end()));
    }
    for (const auto& [slot, rank] : moving)
      move_left(rank, slot, after_inputs(action_in(rank, slot)), live[rank], peak[rank]);
  }

  /// Moves all F's and I's in the same way. An I and its W are a block of two slots, with the
  /// gradient at its end. All ranks share the highest peak of any.
  void tighten_blocks() {
    std::vector<std::vector<int>> live;
    int peak = 0;
    int slots = 0;
    for (std::size_t rank = 0; rank < rows_.size(); ++rank) {
      live.push_back(live_of(rank));
      for (const int activations : live.back()) peak = std::max(peak, activations);
      slots = std::max(slots, size(rank));
    }
    for (int slot = 0; slot < slots; ++slot) {
      for (std::size_t rank = 0; rank < rows_.size(); ++rank) {
        if (slot >= size(rank)) continue;
        const Action& action = action_in(rank, slot);
        if (action.type == ActionType::kForward) {
          const int low = std::max(after_inputs(action), after_previous(action));
          move_left(rank, slot, low, live[rank], peak);
        } else if (action.type == ActionType::kBackwardInput) {
          move_block_left(rank, slot, live[rank]);
        }
      }
    }
  }

  /// Takes out the W's after `end`.
  void drop_weights(int end) {
    for (std::size_t rank = 0; rank < rows_.size(); ++rank) {
      for (int slot = end + 1; slot < size(rank); ++slot) {
        Action& action = action_in(rank, slot);
        if (action.type != ActionType::kBackwardWeight) continue;
        slot_of(action) = -1;
        action = {};
      }
    }
  }

  /// Every action as early as its rank's order and its inputs let it.
  void squeeze() {
    const std::vector<std::vector<Action>> old = lists();
    for (std::vector<Action>& row : rows_) row.clear();
    std::fill(slot_of_.begin(), slot_of_.end(), -1);
    std::vector<std::size_t> next(old.size());
    for (bool progress = true; progress;) {
      progress = false;
      for (std::size_t rank = 0; rank < old.size(); ++rank) {
        for (; next[rank] < old[rank].size(); ++next[rank], progress = true) {
          const Action& action = old[rank][next[rank]];
          const int ready = after_inputs(action);
          if (ready < 0) break;
          put(rank, std::max(ready, size(rank)), action);
        }
      }
    }
  }

  int last_slot_of(ActionType type, std::size_t rank, int stage) const {
    int last = -1;
    for (int slot = 0; slot < static_cast<int>(rows_[rank].size()); ++slot) {
      const Action& action = rows_[rank][static_cast<std::size_t>(slot)];
      if (action.type == type && action.stage == stage) last = slot;
    }
    return last;
  }

  std::vector<std::vector<Action>> lists() const {
    std::vector<std::vector<Action>> lists(rows_.size());
    for (std::size_t rank = 0; rank < rows_.size(); ++rank) {
      const auto idle =
          std::count_if(rows_[rank].begin(), rows_[rank].end(),
                        [](const Action& action) { return action.type == ActionType::kIdle; });
      lists[rank].reserve(rows_[rank].size() - static_cast<std::size_t>(idle));
      for (const Action& action : rows_[rank]) {
        if (action.type != ActionType::kIdle) lists[rank].push_back(action);
      }
    }
    return lists;
  }

 private:
  int size(std::size_t rank) const { return static_cast<int>(rows_[rank].size()); }
  Action& action_in(std::size_t rank, int slot) {
    return rows_[rank][static_cast<std::size_t>(slot)];
  }
  int& slot_of(const Action& action) { return slot_of_[cell(action.type, action)]; }
  std::size_t cell(ActionType type, const Action& action, int stage_offset = 0) const {
    return (compute_index(type) * static_cast<std::size_t>(stages_) +
            static_cast<std::size_t>(action.stage + stage_offset)) *
               static_cast<std::size_t>(microbatches_) +
           static_cast<std::size_t>(action.microbatch);
  }

  /// The first slot behind the action's input, -1 if the input has no slot yet.
  int after_inputs(const Action& action) const {
    ActionType type = ActionType::kForward;
    int offset = 0;
    if (action.type == ActionType::kForward) {
      if (action.stage == 0) return 0;
      offset = -1;
    } else if (action.type == ActionType::kBackwardWeight) {
      type = ActionType::kBackwardInput;
    } else if (action.stage < stages_ - 1) {
      type = ActionType::kBackwardInput;
      offset = 1;
    }
    const int slot = slot_of_[cell(type, action, offset)];
    return slot < 0 ? -1 : slot + 1;
  }

  /// Live activations during each slot: a W releases its own at its end.
  std::vector<int> live_of(std::size_t rank) const {
    std::vector<int> live;
    int now = 0;
    for (const Action& action : rows_[rank]) {
      now += action.type == ActionType::kForward ? 1 : 0;
      live.push_back(now);
      now -= action.type == ActionType::kBackwardWeight ? 1 : 0;
    }
    return live;
  }

  /// The first slot behind the same action of the micro-batch before.
  int after_previous(Action action) {
    if (action.microbatch == 0) return 0;
    --action.microbatch;
    return slot_of(action) + 1;
  }

  /// To the first free slot from `low` on between which and `slot` a forward stays within `peak`.
  void move_left(std::size_t rank, int slot, int low, std::vector<int>& live, int peak) {
    const Action action = action_in(rank, slot);
    const bool forward = action.type == ActionType::kForward;
    int best = slot;
    for (int candidate = slot - 1; candidate >= std::max(low, 0); --candidate) {
      if (forward && live[static_cast<std::size_t>(candidate)] + 1 > peak) break;
      if (action_in(rank, candidate).type == ActionType::kIdle) best = candidate;
    }
    if (best == slot) return;
    action_in(rank, slot) = {};
    action_in(rank, best) = action;
    slot_of(action) = best;
    const int change = forward ? 1 : action.type == ActionType::kBackwardWeight ? -1 : 0;
    // A forward is live from its own slot on, a W's activation until the end of its slot.
    const int from = forward ? best : best + 1;
    const int to = forward ? slot : slot + 1;
    for (int i = from; i < to; ++i) {
      if (static_cast<std::size_t>(i) < live.size()) live[static_cast<std::size_t>(i)] += change;
    }
  }

  void move_block_left(std::size_t rank, int slot, std::vector<int>& live) {
    const Action input = action_in(rank, slot);
    const bool waits_for_block = input.stage < stages_ - 1;
    const auto idle = [&](int at_slot) {
      return action_in(rank, at_slot).type == ActionType::kIdle;
    };
    int best = std::max(after_inputs(input) + (waits_for_block ? 1 : 0), after_previous(input));
    while (best < slot && !(idle(best) && (best + 1 == slot || idle(best + 1)))) ++best;
    if (best >= slot) return;
    const Action weight = action_in(rank, slot + 1);
    action_in(rank, slot) = {};
    action_in(rank, slot + 1) = {};
    put(rank, best, input);
    put(rank, best + 1, weight);
    for (int i = best + 2; i < slot + 2 && i < size(rank); ++i) --live[static_cast<std::size_t>(i)];
  }

  int stages_;
  int microbatches_;
  std::vector<std::vector<Action>> rows_;
  std::vector<int> slot_of_;
};

void put_blocks(SlotTable& table, const std::vector<BlockSlots>& blocks, int microbatches,
                bool weight_behind) {
  const int last_stage = 2 * static_cast<int>(blocks.size()) - 1;
  for (std::size_t rank = 0; rank < blocks.size(); ++rank) {
    const BlockSlots& block = blocks[rank];
    const int down = static_cast<int>(rank);
    const int up = last_stage - down;
    for (int mb = 0; mb < microbatches; ++mb) {
      const int shift = kPeriod * mb;
      table.put(rank, block.forward_down + shift, compute(ActionType::kForward, down, mb));
      table.put(rank, block.forward_up + shift, compute(ActionType::kForward, up, mb));
      table.put(rank, block.backward_up + shift, compute(ActionType::kBackwardInput, up, mb));
      table.put(rank, block.backward_down + shift, compute(ActionType::kBackwardInput, down, mb));
      if (!weight_behind) continue;
      table.put(rank, block.backward_up + 1 + shift, compute(ActionType::kBackwardWeight, up, mb));
      table.put(rank, block.backward_down + 1 + shift,
                compute(ActionType::kBackwardWeight, down, mb));
    }
  }
}

}  // namespace

Expected<Schedule> repeat_block(std::string_view name, const ScheduleShape& shape,
                                const std::vector<BlockSlots>& blocks, WeightSlots rule) {
  constexpr int kMaxMicrobatches = 1 << 28;  // six slots each
  PLAIT_TRY_VOID(check_microbatches(name, shape, shape.microbatches <= kMaxMicrobatches,
                                    fmt::format("at most {}", kMaxMicrobatches)));
  PLAIT_TRY(Placement placement, place_v(shape.ranks, 2 * shape.ranks));
  Schedule schedule = empty_schedule(name, std::move(placement), shape.microbatches);
  SlotTable table(schedule);
  put_blocks(table, blocks, shape.microbatches, rule == WeightSlots::kBlock);
  if (rule == WeightSlots::kBlock) {
    table.tighten_blocks();
    schedule.ranks = table.lists();
    return schedule;
  }
  const BlockSlots& top = blocks.front();
  table.fill_weights();
  table.tighten(top.backward_down, top.forward_down + kPeriod * (shape.microbatches - 1),
                ActionType::kIdle);
  if (rule == WeightSlots::kLate) {
    table.squeeze();
    const int end = table.last_slot_of(ActionType::kForward, 0, 0);
    table.drop_weights(end);
    table.tighten(0, end, ActionType::kBackwardInput);
    table.fill_weights();
  }
  schedule.ranks = table.lists();
  return schedule;
}

}  // namespace plait
