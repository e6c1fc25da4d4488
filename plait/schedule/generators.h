/// The schedule generators, in one table that the command line, the docs and the tests iterate.
#pragma once

#include <array>
#include <string_view>

#include "plait/base/error.h"
#include "plait/ir/schedule.h"

namespace plait {

// Each generator orders the compute actions of P ranks for M micro-batches and V chunks per rank.
// Errors: a shape outside what the schedule is defined for, with the numbers. Cost: O(S * M).

/// All forwards, then all backwards, both ascending. V = 1, M >= 1. Source: arXiv:1811.06965.
Expected<Schedule> generate_gpipe(int ranks, int microbatches, int chunks);

/// Rank r runs min(M, P-1-r) warm-up forwards, then alternates F and B, then drains.
/// V = 1, M >= P (torch's limit). Source: PipeDream-2BW, arXiv:2006.09503.
Expected<Schedule> generate_one_f_one_b(int ranks, int microbatches, int chunks);

/// Eight steps on a `v` placement, pairs in the steady part. V = 2, M >= 2P.
/// Source: DeepSeek's DualPipe, dualpipev.py; torch's ScheduleDualPipeV.
Expected<Schedule> generate_dualpipe_v(int ranks, int microbatches, int chunks);

/// Forwards of all stages of a rank, in the order in which they can run; no backward. For
/// validation. Any V, placement `loop`.
Expected<Schedule> generate_forward_only(int ranks, int microbatches, int chunks);

/// The same over any placement.
Expected<Schedule> generate_forward_only(const Placement& placement, int microbatches);

struct GeneratorInfo {
  std::string_view name;
  std::string_view summary;
  std::string_view source;
  std::string_view needs;
  int default_chunks;
  Expected<Schedule> (*generate)(int ranks, int microbatches, int chunks);
};

inline constexpr std::array kGenerators = {
    GeneratorInfo{"gpipe", "all forwards, then all backwards", "arXiv:1811.06965", "V = 1", 1,
                  generate_gpipe},
    GeneratorInfo{"1f1b", "one forward, one backward", "arXiv:2006.09503", "V = 1, M >= P", 1,
                  generate_one_f_one_b},
    GeneratorInfo{"dualpipe-v", "a V of stages, forward and backward in pairs",
                  "deepseek-ai/DualPipe dualpipev.py", "V = 2, M >= 2P", 2, generate_dualpipe_v},
    GeneratorInfo{"forward-only", "forwards only, for validation", "", "", 1,
                  generate_forward_only},
};

/// `chunks` 0: the schedule's default. Errors: also an unknown name (with the known ones).
Expected<Schedule> generate(std::string_view name, int ranks, int microbatches, int chunks);

}  // namespace plait
