/// The passes, in one table that the command line, the docs and the tests iterate.
///
/// A pass takes a schedule by value, so that it can rewrite in place, and returns the new one. It
/// is deterministic. It proves nothing: verify() decides whether its result may run. All passes
/// drop idle slots, but for split-backward and unpair. Costs are in P ranks, S stages, M
/// micro-batches and A actions. Errors of all: numbers out of range, an action on a wrong rank.
#pragma once

#include <array>
#include <functional>
#include <string_view>
#include <vector>

#include "plait/base/error.h"
#include "plait/base/units.h"
#include "plait/ir/schedule.h"

namespace plait {

/// How long a step of a schedule without communication takes; an error if it cannot run.
using SchedulePrice = std::function<Expected<Nanoseconds>(const Schedule&)>;

/// In which order stages are resharded that are at the same place.
enum class Reshards : std::uint8_t {
  kAsUnsharded,  ///< torch 2.15
  kAscending,    ///< torch 2.13
};

struct PassOptions {
  int number = 0;       ///< the N of "name=N"; what it means is in the table
  SchedulePrice price;  ///< for `pair`, which then keeps the pairs that pay; empty: keeps all
  /// Of insert-unshard, by rank: how many stages ahead are unsharded, 1 … N; empty: N.
  std::vector<int> lookahead{};
  Reshards reshards = Reshards::kAsUnsharded;
};

/// insert-comm, with the signature of the table; insert_comm.h has the plain function.
///
/// Input:  rank 0: 0F0 0B0              rank 1: 1F0 1B0
/// Output: rank 0: 0F0 0SEND_F0 0RECV_B0 0B0
///         rank 1: 1RECV_F0 1F0 1B0 1SEND_B0
Expected<Schedule> insert_comm_pass(Schedule schedule, const PassOptions& options);

/// Unshards a stage before an action needs it, and reshards it when N other stages of the rank are
/// needed sooner. So at most N stages of a rank are whole at a time, N + 1 where both members of a
/// pair need a stage that was not.
///
/// Input:  0F0 1F0 1B0 0B0                                                       (N = 1)
/// Output: 0UNSHARD 0F0 0RESHARD 1UNSHARD 1F0 1B0 1RESHARD 0UNSHARD 0B0 0RESHARD
///
/// Let next(i, n) be the first n distinct stages of the actions i, i + 1, …, a pair's both
/// together. Before action i the stages that are whole and not in next(i, N) are resharded, in the
/// order in which they were unsharded; then those of next(i, lookahead) that are not whole are
/// unsharded, in the order in which actions need them. UNSHARD and RESHARD of the input are taken
/// out first, so that running it twice is running it once. Cost: O(A * V). Source:
/// torch.distributed.pipelining, _add_unshard_reshard, which takes O(A^2).
Expected<Schedule> insert_unshard(Schedule schedule, const PassOptions& options);

/// Reduces a stage's gradients right behind the last of its W and B that the rank has.
///
/// Input:  0F0 0B0 0F1 0B1
/// Output: 0F0 0B0 0F1 0B1 0REDUCE_GRAD
///
/// Of two copies of a stage each rank reduces after its own share of the micro-batches. Where
/// several REDUCE_GRAD stand together they ascend by stage, so that both holders have the same
/// order. REDUCE_GRAD of the input are taken out first, so that running it twice is running it
/// once. Cost: O(A + P * S). Source: torch.distributed.pipelining, _add_reduce_grad.
Expected<Schedule> insert_reduce_grad(Schedule schedule, const PassOptions& options);

/// Sets a WAIT_REDUCE_GRAD right behind each REDUCE_GRAD, or with N = 1 as late as one pending
/// reduction a rank allows: before the next REDUCE_GRAD, the last behind everything.
///
/// Input:  1B0 1REDUCE_GRAD 0B0 0REDUCE_GRAD
/// Output: 1B0 1REDUCE_GRAD 0B0 1WAIT_REDUCE_GRAD 0REDUCE_GRAD 0WAIT_REDUCE_GRAD         (N = 1)
///
/// Existing ones are taken out first. With two copies of a stage it sets none: those reductions end
/// with the step. Cost: O(A). Source: torch.distributed.pipelining 2.15.
Expected<Schedule> insert_reduce_wait(Schedule schedule, const PassOptions& options);

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
/// A backward is a B; with N = 1 an I as well. The pass begins with all pairs and runs the schedule
/// with free messages. When no rank can go on, the first rank whose pair's first member could run
/// alone gives that pair up, and the run goes on. A pair that can run may still make the step
/// longer.
///
/// With a price only pairs that make the step shorter are kept. The pass then also tries one
/// forward more before the first backward (priced_pair.h), without which the pairs of 1f1b and
/// interleaved-1f1b wait for each other.
///
/// Errors: communication in the input; the input itself waits in a circle. Cost: O(A + pairs given
/// up * P / 64); with a price at most 2000 prices more.
Expected<Schedule> pair(Schedule schedule, const PassOptions& options);

/// Runs N forwards more on each rank before its first backward: forward k + N takes the place of
/// forward k in the rank's list. A rank then holds N activations more.
///
/// Input:  0F0 0B0 0F1 0B1 0F2 0B2
/// Output: 0F0 0F1 0B0 0F2 0B1 0B2                                               (N = 1)
///
/// Errors: communication or pairs in the input. Cost: O(A).
Expected<Schedule> warm_up(Schedule schedule, const PassOptions& options);

/// warm-up with (P - 1 - r) N on rank r: N for each hop to the last rank. Then no pair of a rank
/// waits for a pair of the next rank that waits for it. Source: the one forward more of
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
/// The output may receive in another order than the peer sends (zbv at P = 2, M = 3). verify()
/// refuses it then. place-recv=0 keeps the order of the sends. Running it twice is running it once.
/// Errors: no communication in the input; a receive without a reader behind it. Cost: O(A + S * M /
/// 8). Source: torch.distributed.pipelining, _defer_recv_ops.
Expected<Schedule> defer_recv(Schedule schedule, const PassOptions& options);

/// Sets a wait for each send: WAIT_SEND_F right behind the rank's own I or B of the same stage and
/// micro-batch, all others at the end of the list in the order of their sends.
///
/// Input:  0F0 0SEND_F0 0RECV_B0 0B0
/// Output: 0F0 0SEND_F0 0RECV_B0 0B0 0WAIT_SEND_F0
///
/// Existing ones are taken out first: running it twice is running it once. Errors: no communication
/// in the input. Cost: O(A + S * M / 8). Source: torch.distributed.pipelining 2.15.
Expected<Schedule> insert_send_wait(Schedule schedule, const PassOptions& options);

/// limit-sends, with the signature of the table; limit_sends.h has the plain function.
///
/// Input:  0F0 0SEND_F0 0F1 0SEND_F1 0RECV_B0 0B0 0WAIT_SEND_F0 0RECV_B1 0B1 0WAIT_SEND_F1
/// Output: 0F0 0SEND_F0 0F1 0WAIT_SEND_F0 0SEND_F1 0RECV_B0 0B0 0RECV_B1 0B1 0WAIT_SEND_F1 (N = 1)
Expected<Schedule> limit_sends_pass(Schedule schedule, const PassOptions& options);

/// Posts each receive N compute actions before its reader (a pair counts as one), as far as every
/// way of matching messages allows. N = 0 is just in time; a large N is where insert-comm puts them
/// in a schedule without idle slots.
///
/// Input:  rank 0: 0F0 0SEND_F0 0F1 0SEND_F1 0RECV_B0 0B0 0RECV_B1 0B1
///         rank 1: 1RECV_F0 1RECV_F1 1F0 1B0 1SEND_B0 1F1 1B1 1SEND_B1
/// Output: rank 0: the same
///         rank 1: 1RECV_F0 1F0 1B0 1RECV_F1 1SEND_B0 1F1 1B1 1SEND_B1
///
/// The pass runs the schedule once and numbers all messages in the order in which their sends have
/// their turn. On every rank the numbers of sends and receives then ascend, so that no matching
/// (per edge, per pair, per rank) can deadlock. To keep that, a receive may stand closer to its
/// reader or further from it than N actions. Sends stay where they are. Running it twice is running
/// it once. Errors: no communication in the input; no rank can go on. Cost: that of insert-comm,
/// and O(A).
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
    PassInfo{"insert-reduce-wait", "waits for each reduction of gradients right behind it",
             "1: as late as one pending reduction a rank allows", 0, 0, insert_reduce_wait},
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
    PassInfo{"insert-send-wait", "waits for each send behind the backward that proves it read", "",
             0, 0, insert_send_wait},
    PassInfo{"limit-sends", "waits earlier, so that few sends of a rank are outstanding",
             "sends of a rank without their wait", 4, 1, limit_sends_pass},
};

/// Torch's lowering without options (lowering.h): of 2.13, and of 2.15.
inline constexpr std::string_view kLoweringPasses =
    "insert-unshard=3,insert-reduce-grad,insert-comm";
inline constexpr std::string_view kLoweringPassesWithWaits =
    "insert-unshard=3,insert-reduce-grad,insert-reduce-wait,insert-comm,insert-send-wait";

/// Runs passes in order: "name" or "name=N", separated by commas.
///
/// Errors: an unknown pass (names the nearest and all known), a number that is missing, malformed,
/// too small or not taken; what a pass finds. Cost: the sum of the passes.
Expected<Schedule> run_passes(std::string_view spec, Schedule schedule,
                              const SchedulePrice& price = {});

}  // namespace plait
