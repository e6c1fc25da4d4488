#include <fmt/core.h>

#include <array>
#include <optional>
#include <vector>

#include "plait/ir/direction.h"
#include "plait/verify/rules.h"

namespace plait::verify_detail {
namespace {

/// Where a rank sends and waits, by stage of the rank, micro-batch and direction.
class SendWaits {
 public:
  SendWaits(const RankView& view, Location example, Diagnostics& findings)
      : view_(view),
        example_(example),
        findings_(findings),
        microbatches_(static_cast<std::size_t>(view.input().holders.microbatches())),
        sent_(2 * view.stages().size() * microbatches_, -1),
        awaited_(sent_) {}

  void run() {
    const std::vector<Action>& list = view_.list();
    for (std::size_t i = 0; i < list.size(); ++i) {
      const bool waits = is_send_wait(list[i].type);
      if (!waits && !is_send(list[i].type)) continue;
      if (!view_.input().holders.in_place(view_.rank(), list[i])) continue;
      if (waits) {
        wait(i, list[i]);
      } else if (std::int32_t& sent = sent_[cell(list[i])]; sent < 0) {
        sent = static_cast<std::int32_t>(i);  // the rule `duplicate` reports the second one
      }
    }
    for (const int stage : view_.stages()) {
      for (int mb = 0; mb < static_cast<int>(microbatches_); ++mb) {
        for (const Direction direction : {Direction::kForward, Direction::kBackward})
          check_awaited({stage, mb, send_type(direction), 0});
      }
    }
  }

 private:
  std::size_t cell(const Action& action) const {
    return (static_cast<std::size_t>(view_.local(action.stage)) * microbatches_ +
            static_cast<std::size_t>(action.microbatch)) *
               2 +
           static_cast<std::size_t>(direction_of(action.type));
  }

  void wait(std::size_t position, const Action& action) {
    const Action send = awaited_send(action);
    std::int32_t& first = awaited_[cell(action)];
    if (first >= 0) {
      add(findings_, "send-wait", view_.location(position),
          fmt::format("{} stands here again", action_name(action)),
          {note(view_.location(first), "first here")});
      return;
    }
    first = static_cast<std::int32_t>(position);
    if (sent_[cell(action)] >= 0) return;
    const std::int32_t behind =
        view_.holds_messages() ? view_.position(send.type, send.stage, send.microbatch) : -1;
    Diagnostic& finding =
        add(findings_, "send-wait", view_.location(position),
            behind >= 0 ? fmt::format("{} waits for {}, which stands behind it",
                                      action_name(action), action_name(send))
                        : fmt::format("{} waits for {}, which the rank does not send",
                                      action_name(action), action_name(send)));
    if (behind >= 0) finding.notes.push_back(note(view_.location(behind), action_name(send)));
  }

  void check_awaited(const Action& send) {
    if (sent_[cell(send)] < 0 || awaited_[cell(send)] >= 0) return;
    const Action wait = wait_for_send(send);
    if (view_.input().strayed(wait.type, wait.stage, wait.microbatch)) return;
    add(findings_, "send-wait", view_.location(sent_[cell(send)]),
        fmt::format("{} has no {} behind it, needed one as the schedule has waits",
                    action_name(send), action_name(wait)),
        {note(example_, name_at(view_.input().schedule, example_))});
  }

  const RankView& view_;
  Location example_;  // of a wait of the schedule
  Diagnostics& findings_;
  std::size_t microbatches_;
  std::vector<std::int32_t> sent_;     // positions, -1 before
  std::vector<std::int32_t> awaited_;  // of waits
};

/// A rank's reductions, of which one at most is pending.
class ReduceWaits {
 public:
  ReduceWaits(const RankView& view, Location example, Diagnostics& findings)
      : view_(view), example_(example), findings_(findings) {}

  void run() {
    const std::vector<Action>& list = view_.list();
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (!is_reduction(list[i].type)) continue;
      if (!view_.input().holders.in_place(view_.rank(), list[i])) continue;
      if (list[i].type == ActionType::kReduceGrad) {
        reduce(i);
      } else {
        wait(i, list[i]);
      }
    }
    if (pending_) report_without_wait(*pending_);
  }

