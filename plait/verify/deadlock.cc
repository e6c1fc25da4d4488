/// Runs the ranks' lists with messages that move only when both ends head their queues.
///
/// A run's state is how far each rank's list and each queue have got. A move that can be made stays
/// possible until it is made, whatever else moves: a rank waits for one message that only arrives
/// (a WAIT_SEND for one it has sent),
/// and two heads stay heads until they leave together. So the order of moves changes nothing (the
/// runs are confluent), and one run decides whether the step ends.
///
/// A run under a coarser matching is a run under a finer one: a queue per rank is an interleaving
/// of its queues per pair, and that of its queues per edge, each in the same list order, so what
/// heads the coarse queue heads the fine one. Hence what ends per rank ends per pair, and what ends
/// per pair ends per edge: the coarsest that is required runs first, and only if it stands still do
/// the others, to name the finest that does. verify_oracle_test.cc holds both against the runtime.
#include <fmt/core.h>

#include <algorithm>
#include <optional>

#include "plait/ir/direction.h"
#include "plait/verify/bit_table.h"
#include "plait/verify/queues.h"
#include "plait/verify/rules.h"

namespace plait::verify_detail {
namespace {

class RendezvousRun {
 public:
  RendezvousRun(const RuleInput& input, Matching matching)
      : input_(input),
        holders_(input.holders),
        matching_(matching),
        queues_(input, matching),
        arrived_(2 * static_cast<std::size_t>(holders_.stages()), holders_.microbatches()),
        next_(input.schedule.ranks.size()),
        waits_for_(next_.size()) {}

  bool run() {
    for (std::size_t rank = next_.size(); rank > 0; --rank) ready_.push_back(rank - 1);
    while (!ready_.empty()) {
      const std::size_t rank = ready_.back();
      ready_.pop_back();
      advance(rank);
    }
    for (std::size_t rank = 0; rank < next_.size(); ++rank) {
      if (next_[rank] < list(rank).size()) return false;
    }
    for (std::size_t queue = 0; queue < queues_.size(); ++queue) {
      if (!queues_.empty(queue)) return false;
    }
    return true;
  }

  void report(Diagnostics& findings) const {
    // Start at any stuck message and go to the message it waits for, until one is met twice.
    BitTable seen(2 * static_cast<std::size_t>(holders_.stages()), holders_.microbatches());
    std::vector<Action> path;
    std::vector<DiagnosticNote> notes;
    Action receive = any_stuck();
    while (!seen.get(row_of(receive), receive.microbatch)) {
      seen.set(row_of(receive), receive.microbatch);
      path.push_back(receive);
      auto [next, sentence] = behind(receive);
      notes.push_back(std::move(sentence));
      receive = next;
    }
    const auto tail = std::find(path.begin(), path.end(), receive) - path.begin();
    notes.erase(notes.begin(), notes.begin() + tail);
    const auto phrase =
        std::find_if(kMatchings.begin(), kMatchings.end(), [&](const MatchingInfo& info) {
          return info.matching == matching_;
        })->phrase;
    const Location first{notes.front().rank, notes.front().position};
    const std::size_t length = notes.size();
    Diagnostic& finding =
        add(findings, "deadlock", first,
            fmt::format("with messages matched {} and not buffered, {} messages wait in a circle",
                        phrase, length),
            std::move(notes));
    finding.matching = matching_;
  }

 private:
  const std::vector<Action>& list(std::size_t rank) const { return input_.schedule.ranks[rank]; }
  int rank_of(const Action& action) const {
    return holders_.rank_of(action.stage, action.microbatch);
  }
  /// Messages are named by their receives.
  static std::size_t row_of(const Action& receive) {
    return 2 * static_cast<std::size_t>(receive.stage) +
           static_cast<std::size_t>(direction_of(receive.type));
  }

  /// The receive of the message that an action lacks, or that a wait for a send waits for; an idle
  /// action if there is none.
  Action lacking(const Action& action) const {
    if (is_send_wait(action.type)) {
      const Action receive = other_end(awaited_send(action));
      return arrived_.get(row_of(receive), receive.microbatch) ? Action{} : receive;
    }
    if (!passes_value(action.type)) return {};
    const Direction direction = direction_of(action.type);
    const int maker = stage_before(direction, action.stage);
    if (maker < 0 || maker >= holders_.stages()) return {};
    const Action receive{action.stage, action.microbatch, recv_type(direction), 0};
    if (arrived_.get(row_of(receive), receive.microbatch) ||
        !holders_.crosses(action.stage, maker, action.microbatch))
      return {};
    return receive;
  }

  void advance(std::size_t rank) {
    const std::vector<Action>& actions = list(rank);
    while (next_[rank] < actions.size()) {
      const std::size_t begin = next_[rank];
      const std::size_t end = begin + 1 + actions[begin].members;
      for (std::size_t i = begin; i < end; ++i) {
        waits_for_[rank] = lacking(actions[i]);
        if (waits_for_[rank].type != ActionType::kIdle) return;
      }
      next_[rank] = end;
      if (!is_communication(actions[begin].type)) continue;
      const std::size_t queue = queues_.queue_of(actions[begin]);
      if (static_cast<std::size_t>(queues_.head(queue)) == begin) move_from(queue);
    }
  }

