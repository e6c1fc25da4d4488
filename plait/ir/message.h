/// Message: a value on its way from one rank of a pipeline to another.
#pragma once

#include <cstdint>

namespace plait {

enum class Direction : std::uint8_t { kForward, kBackward };

/// One message of the pipeline, between ranks of one column. (direction, sender_stage, microbatch)
/// is unique within a step.
struct Message {
  int source = -1;       ///< pipeline rank
  int destination = -1;  ///< pipeline rank
  Direction direction = Direction::kForward;
  int sender_stage = -1;
  int microbatch = -1;
};

}  // namespace plait
