/// SendGraph: the lists of all ranks without their waits for sends, and where those stand.
#pragma once

#include <cstddef>
#include <vector>

#include "plait/base/error.h"
#include "plait/ir/direction.h"
#include "plait/ir/schedule.h"
#include "plait/passes/value_numbers.h"

namespace plait::passes_detail {

/// A wait for a send. Positions are those of chains.
struct Wait {
  std::size_t value = kNone;     ///< ValueNumbers' number of what was sent
  std::size_t before = 0;        ///< position that follows it; the chain's length: none does
  std::size_t receiver = kNone;  ///< rank
  std::size_t receive = 0;       ///< position on that rank's chain
};

/// A chain is a rank's list without its waits for sends. Queries are O(1).
class SendGraph {
 public:
  /// Needs check_input() and check_lowered(). Errors: a send without a receive, or without a wait
  /// behind it; a wait without its send. Cost: O(actions); 5 words for each message.
  static Expected<SendGraph> read(const Schedule& schedule);

  std::size_t ranks() const { return chains_.size(); }
  std::size_t values() const { return values_.size(); }
  const std::vector<Action>& chain(std::size_t rank) const { return chains_[rank]; }
  /// Of a rank, in list order.
  const std::vector<Wait>& waits(std::size_t rank) const { return waits_[rank]; }
  /// The most that any rank sends.
  std::size_t most_sends() const;

  /// The value that a position sends or receives, kNone if it does neither.
  std::size_t sent(std::size_t rank, std::size_t position) const {
    const Action& action = chains_[rank][position];
    return is_send(action.type) ? values_.received(other_end(action)) : kNone;
  }
  std::size_t received(std::size_t rank, std::size_t position) const {
    const Action& action = chains_[rank][position];
    return is_recv(action.type) ? values_.received(action) : kNone;
  }
  std::size_t sender(std::size_t value) const { return ends_[value].sender; }
  std::size_t receiver(std::size_t value) const { return ends_[value].receiver; }
  std::size_t receive_position(std::size_t value) const { return ends_[value].receive; }
  /// What follows the value's wait on its sender's chain.
  std::size_t wait_position(std::size_t value) const { return ends_[value].wait; }
  /// Of a receive: the rank that sends; kNone of any other position.
  std::size_t sender_of(std::size_t rank, std::size_t position) const {
    const std::size_t value = received(rank, position);
    return value == kNone ? kNone : ends_[value].sender;
  }
  /// Of a receive: where its send stands.
  std::size_t send_position(std::size_t rank, std::size_t position) const {
    return ends_[received(rank, position)].send;
  }

  Wait wait(std::size_t value, std::size_t before) const {
    return {value, before, ends_[value].receiver, ends_[value].receive};
  }
  void set_waits(std::size_t rank, std::vector<Wait> waits);

  /// The schedule with its waits where they stand now.
  Schedule write(Schedule schedule) &&;

 private:
  struct Ends {
    std::size_t sender = kNone;
    std::size_t send = 0;
    std::size_t receiver = kNone;
    std::size_t receive = 0;
    std::size_t wait = kNone;
  };

  explicit SendGraph(const Schedule& schedule) : values_(schedule), ends_(values_.size()) {}
  Expected<void> read_rank(const Schedule& schedule, std::size_t rank);
  Expected<void> check_ends(const Schedule& schedule) const;

  ValueNumbers values_;
  std::vector<Ends> ends_;  // by value
  std::vector<std::vector<Action>> chains_;
  std::vector<std::vector<Wait>> waits_;
};

}  // namespace plait::passes_detail
