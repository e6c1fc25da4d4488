/// Whether a step ends with one queue per rank, by its messages alone.
///
/// A message that heads its rank's queue is posted: the compute before it in the list needs only
/// receives that stand before that compute (local-order), so before the message in the same queue,
/// and those have moved. So compute never holds a queue up, and the run of deadlock.cc comes down
/// to moving messages that head the queues of both their ranks until none does. The lists
/// themselves are the queues. Needs what the rules before it have proven: every value that crosses
/// ranks has one send and one receive, and both stand where they may.
#include <algorithm>

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
                       [](const Head& head) { return head.at == head.end; });
  }

 private:
  /// The first message of a rank's list that has not moved.
  struct Head {
    const Action* at;
    const Action* end;

    void skip() {
      while (at != end && !is_communication(at->type)) ++at;
      // A thousand lists take turns: the hardware does not learn where each goes on.
      __builtin_prefetch(at + std::min<std::ptrdiff_t>(end - at, 24));
    }
    void pop() {
      ++at;
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
    if (head.at == head.end) return false;
    const Action wanted = other_end(*head.at);
    const auto peer = static_cast<std::size_t>(holders_.rank_of(wanted.stage, wanted.microbatch));
    Head& other = heads_[peer];
    if (other.at == other.end || *other.at != wanted) return false;
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
