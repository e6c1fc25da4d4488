#include <fmt/core.h>

#include <map>
#include <utility>
#include <vector>

#include "plait/ir/action_text.h"
#include "plait/passes/check_input.h"
#include "plait/passes/passes.h"
#include "plait/passes/rewrite.h"
#include "plait/passes/value_numbers.h"

namespace plait {
namespace {

using passes_detail::kNone;
using passes_detail::ValueNumbers;

/// Rewrites one rank's list; the receives held back are in the order in which they came.
class ReceiveHolder {
 public:
  explicit ReceiveHolder(const Schedule& schedule) : values_(schedule), held_(values_.size()) {}

  void rewrite(std::size_t rank, const std::vector<Action>& list, std::vector<Action>& output) {
    from_peer_.clear();
    for (std::size_t i = 0; i < list.size();) {
      if (is_recv(list[i].type)) {
        hold(rank, list[i++]);
        continue;
      }
      if (list[i].type == ActionType::kIdle) {
        ++i;
        continue;
      }
      if (is_send(list[i].type)) let_go_of_peer(rank, list[i], output);
      const std::size_t end = i + 1 + list[i].members;
      for (std::size_t member = i; member < end; ++member) {
        const std::size_t value = values_.needed(list[member]);
        if (value == kNone || !held_[value]) continue;
        output.push_back({list[member].stage, list[member].microbatch,
                          recv_type(direction_of(list[member].type)), 0});
        held_[value] = false;
      }
      i = passes_detail::append_block(list, i, output);
    }
  }

  /// A receive of the list that is still held, null if none is.
  const Action* left(const std::vector<Action>& list) const {
    for (const Action& action : list) {
      if (is_recv(action.type) && held_[values_.received(action)]) return &action;
    }
    return nullptr;
  }

 private:
  std::size_t peer_of(const Action& message) const {
    return values_.rank_of(values_.peer_stage(message), message.microbatch);
  }
  void hold(std::size_t rank, const Action& receive) {
    held_[values_.received(receive)] = true;
    const std::size_t peer = peer_of(receive);
    if (rank < peer) from_peer_[peer].push_back(receive);
  }
  void let_go_of_peer(std::size_t rank, const Action& send, std::vector<Action>& output) {
    const std::size_t peer = peer_of(send);
    if (rank >= peer) return;
    std::vector<Action>& receives = from_peer_[peer];
    for (const Action& receive : receives) {
      const std::size_t value = values_.received(receive);
      if (!held_[value]) continue;
      output.push_back(receive);
      held_[value] = false;
    }
    receives.clear();
  }

  ValueNumbers values_;
  std::vector<bool> held_;
  std::map<std::size_t, std::vector<Action>> from_peer_;
};

}  // namespace

Expected<Schedule> defer_recv(Schedule schedule, const PassOptions& /*options*/) {
  PLAIT_TRY_VOID(passes_detail::check_input(schedule, passes_detail::Communication::kTaken));
  PLAIT_TRY_VOID(passes_detail::check_lowered(schedule));
  ReceiveHolder holder(schedule);
  std::vector<Action> output;
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    std::vector<Action>& list = schedule.ranks[rank];
    output.clear();
    holder.rewrite(rank, list, output);
    if (const Action* receive = holder.left(list)) {
      return fail(
          ErrorCode::kInvalidInput,
          fmt::format("nothing behind {} on rank {} reads it", print_action(*receive), rank),
          schedule.name);
    }
    list.assign(output.begin(), output.end());
  }
  return schedule;
}

}  // namespace plait