  /// The head of a queue if the rank's list has come to it.
  const Action* posted(std::size_t queue) const {
    if (queues_.empty(queue)) return nullptr;
    const auto rank = static_cast<std::size_t>(queues_.rank(queue));
    const auto position = static_cast<std::size_t>(queues_.head(queue));
    return position < next_[rank] ? &list(rank)[position] : nullptr;
  }

  /// Moves the queue's head if it heads the other end's queue too, and then the next heads of both.
  void move_from(std::size_t first) {
    candidates_.assign(1, first);
    while (!candidates_.empty()) {
      const std::size_t queue = candidates_.back();
      candidates_.pop_back();
      const Action* action = posted(queue);
      if (action == nullptr) continue;
      const Action wanted = other_end(*action);
      const std::size_t other_queue = queues_.queue_of(wanted);
      const Action* other = posted(other_queue);
      if (other == nullptr || *other != wanted) continue;
      queues_.pop(queue);
      queues_.pop(other_queue);
      arrive(recv_of(*action));
      candidates_.push_back(queue);
      candidates_.push_back(other_queue);
    }
  }

  void arrive(const Action& receive) {
    arrived_.set(row_of(receive), receive.microbatch);
    for (const Action& end : {receive, other_end(receive)}) {
      const auto rank = static_cast<std::size_t>(rank_of(end));
      if (waits_for_[rank] != receive) continue;
      waits_for_[rank] = {};
      ready_.push_back(rank);
    }
  }

  /// The receive of a message that has not moved.
  Action any_stuck() const {
    for (const Action& awaited : waits_for_) {
      if (awaited.type != ActionType::kIdle) return awaited;
    }
    std::size_t queue = 0;
    while (queues_.empty(queue)) ++queue;
    return recv_of(*posted(queue));  // every list has ended: all is posted
  }

  /// The position of one end of a message that has not moved, if its rank's list has come to it.
  std::optional<Location> posted_at(const Action& end) const {
    const std::size_t queue = queues_.queue_of(end);
    const int rank = queues_.rank(queue);
    for (const std::int32_t* position = queues_.begin(queue); position != queues_.end(queue);
         ++position) {
      if (static_cast<std::size_t>(*position) >= next_[static_cast<std::size_t>(rank)]) break;
      if (input_.action_at({rank, *position}) == end) return Location{rank, *position};
    }
    return std::nullopt;
  }

  /// What a stuck message waits for, another stuck message, and the sentence that says so.
  std::pair<Action, DiagnosticNote> behind(const Action& receive) const {
    const Action send = other_end(receive);
    for (const Action& end : {send, receive}) {
      const std::optional<Location> location = posted_at(end);
      if (!location) return before_posting(send, end);
      const Action* head = posted(queues_.queue_of(end));
      if (*head == end) continue;
      return {recv_of(*head), note(*location, fmt::format("{} of {} stands behind {} in the queue",
                                                          action_name(end), action_name(send),
                                                          action_name(send_of(*head))))};
    }
    return {receive, note({}, "")};  // not reached: what heads both queues moves
  }

  /// Its rank's list has not come to it: it stands before, waiting for another message.
  std::pair<Action, DiagnosticNote> before_posting(const Action& send, const Action& end) const {
    const auto rank = static_cast<std::size_t>(rank_of(end));
    const Location location{static_cast<std::int32_t>(rank),
                            static_cast<std::int32_t>(next_[rank])};
    const Action& awaited = waits_for_[rank];
    const std::string until = is_send_wait(input_.action_at(location).type)
                                  ? fmt::format("until rank {} receives", rank_of(awaited))
                                  : "for";
    return {awaited,
            note(location, fmt::format("{} is not {} yet: {} waits {} {}", action_name(send),
                                       is_send(end.type) ? "sent" : "awaited",
                                       name_at(input_.schedule, location), until,
                                       action_name(send_of(awaited))))};
  }

  const RuleInput& input_;
  const Holders& holders_;
  Matching matching_;
  Queues queues_;
  BitTable arrived_;
  std::vector<std::size_t> next_;
  std::vector<Action> waits_for_;  // by rank: the receive of what its next action waits for
  std::vector<std::size_t> ready_;
  std::vector<std::size_t> candidates_;
};

}  // namespace

bool step_ends(const RuleInput& input) {
  const std::vector<Matching>& required = input.options.matchings;
  if (required.empty()) return false;
  const Matching coarsest = *std::max_element(required.begin(), required.end());
  if (coarsest == Matching::kRank) return step_ends_per_rank(input);
  return RendezvousRun(input, coarsest).run();
}

void check_deadlock(const RuleInput& input, Diagnostics& findings) {
  const std::vector<Matching>& required = input.options.matchings;
  for (const MatchingInfo& info : kMatchings) {
    if (std::find(required.begin(), required.end(), info.matching) == required.end()) continue;
    RendezvousRun run(input, info.matching);
    if (run.run()) continue;
    run.report(findings);
    return;  // the coarser ones contain the same circle
  }
}

}  // namespace plait::verify_detail
