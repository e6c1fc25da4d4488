/// Collective: what the members of a group do together.
#pragma once

#include "plait/ir/message.h"
#include "plait/program/grid.h"

namespace plait {

/// One all-to-all of a group of ranks. Its fields name it within a step; the ranks of a group issue
/// theirs in the same order.
struct Collective {
  Group group = Group::kExpert;
  Direction direction = Direction::kForward;
  int stage = -1;
  int part = -1;
  int microbatch = -1;
};

}  // namespace plait
