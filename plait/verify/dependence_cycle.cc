#include <fmt/core.h>

#include <algorithm>
#include <deque>

#include "plait/ir/direction.h"
#include "plait/verify/bit_table.h"
#include "plait/verify/rules.h"

namespace plait::verify_detail {
namespace {

/// Runs the ranks' lists as far as inputs allow, with messages for free.
class FreeRun {
 public:
  explicit FreeRun(const RuleInput& input)
      : input_(input),
        holders_(input.holders),
        done_(2 * static_cast<std::size_t>(holders_.stages()), holders_.microbatches()),
        next_(input.schedule.ranks.size()),
        waits_for_(next_.size()) {}

  bool run() {
    for (std::size_t rank = 0; rank < next_.size(); ++rank) ready_.push_back(rank);
    while (!ready_.empty()) {
      const std::size_t rank = ready_.front();
      ready_.pop_front();
      advance(rank);
    }
    for (std::size_t rank = 0; rank < next_.size(); ++rank) {
      if (next_[rank] < list(rank).size()) return false;
    }
    return true;
  }

  /// Starts at a stuck rank and goes to the rank it waits for, until a rank is met twice.
  void report(Diagnostics& findings) const {
    std::size_t rank = 0;
    while (next_[rank] == list(rank).size()) ++rank;
    std::vector<std::size_t> path;
    std::vector<bool> seen(next_.size());
    while (!seen[rank]) {
      seen[rank] = true;
      path.push_back(rank);
      rank = maker_of(waits_for_[rank]);
    }
    path.erase(path.begin(), std::find(path.begin(), path.end(), rank));
    std::vector<DiagnosticNote> notes;
    for (const std::size_t r : path) {
      const Value& value = waits_for_[r];
      notes.push_back(
          note(head(r), fmt::format("{} waits for the {} of stage {} micro-batch {}, on rank {}",
                                    name_at(input_.schedule, head(r)),
                                    value.direction == Direction::kForward ? "forward" : "backward",
                                    value.stage, value.microbatch, maker_of(value))));
    }
    add(findings, "dependence-cycle", head(path.front()),
        fmt::format("{} ranks wait in a circle", path.size()), std::move(notes));
  }

 private:
  /// What a stage makes for its neighbour; stage -1: none.
  struct Value {
    Direction direction = Direction::kForward;
    int stage = -1;
    int microbatch = -1;
    bool operator==(const Value&) const = default;
    std::size_t row() const {
      return 2 * static_cast<std::size_t>(stage) + static_cast<std::size_t>(direction);
    }
  };

  const std::vector<Action>& list(std::size_t rank) const { return input_.schedule.ranks[rank]; }
  Location head(std::size_t rank) const {
    return {static_cast<std::int32_t>(rank), static_cast<std::int32_t>(next_[rank])};
  }
  std::size_t maker_of(const Value& value) const {
    return static_cast<std::size_t>(holders_.rank_of(value.stage, value.microbatch));
  }
  /// The value that an action needs and that is not there; stage -1: none.
  Value missing(const Action& action) const {
    if (!passes_value(action.type)) return {};
    const Direction direction = direction_of(action.type);
    const Value value{direction, stage_before(direction, action.stage), action.microbatch};
    if (value.stage < 0 || value.stage >= holders_.stages()) return {};
    return done_.get(value.row(), value.microbatch) ? Value{} : value;
  }

  void advance(std::size_t rank) {
    const std::vector<Action>& actions = list(rank);
    while (next_[rank] < actions.size()) {
      const std::size_t begin = next_[rank];
      const std::size_t end = begin + 1 + actions[begin].members;
      for (std::size_t i = begin; i < end; ++i) {
        waits_for_[rank] = missing(actions[i]);
        if (waits_for_[rank].stage >= 0) return;
      }
      for (std::size_t i = begin; i < end; ++i) finish(rank, actions[i]);
      next_[rank] = end;
    }
  }
  void finish(std::size_t rank, const Action& action) {
    if (!passes_value(action.type)) return;
    const Direction direction = direction_of(action.type);
    const Value value{direction, action.stage, action.microbatch};
    done_.set(value.row(), value.microbatch);
    const int reader = stage_after(direction, action.stage);
    if (reader < 0 || reader >= holders_.stages()) return;
    const auto reading = static_cast<std::size_t>(holders_.rank_of(reader, action.microbatch));
    if (reading == rank || waits_for_[reading] != value) return;
    waits_for_[reading] = {};
    ready_.push_back(reading);
    // With many ranks each turn is at another place of memory, far from the one before.
    __builtin_prefetch(list(reading).data() + next_[reading]);
  }

  const RuleInput& input_;
  const Holders& holders_;
  BitTable done_;
  std::vector<std::size_t> next_;
  std::vector<Value> waits_for_;   // by rank: what its next action lacks
  std::deque<std::size_t> ready_;  // first in, first out, so that a prefetch has time to arrive
};

}  // namespace

void check_dependence_cycle(const RuleInput& input, Diagnostics& findings) {
  FreeRun run(input);
  if (!run.run()) run.report(findings);
}

}  // namespace plait::verify_detail
