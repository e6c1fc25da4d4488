/// RankView: one rank's list, with a table of where each of its actions stands first.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "plait/verify/location.h"
#include "plait/verify/rule_input.h"

namespace plait::verify_detail {

/// read() fills it for one rank after the other. The table has a position for each (stage of the
/// rank, micro-batch, type): V * M cells of 4 positions, 8 with messages, 4 bytes each.
class RankView {
 public:
  /// `lowered`: the table has room for messages.
  RankView(const RuleInput& input, bool lowered);
  /// False if it meets a stray while input().strays is empty.
  bool read(int rank);

  const RuleInput& input() const { return *input_; }
  int rank() const { return rank_; }
  const std::vector<Action>& list() const {
    return input_->schedule.ranks[static_cast<std::size_t>(rank_)];
  }
  Location location(std::int32_t position) const { return {rank_, position}; }
  Location location(std::size_t position) const {
    return {rank_, static_cast<std::int32_t>(position)};
  }

  /// Stages that the rank holds, of any copy, ascending.
  const std::vector<int>& stages() const { return stages_; }
  /// Index into stages(), -1 if the rank does not hold the stage.
  int local(int stage) const { return local_[static_cast<std::size_t>(stage)]; }
  /// First position of a compute action or message that is where it belongs, -1 if there is none;
  /// of messages only in a lowered schedule.
  std::int32_t position(ActionType type, int stage, int microbatch) const {
    const int index = stage < 0 || stage >= input_->holders.stages() ? -1 : local(stage);
    return index < 0 ? -1 : positions_[cell(index, microbatch) + kColumn[index_of(type)]];
  }
  bool has(ActionType type, int stage, int microbatch) const {
    return position(type, stage, microbatch) >= 0;
  }

  // What the list holds at all: a rule about none of it has nothing to find. Of messages: what the
  // schedule holds.
  bool repeats() const { return repeats_; }
  bool holds_messages() const { return columns_ > 4; }
  bool holds_pairs() const { return holds_pairs_; }
  bool unshards() const { return unshards_; }
  bool reduces() const { return reduces_; }
  bool waits() const { return waits_; }

 private:
  static constexpr std::size_t index_of(ActionType type) { return static_cast<std::size_t>(type); }
  // Column by type: F I W B, then messages.
  static constexpr std::array<std::size_t, 10> kColumn{0, 0, 1, 2, 3, 0, 4, 5, 6, 7};
  /// The same as Holders::in_place() of this rank.
  bool in_place(const Action& action) const {
    const Holders& holders = input_->holders;
    if (holders.copies() > 1) return holders.in_place(rank_, action);
    return holders.in_range(action) && local(action.stage) >= 0;
  }
  std::size_t cell(int local_stage, int microbatch) const {
    return (static_cast<std::size_t>(local_stage) * microbatches_ +
            static_cast<std::size_t>(microbatch)) *
           columns_;
  }

  const RuleInput* input_;
  std::size_t microbatches_;
  std::size_t columns_;
  int rank_ = -1;
  std::vector<std::vector<int>> stages_of_rank_;
  std::vector<int> stages_;
  std::vector<int> local_;  // by stage
  std::vector<std::int32_t> positions_;
  bool repeats_ = false;
  bool holds_pairs_ = false;
  bool unshards_ = false;  // or reshards
  bool reduces_ = false;
  bool waits_ = false;  // for a send or a reduction
};

}  // namespace plait::verify_detail
