/// A schedule as a picture of letters, for terminals, documents and golden tests.
#pragma once

#include <string>

#include "plait/base/error.h"
#include "plait/ir/schedule.h"

namespace plait {

struct AsciiStyle {
  bool colour = false;  ///< those of pictures (action_look.h), as ANSI 256-colour backgrounds
  int width = 160;      ///< columns; a longer picture is folded into bands
};

/// One row per rank, time to the right in units of F = I = W = 1 and B = 2, messages free, a pair's
/// members one after the other: every action as early as its inputs and its rank's order allow.
/// Small letters are a rank's first stage, capitals the later ones. Communication is not drawn.
/// Errors: the ranks wait in a circle. Cost: O(actions).
Expected<std::string> draw_schedule(const Schedule& schedule, const AsciiStyle& style);

}  // namespace plait
