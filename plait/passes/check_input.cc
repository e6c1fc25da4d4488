#include "plait/passes/check_input.h"

#include <fmt/core.h>

#include <string>

#include "plait/ir/action_text.h"
#include "plait/passes/value_numbers.h"

namespace plait::passes_detail {
namespace {

Expected<void> check_numbers(const Schedule& schedule) {
  const Placement& placement = schedule.placement;
  bool fits = placement.ranks == static_cast<int>(schedule.ranks.size()) && placement.copies > 0 &&
              schedule.microbatches > 0;
  for (const int rank : placement.rank_of_stage) fits = fits && rank >= 0 && rank < placement.ranks;
  if (fits && placement.stages() > 0) return {};
  return fail(
      ErrorCode::kInvalidInput,
      fmt::format("{} lists, a placement of {} stages over {} ranks and {} micro-batches do "
                  "not fit together",
                  schedule.ranks.size(), placement.rank_of_stage.size(), placement.ranks,
                  schedule.microbatches),
      schedule.name);
}

enum class Problem : std::uint8_t {
  kNone,
  kShortPair,
  kCommunication,
  kNumbers,
  kNoOtherEnd,
  kWrongRank,
};

class ActionCheck {
 public:
  ActionCheck(const Schedule& schedule, Communication communication)
      : schedule_(schedule),
        values_(schedule),
        stages_(schedule.placement.stages()),
        communication_(communication) {}

  Problem find(std::size_t rank, std::size_t position) const {
    const std::vector<Action>& list = schedule_.ranks[rank];
    const Action& action = list[position];
    if (action.type == ActionType::kIdle) return Problem::kNone;
    if (action.type == ActionType::kOverlapFB)
      return position + action.members < list.size() ? Problem::kNone : Problem::kShortPair;
    const bool message = is_communication(action.type) || is_send_wait(action.type);
    if (message && communication_ == Communication::kRefused) return Problem::kCommunication;
    const bool of_microbatch = has_microbatch(action.type);
    if (action.stage < 0 || action.stage >= stages_ ||
        action.microbatch >= schedule_.microbatches || (of_microbatch && action.microbatch < 0))
      return Problem::kNumbers;
    const Action& end = is_send_wait(action.type) ? awaited_send(action) : action;
    if (message && values_.peer_stage(end) < 0) return Problem::kNoOtherEnd;
    const bool there = !of_microbatch || values_.rank_of(action.stage, action.microbatch) == rank;
    return there ? Problem::kNone : Problem::kWrongRank;
  }

  std::string describe(Problem problem, std::size_t rank, std::size_t position) const {
    const std::vector<Action>& list = schedule_.ranks[rank];
    const Action& action = list[position];
    switch (problem) {
      case Problem::kNone:
        break;
      case Problem::kShortPair:
        return fmt::format("found a pair of {} members, {} actions are behind it", action.members,
                           list.size() - position - 1);
      case Problem::kCommunication:
        return fmt::format("found {}, needed a schedule without communication",
                           print_action(action));
      case Problem::kNumbers:
        return fmt::format("found {}, needed a stage below {} and a micro-batch below {}",
                           print_action(action), stages_, schedule_.microbatches);
      case Problem::kNoOtherEnd:
        return fmt::format("found {}, which has no stage at its other end", print_action(action));
      case Problem::kWrongRank:
        return fmt::format("found {}, needed on rank {} by the placement", print_action(action),
                           values_.rank_of(action.stage, action.microbatch));
    }
    return {};
  }

 private:
  const Schedule& schedule_;
  ValueNumbers values_;
  int stages_;
  Communication communication_;
};

}  // namespace

Expected<void> check_input(const Schedule& schedule, Communication communication) {
  PLAIT_TRY_VOID(check_numbers(schedule));
  const ActionCheck check(schedule, communication);
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    for (std::size_t i = 0; i < schedule.ranks[rank].size(); ++i) {
      const Problem problem = check.find(rank, i);
      if (problem == Problem::kNone) continue;
      return fail(ErrorCode::kInvalidInput, check.describe(problem, rank, i),
                  ErrorPlace{.file = schedule.name,
                             .rank = static_cast<int>(rank),
                             .position = static_cast<int>(i),
                             .action = print_action_at(schedule.ranks[rank], i)});
    }
  }
  return {};
}

Expected<void> check_lowered(const Schedule& schedule) {
  if (is_lowered(schedule)) return {};
  return fail(ErrorCode::kInvalidInput,
              "found no communication, needed a lowered schedule: insert-comm goes before",
              schedule.name);
}

}  // namespace plait::passes_detail
