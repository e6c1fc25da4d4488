#include "plait/passes/insert_comm.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "plait/ir/action_text.h"

namespace plait {
namespace {

class CommInserter {
 public:
  explicit CommInserter(const Schedule& input)
      : input_(input),
        microbatches_(static_cast<std::size_t>(input.microbatches)),
        has_input_(2 * static_cast<std::size_t>(input.placement.stages()) * microbatches_),
        next_(input.ranks.size()),
        lists_(input.ranks.size()) {}

  Expected<Schedule> run() {
    while (true) {
      bool progress = false;
      bool left = false;
      for (std::size_t rank = 0; rank < lists_.size(); ++rank) {
        if (next_[rank] == input_.ranks[rank].size()) continue;
        left = true;
        if (missing_input(rank) != nullptr) continue;
        emit(rank);
        progress = true;
      }
      if (!left) break;
      if (!progress) return stuck();
    }
    Schedule output = input_;
    output.ranks = std::move(lists_);
    return output;
  }

 private:
  static bool is_backward_of_input(const Action& action) {
    return action.type == ActionType::kBackwardInput || action.type == ActionType::kBackward;
  }
  std::size_t slot(bool forward, int stage, int microbatch) const {
    return (static_cast<std::size_t>(stage) * 2 + (forward ? 1 : 0)) * microbatches_ +
           static_cast<std::size_t>(microbatch);
  }
  /// The first member of the rank's next action whose input is not there, null if all are.
  const Action* missing_input(std::size_t rank) const {
    const Action* begin = &input_.ranks[rank][next_[rank]];
    for (const Action* action = begin; action <= begin + begin->members; ++action) {
      const bool forward = action->type == ActionType::kForward && action->stage > 0;
      const bool backward =
          is_backward_of_input(*action) && action->stage < input_.placement.stages() - 1;
      if ((forward || backward) && !has_input_[slot(forward, action->stage, action->microbatch)])
        return action;
    }
    return nullptr;
  }

  void emit(std::size_t rank) {
    const std::vector<Action>& list = input_.ranks[rank];
    const std::size_t begin = next_[rank];
    const std::size_t end = begin + 1 + list[begin].members;
    next_[rank] = end;
    if (list[begin].type == ActionType::kIdle) return;
    for (std::size_t i = begin; i < end; ++i) lists_[rank].push_back(list[i]);
    for (std::size_t i = begin; i < end; ++i) hand_over(rank, list[i]);
  }

  /// Marks the consumer's input as there, and adds the message if it crosses ranks.
  void hand_over(std::size_t rank, const Action& action) {
    const bool forward = action.type == ActionType::kForward;
    if (!forward && !is_backward_of_input(action)) return;
    const int consumer = forward ? action.stage + 1 : action.stage - 1;
    if (consumer < 0 || consumer >= input_.placement.stages()) return;
    has_input_[slot(forward, consumer, action.microbatch)] = true;
    const auto peer = static_cast<std::size_t>(input_.rank_of(consumer, action.microbatch));
    if (peer == rank) return;
    lists_[rank].push_back(
        {action.stage, action.microbatch, forward ? ActionType::kSendF : ActionType::kSendB, 0});
    lists_[peer].push_back(
        {consumer, action.microbatch, forward ? ActionType::kRecvF : ActionType::kRecvB, 0});
  }

  tl::unexpected<Error> stuck() const {
    std::string waits;
    for (std::size_t rank = 0; rank < lists_.size(); ++rank) {
      if (next_[rank] == input_.ranks[rank].size()) continue;
      const Action* waiting = missing_input(rank);
      const bool forward = waiting->type == ActionType::kForward;
      const int producer = forward ? waiting->stage - 1 : waiting->stage + 1;
      waits += fmt::format(
          "\n  rank {} position {} ({}) waits for the {} of stage {} micro-batch {} on rank {}",
          rank, next_[rank], print_action_at(input_.ranks[rank], next_[rank]),
          forward ? "forward" : "backward", producer, waiting->microbatch,
          input_.rank_of(producer, waiting->microbatch));
    }
    return fail(ErrorCode::kCheckFailed, fmt::format("no rank can go on:{}", waits), input_.name);
  }

  const Schedule& input_;
  std::size_t microbatches_;
  std::vector<bool> has_input_;
  std::vector<std::size_t> next_;
  std::vector<std::vector<Action>> lists_;
};

Expected<void> check_input(const Schedule& schedule) {
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    const std::vector<Action>& list = schedule.ranks[rank];
    for (std::size_t i = 0; i < list.size(); ++i) {
      const Action& action = list[i];
      const auto where = [&] {
        return fmt::format("{}: rank {} position {}", schedule.name, rank, i);
      };
      if (is_communication(action.type)) {
        return fail(
            ErrorCode::kInvalidInput,
            fmt::format("found {}, needed a schedule without communication", print_action(action)),
            where());
      }
      if (is_compute(action.type) &&
          (action.stage < 0 || action.stage >= schedule.placement.stages() ||
           action.microbatch < 0 || action.microbatch >= schedule.microbatches)) {
        return fail(
            ErrorCode::kInvalidInput,
            fmt::format("found {}, needed a stage below {} and a micro-batch below {}",
                        print_action(action), schedule.placement.stages(), schedule.microbatches),
            where());
      }
    }
  }
  return {};
}

}  // namespace

Expected<Schedule> insert_comm(const Schedule& schedule) {
  PLAIT_TRY_VOID(check_input(schedule));
  return CommInserter(schedule).run();
}

}  // namespace plait
