#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <string_view>

#include "plait/verify/rules.h"

namespace plait::verify_detail {
namespace {

enum class Matching : std::uint8_t { kEdge, kPair, kRank };

std::string_view matching_name(Matching matching) {
  switch (matching) {
    case Matching::kEdge:
      return "per directed edge";
    case Matching::kPair:
      return "per pair of ranks";
    case Matching::kRank:
      return "per rank";
  }
  return "";
}

constexpr std::size_t kNone = static_cast<std::size_t>(-1);

/// Runs the ranks' lists with messages that move only when both ends head their queues. A message
/// is numbered by direction, sender's stage and micro-batch.
class RendezvousRun {
 public:
  RendezvousRun(const RuleInput& input, Matching matching)
      : input_(input),
        matching_(matching),
        ranks_(input.schedule.ranks.size()),
        microbatches_(static_cast<std::size_t>(input.schedule.microbatches)),
        messages_(2 * static_cast<std::size_t>(input.stages()) * microbatches_),
        queues_(ranks_ * queues_per_rank()),
        next_(ranks_),
        waits_for_(ranks_, kNone) {}

  bool run() {
    ready_.reserve(ranks_);
    for (std::size_t rank = 0; rank < ranks_; ++rank) ready_.push_back(rank);
    while (!ready_.empty()) {
      const std::size_t rank = ready_.back();
      ready_.pop_back();
      advance(rank);
    }
    const bool all_read = std::all_of(queues_.begin(), queues_.end(),
                                      [](const auto& queue) { return queue.empty(); });
    bool all_done = true;
    for (std::size_t rank = 0; rank < ranks_; ++rank)
      all_done = all_done && next_[rank] == list(rank).size();
    return all_read && all_done;
  }

  void report(Diagnostics& findings) const {
    // From any message that is stuck, follow what it waits for until something comes again.
    std::vector<std::size_t> path;
    std::size_t message = any_stuck_message();
    while (std::find(path.begin(), path.end(), message) == path.end()) {
      path.push_back(message);
      message = behind(message).first;
    }
    path.erase(path.begin(), std::find(path.begin(), path.end(), message));
    std::vector<DiagnosticNote> notes;
    for (const std::size_t stuck : path) notes.push_back(behind(stuck).second);
    const DiagnosticNote first = notes.front();
    add(findings, "deadlock", {first.rank, first.position},
        fmt::format("with messages matched {} and not buffered, {} messages wait in a circle",
                    matching_name(matching_), path.size()),
        std::move(notes));
  }

 private:
  struct MessageState {
    Place send;
    Place receive;
    bool arrived = false;
    bool sent() const { return send.found(); }
    bool awaited() const { return receive.found(); }
  };

  const std::vector<Action>& list(std::size_t rank) const { return input_.schedule.ranks[rank]; }
  std::size_t queues_per_rank() const {
    switch (matching_) {
      case Matching::kEdge:
        return 2 * ranks_;  // out to each peer, in from each peer
      case Matching::kPair:
        return ranks_;
      case Matching::kRank:
        return 1;
    }
    return 1;
  }
  std::size_t number(bool forward, int sender_stage, int microbatch) const {
    return (static_cast<std::size_t>(sender_stage) * 2 + (forward ? 1 : 0)) * microbatches_ +
           static_cast<std::size_t>(microbatch);
  }
  std::size_t number_of(const Action& action) const {
    const bool forward = action.type == ActionType::kSendF || action.type == ActionType::kRecvF;
    const int sender = is_send(action.type) ? action.stage : action.stage + (forward ? -1 : 1);
    return number(forward, sender, action.microbatch);
  }
  std::size_t sender_of(std::size_t message) const {
    return static_cast<std::size_t>(
        input_.schedule.rank_of(sender_stage(message), microbatch_of(message)));
  }
  std::size_t receiver_of(std::size_t message) const {
    const int stage = sender_stage(message) + (is_forward(message) ? 1 : -1);
    return static_cast<std::size_t>(input_.schedule.rank_of(stage, microbatch_of(message)));
  }
  int sender_stage(std::size_t message) const {
    return static_cast<int>(message / microbatches_ / 2);
  }
  int microbatch_of(std::size_t message) const { return static_cast<int>(message % microbatches_); }
  bool is_forward(std::size_t message) const { return message / microbatches_ % 2 == 1; }
  std::string name(std::size_t message) const {
    return action_name(is_forward(message) ? ActionType::kSendF : ActionType::kSendB,
                       sender_stage(message), microbatch_of(message));
  }

  /// The queue a message is in at one of its ends.
  std::size_t queue_of(std::size_t message, bool at_sender) const {
    const std::size_t here = at_sender ? sender_of(message) : receiver_of(message);
    const std::size_t peer = at_sender ? receiver_of(message) : sender_of(message);
    switch (matching_) {
      case Matching::kEdge:
        return here * queues_per_rank() + (at_sender ? 0 : ranks_) + peer;
      case Matching::kPair:
        return here * queues_per_rank() + peer;
      case Matching::kRank:
        return here;
    }
    return here;
  }
  std::size_t head_of(std::size_t message, bool at_sender) const {
    return queues_[queue_of(message, at_sender)].front();
  }

