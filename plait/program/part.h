/// The parts of a stage: what one instruction runs.
#pragma once

#include <string>
#include <vector>

#include "plait/ir/lane.h"

namespace plait {

/// One part of a stage as the runtime runs it: neighbouring compute segments joined, or one
/// exchange.
struct PartShape {
  Lane lane = Lane::kCompute;
  std::string kind;  ///< the word of the layer order it answers to: "attn", "counts", …, "tail"
  int unit = -1;     ///< which mixture-of-experts layer of the stage, from 0; -1: none (the tail)
  bool has_backward = true;  ///< an exchange of integers has none
  bool recompute = false;    ///< its forward keeps its inputs and runs again before its backward

  friend bool operator==(const PartShape&, const PartShape&) = default;
};

using StageShape = std::vector<PartShape>;

}  // namespace plait
