/// How schedules are found by name: ours and torch's.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "plait/schedule/generators.h"

namespace plait {

/// What torch.distributed.pipelining calls a schedule of ours.
struct TorchName {
  std::string_view name;   ///< in kGenerators
  std::string_view torch;  ///< taken in capitals or not, as torch does
};

inline constexpr std::array kTorchNames = {
    TorchName{"gpipe", "GPipe"},
    TorchName{"1f1b", "1F1B"},
    TorchName{"interleaved-1f1b", "Interleaved1F1B"},
    TorchName{"looped-bfs", "LoopedBFS"},
    TorchName{"interleaved-zero-bubble", "InterleavedZeroBubble"},
    TorchName{"zbv", "ZBVZeroBubble"},
    TorchName{"dualpipe-v", "DualPipeV"},
};

/// The schedule of that name, ours or torch's; null if there is none.
const GeneratorInfo* find_generator(std::string_view name);

/// What is said of a name that no schedule has: the nearest, and the known ones.
std::string describe_unknown_schedule(std::string_view name);

/// Whether the schedule has one number of stages a rank, its default, and no other.
bool has_fixed_chunks(const GeneratorInfo& info);

}  // namespace plait