 private:
  const Action& at(std::size_t position) const { return view_.list()[position]; }
  bool several_hold(int stage) const {
    const Holders& holders = view_.input().holders;
    for (int copy = 1; copy < holders.copies(); ++copy) {
      if (holders.rank_of_copy(stage, copy) != holders.rank_of_copy(stage, 0)) return true;
    }
    return false;
  }

  void reduce(std::size_t position) {
    if (several_hold(at(position).stage)) return;  // it ends with the step
    if (pending_) {
      if (!has_wait_behind(position, at(*pending_).stage)) {
        report_without_wait(*pending_);
      } else {
        add(findings_, "reduce-wait", view_.location(position),
            fmt::format("{} starts while that of stage {} is pending, needed one at a time",
                        action_name(at(position)), at(*pending_).stage),
            {note(view_.location(*pending_), action_name(at(*pending_)))});
      }
    }
    pending_ = position;
  }

  void wait(std::size_t position, const Action& action) {
    if (several_hold(action.stage)) {
      add(findings_, "reduce-wait", view_.location(position),
          fmt::format("{} waits for ranks of the same pipeline, whose reduction ends with the "
                      "step: needed none",
                      action_name(action)));
      return;
    }
    if (pending_ && at(*pending_).stage == action.stage) {
      pending_.reset();
      return;
    }
    // Of two that are pending, the first is known: the second one's start is the finding.
    if (starts_before(position, action.stage) && !has_wait_before(position, action.stage)) return;
    add(findings_, "reduce-wait", view_.location(position),
        fmt::format("{} waits for a reduction that is not pending", action_name(action)));
  }

  bool starts_before(std::size_t position, int stage) const {
    return holds(0, position, stage, ActionType::kReduceGrad);
  }
  bool has_wait_before(std::size_t position, int stage) const {
    return holds(0, position, stage, ActionType::kWaitReduceGrad);
  }
  bool has_wait_behind(std::size_t position, int stage) const {
    return holds(position, view_.list().size(), stage, ActionType::kWaitReduceGrad);
  }
  bool holds(std::size_t begin, std::size_t end, int stage, ActionType type) const {
    for (std::size_t i = begin; i < end; ++i) {
      if (at(i).type == type && at(i).stage == stage) return true;
    }
    return false;
  }

  void report_without_wait(std::size_t position) {
    const Action wait{at(position).stage, -1, ActionType::kWaitReduceGrad, 0};
    if (view_.input().strayed(wait.type, wait.stage, wait.microbatch)) return;
    add(findings_, "reduce-wait", view_.location(position),
        fmt::format("{} has no {} behind it, needed one as the schedule has waits",
                    action_name(at(position)), action_name(wait)),
        {note(example_, name_at(view_.input().schedule, example_))});
  }

  const RankView& view_;
  Location example_;
  Diagnostics& findings_;
  std::optional<std::size_t> pending_;  // position of its REDUCE_GRAD
};

/// A wait of the schedule; rank -1 if it has none.
Location first_wait(const Schedule& schedule) {
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    const std::vector<Action>& list = schedule.ranks[rank];
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (is_wait(list[i].type))
        return {static_cast<std::int32_t>(rank), static_cast<std::int32_t>(i)};
    }
  }
  return {};
}

template <typename Waits>
void check_each_rank(const RuleInput& input, Diagnostics& findings) {
  const Location example = first_wait(input.schedule);
  if (example.rank < 0) return;
  RankView view(input, is_lowered(input.schedule));
  for (int rank = 0; rank < input.schedule.placement.ranks; ++rank) {
    view.read(rank);
    Waits(view, example, findings).run();
  }
}

}  // namespace

void check_send_wait(const RuleInput& input, Diagnostics& findings) {
  check_each_rank<SendWaits>(input, findings);
}

void check_reduce_wait(const RuleInput& input, Diagnostics& findings) {
  check_each_rank<ReduceWaits>(input, findings);
}

}  // namespace plait::verify_detail
