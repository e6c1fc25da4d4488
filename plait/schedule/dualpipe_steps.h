/// The steps that dualpipe and dualpipe-v share.
#pragma once

#include <optional>

#include "plait/schedule/two_phase_writer.h"

namespace plait {

/// DualPipe's eight steps for one rank.
///   half          ranks that a direction goes through before it meets the other
///   depth         of the rank: its distance from the rank where phase 0 enters
///   microbatches  of one direction, at least 2 * half
///   less          the phase that has one micro-batch less, if one has
/// Source: deepseek-ai/DualPipe, dualpipe.py and dualpipev.py.
void write_dualpipe_rank(TwoPhaseWriter writer, int half, int depth, int microbatches,
                         std::optional<int> less = {});

}  // namespace plait
