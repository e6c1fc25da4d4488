/// What all generators check and build alike.
#pragma once

#include <string_view>

#include "plait/base/error.h"
#include "plait/ir/schedule.h"

namespace plait {

/// Errors: P, M or V below 1; V not `needed_chunks` (0: any).
Expected<void> check_shape(std::string_view name, int ranks, int microbatches, int chunks,
                           int needed_chunks);

/// An empty schedule: P empty lists.
Schedule empty_schedule(std::string_view name, Placement placement, int microbatches);

inline Action compute(ActionType type, int stage, int microbatch) {
  return {stage, microbatch, type, 0, 0};
}

}  // namespace plait
