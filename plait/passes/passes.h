/// The passes, in one table that the command line, the docs and the tests iterate.
///
/// A pass takes a schedule by value, so that it can rewrite in place, and returns the new one; it
/// is deterministic, and never argues for its result: verify() decides what may run. Each drops
/// idle slots but split-backward and unpair, which keep them. Costs are in P ranks, S stages, M
/// micro-batches and A actions. Errors of all: numbers out of range, an action on a wrong rank.
#pragma once

#include <array>
#include <functional>
#include <string_view>

#include "plait/base/error.h"
#include "plait/base/units.h"
#include "plait/ir/schedule.h"

namespace plait {

/// How long a step of a schedule without communication takes; an error if it cannot run.
using SchedulePrice = std::function<Expected<Nanoseconds>(const Schedule&)>;

struct PassOptions {
  int number = 0;       ///< the N of "name=N"; what it means is in the table
  SchedulePrice price;  ///< for passes that can choose by it; empty: none is known
};

/// insert-comm, with the signature of the table; insert_comm.h has the plain function.
///
/// Input:  rank 0: 0F0 0B0              rank 1: 1F0 1B0
/// Output: rank 0: 0F0 0SEND_F0 0RECV_B0 0B0
///         rank 1: 1RECV_F0 1F0 1B0 1SEND_B0
Expected<Schedule> insert_comm_pass(Schedule schedule, const PassOptions& options);

/// Unshards a stage before it is needed and reshards it when others are needed first, so that at
/// most N stages of a rank are whole at a time (a pair that brings two at once may exceed N by
/// one).
///
/// Input:  0F0 1F0 1B0 0B0                                                       (N = 1)
/// Output: 0UNSHARD 0F0 0RESHARD 1UNSHARD 1F0 1B0 1RESHARD 0UNSHARD 0B0 0RESHARD
///
/// Before each action the next stages are the first N distinct ones from there on. Those that are
/// no longer among them are resharded, ascending; then those that are new are unsharded, in the
/// order of need. What the input holds of both is taken out first: running it twice is running it
/// once. Cost: O(A * V) at most, O(A * N) where a rank stays with a stage for a while. Source:
/// torch.distributed.pipelining, _add_unshard_reshard, which takes O(A^2).
Expected<Schedule> insert_unshard(Schedule schedule, const PassOptions& options);

/// Reduces a stage's gradients right behind the last of its W and B that the rank has.
///
/// Input:  0F0 0B0 0F1 0B1
/// Output: 0F0 0B0 0F1 0B1 0REDUCE_GRAD
///
/// With two copies of a stage each rank reduces after its own share of the micro-batches; the order
/// is that of the stages, so that both holders have the same. Existing ones are taken out first:
/// running it twice is running it once. Cost: O(A + P * S). Source: torch.distributed.pipelining,
/// _add_reduce_grad.
Expected<Schedule> insert_reduce_grad(Schedule schedule, const PassOptions& options);

/// Joins an I and the W of the same stage and micro-batch right behind it into a B.
///
/// Input:  0I0 0I1 0W0 0I2 0W2 0W1
/// Output: 0I0 0I1 0W0 0B2 0W1
///
/// Members of pairs are left as they are. Running it twice is running it once. Cost: O(A).
/// Source: torch.distributed.pipelining, _merge_bw.
Expected<Schedule> merge_backward(Schedule schedule, const PassOptions& options);

/// Splits each B into I and W. In a pair the I stays and the W stands right behind the pair.
///
/// Input:  0B0 (0F2;0B1)OVERLAP_F_B
/// Output: 0I0 0W0 (0F2;0I1)OVERLAP_F_B 0W1
///
/// Running it twice is running it once. Cost: O(A).
Expected<Schedule> split_backward(Schedule schedule, const PassOptions& options);

/// Joins neighbouring forwards and backwards of different micro-batches into pairs, greedily from
/// the left, where the schedule of blocks is still free of a circle. Members keep their order.
///
/// Input:  rank 0: 0F0 0F1 0B0 0F2 0B1 0B2             rank 1: 1F0 1B0 1F1 1B1 1F2 1B2
/// Output: rank 0: 0F0 0F1 (0B0;0F2)OVERLAP_F_B 0B1 0B2
///         rank 1: 1F0 (1B0;1F1)OVERLAP_F_B (1B1;1F2)OVERLAP_F_B 1B2
///
/// A backward is a B; with N = 1 an I as well. All pairs are tried at once in a run with free
/// messages; where it stands still, the first rank that could run its pair's first member alone
/// gives that pair up. What can run need not pay: which pairs are worth it is the price's to say.
///
/// With a price those pairs are kept that make the step shorter, also with a forward more to warm
/// up (priced_pair.h): 1f1b and interleaved-1f1b need it for pairs that do not wait for each other.
///
/// Errors: communication in the input; the input itself waits in a circle. Cost: O(A + pairs given
/// up * P / 64); with a price at most 2000 prices more.
Expected<Schedule> pair(Schedule schedule, const PassOptions& options);

/// Runs N forwards more on each rank before its first backward: each forward takes the place of the
/// one N before it. Holds N activations more.
///
/// Input:  0F0 0B0 0F1 0B1 0F2 0B2
/// Output: 0F0 0F1 0B0 0F2 0B1 0B2                                               (N = 1)
///
/// Errors: communication or pairs in the input. Cost: O(A).
Expected<Schedule> warm_up(Schedule schedule, const PassOptions& options);

/// The same with N for each hop to the last rank, (P - 1 - r) N on rank r: a pair then need not
/// wait for a pair of the next rank that waits for it. Source: the one forward more of
/// Megatron-LM's combined 1F1B.
Expected<Schedule> warm_up_per_hop(Schedule schedule, const PassOptions& options);

/// Dissolves pairs: the members follow each other in their order. Cost: O(A).
///
/// Input:  (0F7;7B3)OVERLAP_F_B
/// Output: 0F7 7B3
Expected<Schedule> unpair(Schedule schedule, const PassOptions& options);

/// Takes out idle slots. Cost: O(A).
Expected<Schedule> drop_idle(Schedule schedule, const PassOptions& options);

/// Holds every receive back until right before its reader, or before a send to the same peer where
/// the own rank is the lower one.
///
/// Input:  1RECV_F0 1RECV_F1 1F0 1B0 1SEND_B0 1F1 1B1 1SEND_B1
/// Output: 1RECV_F0 1F0 1B0 1SEND_B0 1RECV_F1 1F1 1B1 1SEND_B1
///
/// What comes out may receive in another order than the peer sends (zbv at P = 2, M = 3), which the
/// proof catches; place-recv=0 does not. Running it twice is running it once.
/// Errors: no communication in the input; a receive without a reader behind it. Cost: O(A + S * M /
/// 8). Source: torch.distributed.pipelining, _defer_recv_ops.
Expected<Schedule> defer_recv(Schedule schedule, const PassOptions& options);

/// Posts each receive N compute actions before its reader (a pair counts as one), as far as every
/// way of matching messages allows. N = 0 is just in time; a large N is where insert-comm puts them
/// in a schedule without idle slots.
///
/// Input:  rank 0: 0F0 0SEND_F0 0F1 0SEND_F1 0RECV_B0 0B0 0RECV_B1 0B1
///         rank 1: 1RECV_F0 1RECV_F1 1F0 1B0 1SEND_B0 1F1 1B1 1SEND_B1
/// Output: rank 0: the same
///         rank 1: 1RECV_F0 1F0 1B0 1RECV_F1 1SEND_B0 1F1 1B1 1SEND_B1
///
/// A run over the schedule fixes one order of all messages, that of the sends' turns. On every rank
/// sends and receives keep this order, which is what makes them free of deadlock per edge, per pair
/// and per rank: a receive never stands before a send that comes earlier in it, nor behind one that
/// comes later, even if its reader is further down. Sends stay where they are.
/// Running it twice is running it once. Errors: no communication in the input; no rank can go on.
/// Cost: that of insert-comm, and O(A).
Expected<Schedule> place_recv(Schedule schedule, const PassOptions& options);

struct PassInfo {
  std::string_view name;
  std::string_view summary;
  std::string_view number;  ///< what N of "name=N" is; empty if it takes none
  int default_number;
  int least_number;
  Expected<Schedule> (*run)(Schedule, const PassOptions&);
};

inline constexpr std::array kPasses = {
    PassInfo{"insert-comm", "adds the sends and receives that carry values across ranks", "", 0, 0,
             insert_comm_pass},
    PassInfo{"insert-unshard", "unshards each stage before it is needed, and reshards it behind",
             "stages of a rank that are unsharded at a time", 3, 1, insert_unshard},
    PassInfo{"insert-reduce-grad", "reduces each stage's gradients behind its last backward", "", 0,
             0, insert_reduce_grad},
    PassInfo{"merge-backward", "joins an I and the W right behind it into a B", "", 0, 0,
             merge_backward},
    PassInfo{"split-backward", "splits each B into I and W", "", 0, 0, split_backward},
    PassInfo{"pair", "joins neighbouring forwards and backwards into pairs that can run",
             "1: an I may be a pair's backward too", 0, 0, pair},
    PassInfo{"unpair", "dissolves pairs", "", 0, 0, unpair},
    PassInfo{"warm-up", "runs more forwards on each rank before its first backward",
             "forwards more", 1, 0, warm_up},
    PassInfo{"warm-up-per-hop", "the same for each hop to the last rank", "forwards more a hop", 1,
             0, warm_up_per_hop},
    PassInfo{"drop-idle", "takes out idle slots", "", 0, 0, drop_idle},
    PassInfo{"defer-recv", "holds receives back to their readers, as torch does", "", 0, 0,
             defer_recv},
    PassInfo{"place-recv", "posts receives ahead of their readers, in an order that cannot hang",
             "compute actions between a receive and its reader", 0, 0, place_recv},
};

/// What `--lower` runs: torch's lowering.
inline constexpr std::string_view kLoweringPasses =
    "insert-unshard=3,insert-reduce-grad,insert-comm";

/// Runs passes in order: "name" or "name=N", separated by commas.
///
/// Errors: an unknown pass (names the nearest and all known), a number that is missing, malformed,
/// too small or not taken; what a pass finds. Cost: the sum of the passes.
Expected<Schedule> run_passes(std::string_view spec, Schedule schedule,
                              const SchedulePrice& price = {});

}  // namespace plait