  /// The message that an action waits for before it runs, kNone if it needs none or it is there.
  std::size_t awaited_by(const Action& action) const {
    std::size_t message = kNone;
    if (action.type == ActionType::kForward && action.stage > 0 &&
        input_.crosses(action.stage, action.stage - 1, action.microbatch)) {
      message = number(true, action.stage - 1, action.microbatch);
    } else if ((action.type == ActionType::kBackward ||
                action.type == ActionType::kBackwardInput) &&
               action.stage < input_.last_stage() &&
               input_.crosses(action.stage, action.stage + 1, action.microbatch)) {
      message = number(false, action.stage + 1, action.microbatch);
    }
    return message != kNone && messages_[message].arrived ? kNone : message;
  }

  void advance(std::size_t rank) {
    while (next_[rank] < list(rank).size()) {
      const std::size_t begin = next_[rank];
      const Action* block = &list(rank)[begin];
      for (int i = 0; i <= block->members; ++i) {
        const std::size_t message = awaited_by(block[i]);
        if (message == kNone) continue;
        waits_for_[rank] = message;
        return;
      }
      waits_for_[rank] = kNone;
      if (is_communication(block->type)) {
        post(*block, {static_cast<std::int32_t>(rank), static_cast<std::int32_t>(begin)});
      }
      next_[rank] = begin + 1 + block->members;
    }
  }

  void post(const Action& action, Place place) {
    const std::size_t message = number_of(action);
    const bool send = is_send(action.type);
    (send ? messages_[message].send : messages_[message].receive) = place;
    queues_[queue_of(message, send)].push_back(message);
    move_from(message);
  }

  /// Moves the message if it heads both its queues, and then what that lets through.
  void move_from(std::size_t first) {
    std::vector<std::size_t> candidates{first};
    while (!candidates.empty()) {
      const std::size_t message = candidates.back();
      candidates.pop_back();
      MessageState& state = messages_[message];
      if (state.arrived || !state.sent() || !state.awaited()) continue;
      auto& at_sender = queues_[queue_of(message, true)];
      auto& at_receiver = queues_[queue_of(message, false)];
      if (at_sender.front() != message || at_receiver.front() != message) continue;
      at_sender.pop_front();
      at_receiver.pop_front();
      state.arrived = true;
      if (!at_sender.empty()) candidates.push_back(at_sender.front());
      if (!at_receiver.empty()) candidates.push_back(at_receiver.front());
      const std::size_t receiver = receiver_of(message);
      if (waits_for_[receiver] == message) ready_.push_back(receiver);
    }
  }

  std::size_t any_stuck_message() const {
    for (const std::size_t message : waits_for_) {
      if (message != kNone && !messages_[message].arrived) return message;
    }
    for (const auto& queue : queues_) {
      if (!queue.empty()) return queue.front();
    }
    return kNone;
  }

  /// What a stuck message waits for, another stuck message, and the sentence that says so.
  std::pair<std::size_t, DiagnosticNote> behind(std::size_t message) const {
    const MessageState& state = messages_[message];
    for (const bool at_sender : {true, false}) {
      const std::size_t rank = at_sender ? sender_of(message) : receiver_of(message);
      if (at_sender ? state.sent() : state.awaited()) continue;
      // Not posted: its rank stands before it, waiting for another message.
      const Place place{static_cast<std::int32_t>(rank), static_cast<std::int32_t>(next_[rank])};
      return {waits_for_[rank],
              note(place, fmt::format("{} is not {} yet: {} waits for {}", name(message),
                                      at_sender ? "sent" : "awaited",
                                      place_name(input_.schedule, place), name(waits_for_[rank])))};
    }
    const bool at_sender = head_of(message, true) != message;
    const std::size_t head = head_of(message, at_sender);
    const Place place = at_sender ? state.send : state.receive;
    return {head, note(place,
                       fmt::format("{} of {} stands behind {} in the queue",
                                   place_name(input_.schedule, place), name(message), name(head)))};
  }

  const RuleInput& input_;
  Matching matching_;
  std::size_t ranks_;
  std::size_t microbatches_;
  std::vector<MessageState> messages_;
  std::vector<std::deque<std::size_t>> queues_;
  std::vector<std::size_t> next_;
  std::vector<std::size_t> waits_for_;
  std::vector<std::size_t> ready_;
};

}  // namespace

void check_deadlock(const RuleInput& input, Diagnostics& findings) {
  for (const Matching matching : {Matching::kEdge, Matching::kPair, Matching::kRank}) {
    RendezvousRun run(input, matching);
    if (run.run()) continue;
    run.report(findings);
    return;  // the coarser ones contain the same circle
  }
}

}  // namespace plait::verify_detail
