#include <utility>
#include <vector>

#include "plait/ir/direction.h"
#include "plait/passes/check_input.h"
#include "plait/passes/passes.h"
#include "plait/passes/rewrite.h"
#include "plait/passes/value_numbers.h"

namespace plait {
namespace {

using passes_detail::ValueNumbers;

class SendWaitInserter {
 public:
  explicit SendWaitInserter(const Schedule& schedule) : values_(schedule), open_(values_.size()) {}

  void rewrite(const std::vector<Action>& list, std::vector<Action>& output) {
    sends_.clear();
    for (std::size_t i = 0; i < list.size();) {
      if (list[i].type == ActionType::kIdle || is_send_wait(list[i].type)) {
        ++i;
        continue;
      }
      if (is_send(list[i].type)) {
        sends_.push_back(list[i]);
        open_[number(list[i])] = true;
      }
      const std::size_t end = passes_detail::append_block(list, i, output);
      for (; i < end; ++i) end_forward_send(list[i], output);
    }
    for (const Action& send : sends_) end_send(send, output);
  }

 private:
  std::size_t number(const Action& send) const { return values_.received(other_end(send)); }

  /// The gradient of what a stage sent forward is there: what was sent has been read.
  void end_forward_send(const Action& action, std::vector<Action>& output) {
    const Action send{action.stage, action.microbatch, ActionType::kSendF, 0};
    if (passes_gradient(action.type) && values_.peer_stage(send) >= 0) end_send(send, output);
  }
  void end_send(const Action& send, std::vector<Action>& output) {
    if (!open_[number(send)]) return;
    open_[number(send)] = false;
    output.push_back(wait_for_send(send));
  }

  ValueNumbers values_;
  std::vector<bool> open_;     // by value: sent by this rank, without a wait so far
  std::vector<Action> sends_;  // of the rank at hand
};

}  // namespace

Expected<Schedule> insert_send_wait(Schedule schedule, const PassOptions& /*options*/) {
  PLAIT_TRY_VOID(passes_detail::check_input(schedule, passes_detail::Communication::kTaken));
  PLAIT_TRY_VOID(passes_detail::check_lowered(schedule));
  SendWaitInserter inserter(schedule);
  return passes_detail::rewrite_lists(
      std::move(schedule), [&](std::size_t /*rank*/, const std::vector<Action>& list,
                               std::vector<Action>& output) { inserter.rewrite(list, output); });
}

}  // namespace plait
