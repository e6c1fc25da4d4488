/// What the rules share: where actions stand, who holds what, and how findings are made.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "plait/ir/direction.h"
#include "plait/ir/schedule.h"
#include "plait/verify/verify.h"

namespace plait::verify_detail {

/// Where an action stands: rank and position in the rank's list.
struct Place {
  std::int32_t rank = -1;
  std::int32_t position = -1;
};

constexpr bool has_microbatch(ActionType type) {
  return is_compute(type) || is_communication(type);
}

/// The placement without a division for each look-up.
class Holders {
 public:
  explicit Holders(const Schedule& schedule);
  int stages() const { return stages_; }
  int microbatches() const { return microbatches_; }
  int copies() const { return static_cast<int>(copy_begin_.size()); }
  int copy_of(int microbatch) const {
    std::size_t copy = copy_begin_.size() - 1;
    while (copy_begin_[copy] > microbatch) --copy;
    return static_cast<int>(copy);
  }
  int rank_of(int stage, int microbatch) const { return of_copy(stage, copy_of(microbatch)); }
  int of_copy(int stage, int copy) const {
    const int index = copy * stages_ + stage;
    return rank_of_[static_cast<std::size_t>(index)];
  }
  /// True if a value between the two stages crosses ranks.
  bool crosses(int stage, int other, int microbatch) const {
    const int copy = copy_of(microbatch);
    return of_copy(stage, copy) != of_copy(other, copy);
  }
  /// True if the rank holds any copy of the stage.
  bool holds(int rank, int stage) const;
  /// True for actions with a stage and, where they need one, a micro-batch within the numbers.
  bool in_range(const Action& action) const {
    if (action.stage < 0 || action.stage >= stages_) return false;
    return !has_microbatch(action.type) ||
           (action.microbatch >= 0 && action.microbatch < microbatches_);
  }
  /// True if the action is in range and its rank is the one that holds it.
  bool in_place(int rank, const Action& action) const {
    if (!in_range(action)) return false;
    return has_microbatch(action.type) ? rank_of(action.stage, action.microbatch) == rank
                                       : holds(rank, action.stage);
  }

 private:
  int stages_;
  int microbatches_;
  std::vector<int> copy_begin_;  // first micro-batch of each copy
  std::vector<int> rank_of_;     // as in the placement
};

/// Bits in rows of one for each micro-batch.
class BitTable {
 public:
  BitTable(std::size_t rows, int columns)
      : words_per_row_((static_cast<std::size_t>(columns) + 63) / 64),
        words_(rows * words_per_row_) {}
  bool get(std::size_t row, int column) const {
    return (words_[word(row, column)] >> (static_cast<unsigned>(column) % 64) & 1) != 0;
  }
  void set(std::size_t row, int column) {
    words_[word(row, column)] |= std::uint64_t{1} << (static_cast<unsigned>(column) % 64);
  }

 private:
  std::size_t word(std::size_t row, int column) const {
    return row * words_per_row_ + static_cast<unsigned>(column) / 64;
  }
  std::size_t words_per_row_;
  std::vector<std::uint64_t> words_;
};

/// Type, stage and micro-batch.
using ActionKey = std::tuple<ActionType, std::int32_t, std::int32_t>;

/// What every rule is given.
struct RuleInput {
  const Schedule& schedule;
  const VerifyOptions& options;
  const Holders& holders;
  /// Actions out of range or on a wrong rank, in list order: those two rules report them, for the
  /// others they are neither there nor missing.
  std::vector<Place> strays{};
  std::vector<ActionKey> stray_keys{};  ///< of the same, ascending

  /// Looks for them. A sound schedule has none, which reading it rank by rank shows (RankView).
  void find_strays();

  const Action& at(Place place) const {
    return schedule
        .ranks[static_cast<std::size_t>(place.rank)][static_cast<std::size_t>(place.position)];
  }
  /// True if the action stands where it does not belong.
  bool strayed(ActionType type, int stage, int microbatch) const;
};

/// The names of actions in messages: "2F0"; a pair with its members: "(0F7;7B3)OVERLAP_F_B".
std::string action_name(ActionType type, int stage, int microbatch);
std::string action_name(const Action& action);
std::string place_name(const Schedule& schedule, Place place);

/// Calls visit(place, action) for every action, members of pairs too, idle slots not.
template <typename Visit>
void for_each_action(const Schedule& schedule, Visit visit) {
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    const std::vector<Action>& list = schedule.ranks[rank];
    for (std::size_t position = 0; position < list.size(); ++position) {
      if (list[position].type == ActionType::kIdle) continue;
      visit(Place{static_cast<std::int32_t>(rank), static_cast<std::int32_t>(position)},
            list[position]);
    }
  }
}

Diagnostic& add(Diagnostics& findings, std::string_view rule, Place place, std::string message,
                std::vector<DiagnosticNote> notes = {});
DiagnosticNote note(Place place, std::string message);

}  // namespace plait::verify_detail
