/// Whether a step ends with one queue per rank, by its messages alone.
///
/// Claim: a message that heads its rank's queue is posted. Proof: compute before it in the list
/// needs only receives that stand before that compute (rule local-order). Those receives stand
/// before the message in the same queue, so they have moved, and the compute has run. A wait for a
/// send before it in the list needs a send that stands before that wait (rule send-wait), which has
/// moved too. Hence neither holds a queue up, and the run of deadlock.cc comes down to this: while
/// a message heads the queues of both its ranks, it moves. The lists themselves are the queues.
///
/// Relies on message-match, local-order and send-wait: every value that crosses ranks has one send
/// and one receive, and both stand where they may.
#include <algorithm>

#include "plait/ir/direction.h"
#include "plait/verify/rules.h"

namespace plait::verify_detail {
namespace {

class HeadRun {
 public:
  explicit HeadRun(const RuleInput& input) : holders_(input.holders) {
    for (const std::vector<Action>& list : input.schedule.ranks) {
      heads_.push_back({list.data(), list.data() + list.size()});
      heads_.back().skip();
    }
    waits_.assign(heads_.size(), false);
  }

  bool run() {
    for (std::size_t rank = heads_.size(); rank > 0; --rank) add(rank - 1);
    while (!ready_.empty()) {
      const std::size_t rank = ready_.back();
      ready_.pop_back();
      waits_[rank] = false;
      while (move_head(rank)) {
      }
    }
    return std::all_of(heads_.begin(), heads_.end(),
                       [](const Head& head) { return head.next == head.end; });
  }

 private:
  /// The first message of a rank's list that has not moved.
  struct Head {
    const Action* next;
    const Action* end;

    void skip() {
      while (next != end && !is_communication(next->type)) ++next;
      // A thousand lists take turns, too many for the hardware's own prefetcher.
      __builtin_prefetch(next + std::min<std::ptrdiff_t>(end - next, 24));
    }
    void pop() {
      ++next;
      skip();
    }
  };

  void add(std::size_t rank) {
    if (waits_[rank]) return;
    waits_[rank] = true;
    ready_.push_back(rank);
  }

  bool move_head(std::size_t rank) {
    Head& head = heads_[rank];
    if (head.next == head.end) return false;
    const Action wanted = other_end(*head.next);
    const auto peer = static_cast<std::size_t>(holders_.rank_of(wanted.stage, wanted.microbatch));
    Head& other = heads_[peer];
    if (other.next == other.end || *other.next != wanted) return false;
    head.pop();
    other.pop();
    add(peer);
    return true;
  }

  const Holders& holders_;
  std::vector<Head> heads_;         // by rank
  std::vector<std::size_t> ready_;  // ranks whose head may be able to move
  std::vector<char> waits_;         // by rank: it is among them
};

}  // namespace

bool step_ends_per_rank(const RuleInput& input) { return HeadRun(input).run(); }

}  // namespace plait::verify_detail
