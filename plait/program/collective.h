/// Collective: what the members of a group do together.
#pragma once

#include <array>
#include <cstdint>

#include "plait/ir/message.h"
#include "plait/program/grid.h"

namespace plait {

enum class CollectiveKind : std::uint8_t {
  kAllToAll,       ///< each member gets from each member what that one has for it
  kAllGather,      ///< each member gets what every member gives
  kReduceScatter,  ///< member k gets from each member what is to be added up to slice k
};
inline constexpr std::array<const char*, 3> kCollectiveNames{"all-to-all", "all-gather",
                                                             "reduce-scatter"};  ///< by kind

/// One collective of a group of ranks. Its fields name it within a step; the ranks of a group issue
/// theirs in the same order.
struct Collective {
  CollectiveKind kind = CollectiveKind::kAllToAll;
  Group group = Group::kExpert;
  Direction direction = Direction::kForward;
  int stage = -1;
  int part = -1;
  int microbatch = -1;
};

}  // namespace plait
