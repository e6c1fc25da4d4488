/// limit-sends: at most K sends of a rank without their wait at a time.
#pragma once

#include <string>

#include "plait/base/error.h"
#include "plait/ir/schedule.h"

namespace plait {

/// Before a send that would be outstanding beside K others, moves the wait of one of those to right
/// before it.
///
/// Input:  0F0 0SEND_F0 0F1 0SEND_F1 … 0WAIT_SEND_F0 … 0WAIT_SEND_F1                       (K = 1)
/// Output: 0F0 0SEND_F0 0F1 0WAIT_SEND_F0 0SEND_F1 … 0WAIT_SEND_F1
///
/// A rank's list without its waits is a chain; a receive comes behind its send, and what follows a
/// wait behind the receive of what it waits for. A wait may move where its receive does not depend
/// on this place. Of those that may, the first sent whose receive this place depends on anyhow;
/// else the first sent. Where that finds none though K is enough, waits are placed by a run (see
/// .cc).
///
/// Errors: a send without wait; waits in a circle; K too small (names the fewest that work).
/// Cost: O(P * A + sends * K) for P ranks and A actions.
/// Source of the rule: torch.distributed.pipelining 2.15, which searches its graph for each
/// candidate and refuses where the first rule finds none.
Expected<Schedule> limit_sends(Schedule schedule, int most);

struct FewestSends {
  int number = 0;
  /// Why one fewer does not work, a sentence.
  std::string proof;
};

/// The least K for which any placement of the waits works, none of them later than it stands.
///
/// Proof: run all lists at once; a send may run while fewer than K of its rank's are not received.
/// Whatever can run stays able to run, since only its own rank's chain uses up a rank's K, so every
/// run gets equally far. Waits of a placement that works make such a run; and a run to the end
/// gives a placement: before a send, the wait for the one that was received first. Errors: a send
/// without wait; waits in a circle. Cost: O(A * log A).
Expected<FewestSends> fewest_outstanding_sends(const Schedule& schedule);

}  // namespace plait
