/// A compute action from its type, stage and micro-batch.
#pragma once

#include "plait/ir/action.h"

namespace plait {

inline Action compute(ActionType type, int stage, int microbatch) {
  return {stage, microbatch, type, 0};
}

}  // namespace plait
