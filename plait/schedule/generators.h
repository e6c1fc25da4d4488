/// The schedule generators, in one table that the command line, the docs and the tests iterate.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "plait/base/error.h"
#include "plait/ir/costs.h"
#include "plait/ir/schedule.h"

namespace plait {

/// What a schedule is made for.
struct ScheduleShape {
  int ranks = 1;         ///< P
  int microbatches = 1;  ///< M
  int chunks = 0;        ///< V, 0: the schedule's default
  bool any_m = false;    ///< also for an M outside the schedule's own limits, where that is defined
  // Of the cost-aware ones only.
  std::optional<ActionCosts> costs{};  ///< absent: unit costs
  int activations = 0;                 ///< cap per rank in stage activations, 0: the default
};

// Each generator orders the compute actions of P ranks for M micro-batches and V chunks per rank.
// Errors: a shape outside what the schedule is defined for, with the numbers. Cost: O(S * M), the
// cost-aware ones and those of any_m O(S * M log P). What any_m promises: docs/schedules.md.

/// All forwards, then all backwards, both ascending. V = 1. Source: arXiv:1811.06965.
Expected<Schedule> generate_gpipe(const ScheduleShape& shape);

/// Rank r runs min(M, P-1-r) warm-up forwards, then alternates F and B, then drains.
/// V = 1, M >= P (torch's limit; the rule has none). Source: PipeDream-2BW, arXiv:2006.09503.
Expected<Schedule> generate_one_f_one_b(const ScheduleShape& shape);

/// 1F1B over rounds of micro-batches that go through all chunks. M a multiple of max(1, M div P),
/// the number of rounds; any_m: rounds of nearly equal size, in the next two schedules as well.
/// Source: torch's ScheduleInterleaved1F1B; arXiv:2104.04473.
Expected<Schedule> generate_interleaved_1f1b(const ScheduleShape& shape);

/// Every forward of a chunk before the next chunk's, backwards in reverse. Any M.
/// Source: torch's ScheduleLoopedBFS; arXiv:2211.05953.
Expected<Schedule> generate_looped_bfs(const ScheduleShape& shape);

/// ZB1P: interleaved 1F1B with I and W apart and W put off by the rank's number.
/// Source: torch's ScheduleInterleavedZeroBubble; arXiv:2401.10241.
Expected<Schedule> generate_interleaved_zero_bubble(const ScheduleShape& shape);

/// Interleaved with W right behind its I and one more forward in the warm-up: 3-slot steady state.
/// Source: sail-sg/zero-bubble-pipeline-parallelism, group_interleaved_1f1b.py.
Expected<Schedule> generate_interleaved_grouped(const ScheduleShape& shape);

/// Zero bubble on a `v`. V = 2, any M; below 2P-1 it is torch's, with blanks, idle up to twice as
/// long; with any_m the best of twelve greedy orders at unit costs within its 2P activations.
/// Source: torch's ScheduleZBVZeroBubble; arXiv:2405.15362.
Expected<Schedule> generate_zbv(const ScheduleShape& shape);

/// P-r forwards on rank r, then I, W with lag r, F. V = 1, M >= P. Source: arXiv:2401.10241.
Expected<Schedule> generate_zb_h1(const ScheduleShape& shape);

/// 2(P-r)-1 forwards, lag 2r. V = 1, M >= 2P-1; any_m: as many of H2's extra forwards as M - P
/// leaves, down to H1. Source: arXiv:2401.10241.
Expected<Schedule> generate_zb_h2(const ScheduleShape& shape);

/// Building blocks on a `v` with half of 1F1B's memory, and a third. V = 2.
/// Source: arXiv:2405.15362; sail-sg, zbv_greedy.py.
Expected<Schedule> generate_v_half(const ScheduleShape& shape);
Expected<Schedule> generate_v_min(const ScheduleShape& shape);

/// 1F1B on a `v` with two thirds of 1F1B's memory, W right behind its I: merge-backward makes the
/// source's order. V = 2. Source: arXiv:2405.15362; sail-sg, v1f1b.py.
Expected<Schedule> generate_one_f_one_b_v(const ScheduleShape& shape);

/// Eight steps on a `v` placement, pairs in the steady part. V = 2, M >= 2P; any_m: below that
/// zbv's order, without pairs. Source: DeepSeek's DualPipe, dualpipev.py; torch's
/// ScheduleDualPipeV.
Expected<Schedule> generate_dualpipe_v(const ScheduleShape& shape);

/// The same eight steps over two copies of the model that run towards each other. P and M even,
/// M >= 2P; any_m: an odd M leaves one forward and one backward out of the second copy's first
/// pairs, below 2P it is the best greedy order at unit costs within P to P+2 activations, without
/// pairs. Source: DeepSeek's DualPipe, dualpipe.py.
Expected<Schedule> generate_dualpipe(const ScheduleShape& shape);

/// Two copies, 1F1B slots in both directions, in units of P micro-batches. P even, M a multiple of
/// P; any_m: M div P units (at least one) of nearly equal size, actions moved
/// (order_walk.h) while that is idle longer at unit costs than the multiple of P below. Source:
/// arXiv:2107.06925.
Expected<Schedule> generate_chimera(const ScheduleShape& shape);

/// Waves down and up V/2 times, rounds of P micro-batches one after the other, oldest backward
/// first. V even, M a multiple of P; any_m: M div P rounds of nearly equal size. Source: Hanayo,
/// SC23 (own derivation of the order).
Expected<Schedule> generate_hanayo(const ScheduleShape& shape);

/// Pairs of forward and backward of the same chunk on a `v`. V = 2, M >= 3P; any_m: below that
/// zbv's order, without pairs. Source: arXiv:2510.27257; MICLAB-BUPT/STP, schedule.py.
Expected<Schedule> generate_stp(const ScheduleShape& shape);

/// The best order a greedy run finds for given costs and memory, V = 1 and on a `v`. Any M.
Expected<Schedule> generate_zb_auto(const ScheduleShape& shape);
Expected<Schedule> generate_zbv_auto(const ScheduleShape& shape);

/// Forwards of all stages of a rank, in the order in which they can run; no backward. For
/// validation. Any V, placement `loop`.
Expected<Schedule> generate_forward_only(const ScheduleShape& shape);

/// The same over any placement.
Expected<Schedule> generate_forward_only(const Placement& placement, int microbatches);

/// Whether a schedule has its default V alone, or others too.
enum class Chunks : std::uint8_t { kFixed, kOpen };

/// All that is said of a schedule beside its order.
struct GeneratorInfo {
  std::string_view name;
  std::string_view torch_name;  ///< in torch.distributed.pipelining; empty: it has none
  std::string_view summary;
  std::string_view source;
  std::string_view needs;
  int default_chunks;
  Chunks chunks;
  Expected<Schedule> (*generate)(const ScheduleShape& shape);
};

inline constexpr std::array kGenerators = {
    GeneratorInfo{"gpipe", "GPipe", "all forwards, then all backwards", "arXiv:1811.06965", "V = 1",
                  1, Chunks::kFixed, generate_gpipe},
    GeneratorInfo{"1f1b", "1F1B", "one forward, one backward", "arXiv:2006.09503", "V = 1, M >= P",
                  1, Chunks::kFixed, generate_one_f_one_b},
    GeneratorInfo{"interleaved-1f1b", "Interleaved1F1B", "1f1b over chunks, in rounds",
                  "arXiv:2104.04473", "M a multiple of max(1, M div P)", 2, Chunks::kOpen,
                  generate_interleaved_1f1b},
    GeneratorInfo{"looped-bfs", "LoopedBFS", "chunk after chunk, backwards in reverse",
                  "arXiv:2211.05953", "", 2, Chunks::kOpen, generate_looped_bfs},
    GeneratorInfo{"interleaved-zero-bubble", "InterleavedZeroBubble",
                  "ZB1P: interleaved, I and W apart", "arXiv:2401.10241",
                  "M a multiple of max(1, M div P)", 2, Chunks::kOpen,
                  generate_interleaved_zero_bubble},
    GeneratorInfo{"interleaved-grouped", "", "interleaved, W right behind its I",
                  "sail-sg group_interleaved_1f1b.py", "M a multiple of max(1, M div P)", 2,
                  Chunks::kOpen, generate_interleaved_grouped},
    GeneratorInfo{"zbv", "ZBVZeroBubble", "zero bubble on a V", "arXiv:2405.15362", "V = 2", 2,
                  Chunks::kFixed, generate_zbv},
    GeneratorInfo{"zb-h1", "", "zero bubble, memory of 1f1b", "arXiv:2401.10241", "V = 1, M >= P",
                  1, Chunks::kFixed, generate_zb_h1},
    GeneratorInfo{"zb-h2", "", "zero bubble, twice the memory", "arXiv:2401.10241",
                  "V = 1, M >= 2P-1", 1, Chunks::kFixed, generate_zb_h2},
    GeneratorInfo{"v-half", "", "a V with half the memory of 1f1b", "arXiv:2405.15362", "V = 2", 2,
                  Chunks::kFixed, generate_v_half},
    GeneratorInfo{"v-min", "", "a V with a third of the memory of 1f1b", "arXiv:2405.15362",
                  "V = 2", 2, Chunks::kFixed, generate_v_min},
    GeneratorInfo{"1f1b-v", "", "1f1b on a V", "arXiv:2405.15362", "V = 2", 2, Chunks::kFixed,
                  generate_one_f_one_b_v},
    GeneratorInfo{"dualpipe-v", "DualPipeV", "a V of stages, forward and backward in pairs",
                  "deepseek-ai/DualPipe dualpipev.py", "V = 2, M >= 2P", 2, Chunks::kFixed,
                  generate_dualpipe_v},
    GeneratorInfo{"dualpipe", "", "two copies of the model towards each other, in pairs",
                  "deepseek-ai/DualPipe dualpipe.py", "V = 1, P and M even, M >= 2P", 1,
                  Chunks::kFixed, generate_dualpipe},
    GeneratorInfo{"chimera", "", "two copies of the model towards each other", "arXiv:2107.06925",
                  "V = 1, P even, M a multiple of P", 1, Chunks::kFixed, generate_chimera},
    GeneratorInfo{"hanayo", "", "waves down and up, rounds of P micro-batches", "Hanayo, SC23",
                  "V even, M a multiple of P", 2, Chunks::kOpen, generate_hanayo},
    GeneratorInfo{"stp", "", "a V of stages, pairs within a chunk", "arXiv:2510.27257",
                  "V = 2, M >= 3P", 2, Chunks::kFixed, generate_stp},
    GeneratorInfo{"zb-auto", "", "the best greedy order for given costs and memory", "", "V = 1", 1,
                  Chunks::kFixed, generate_zb_auto},
    GeneratorInfo{"zbv-auto", "", "the same on a V", "", "V = 2", 2, Chunks::kFixed,
                  generate_zbv_auto},
    GeneratorInfo{"forward-only", "", "forwards only, for validation", "", "", 1, Chunks::kOpen,
                  generate_forward_only},
};

/// The schedule of that name, ours or torch's (in capitals or not, as torch takes it); null if
/// there is none.
const GeneratorInfo* find_generator(std::string_view name);

/// The message for a name that no schedule has: the nearest name if a slip explains it, and all.
std::string describe_unknown_schedule(std::string_view name);

/// Errors: also an unknown name (with the known ones).
Expected<Schedule> generate(std::string_view name, const ScheduleShape& shape);

}  // namespace plait
