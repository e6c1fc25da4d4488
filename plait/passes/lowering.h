/// Lowering as torch does it, with its options; and lists brought to a dialect.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/ir/dialect.h"
#include "plait/ir/schedule.h"

namespace plait {

/// Options of torch.distributed.pipelining's lowering, by the names of `plait make --lower`.
struct LoweringOptions {
  Dialect dialect = kNewestDialect;
  /// Stages of a rank that are whole at a time; a pair that brings two at once may exceed it by
  /// one.
  int max_active_stages = 3;
  /// How many stages ahead are unsharded: "full" is max_active_stages, "auto" min(rank + 2, that),
  /// or a number for each rank, with commas.
  std::string unshard_lookahead = "full";
  bool defer_reduce_grad_wait = false;
  bool defer_recv = false;
  /// Sends of a rank without their wait at a time.
  std::optional<int> max_outstanding_sends;
  /// The fewest that work, found.
  bool fewest_outstanding_sends = false;
};

struct Lowered {
  Schedule schedule;
  std::vector<std::string> notes;  ///< what was found for the user
};

/// Runs insert-unshard, insert-reduce-grad, insert-reduce-wait, insert-comm, insert-send-wait,
/// defer-recv and limit-sends, as far as options and dialect ask for them.
///
/// For torch's own schedules the result is torch's to the byte. Errors: an option out of torch's
/// limits (with the numbers); waits asked for in torch 2.13's dialect; an action of more stages
/// than may be whole; those of the passes. Cost: that of the passes.
Expected<Lowered> lower_as_torch(Schedule schedule, const LoweringOptions& options);

/// The UNSHARD and RESHARD of lower_as_torch(), by residency and look-ahead. Errors: either out of
/// its limits; an action of more stages than may be whole. Cost: that of insert-unshard.
Expected<Schedule> insert_unshards(Schedule schedule, const LoweringOptions& options);

/// Waits for sends, where there are none, and no more than `most` sends of a rank without theirs.
/// Errors: those of limit_sends(). Cost: that of insert-send-wait and limit_sends().
Expected<Schedule> wait_for_sends(Schedule schedule, int most);

/// Takes out all waits, or adds those that torch 2.15 needs: insert-reduce-wait to reductions,
/// insert-send-wait to sends, if the lists hold no wait of any kind. Cost: O(actions).
Expected<Schedule> in_dialect(Schedule schedule, Dialect dialect);

/// insert-comm, with waits for what it sends if the schedule has waits for its reductions: what a
/// schedule needs that came without communication. Errors: those of insert-comm.
Expected<Schedule> insert_messages(Schedule schedule);

}  // namespace plait
