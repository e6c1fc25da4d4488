/// The most bytes that are alive at once on each rank while its program runs. Knows no torch.
#pragma once

#include <vector>

#include "plait/base/units.h"
#include "plait/program/rank_program.h"

namespace plait {

/// What one part of a stage holds and makes for one micro-batch, at most. Where a field is what a
/// value holds, the value's reader gives it: an activation's size is `input` of the part that reads
/// it.
struct PartMemory {
  Bytes input = 0;     ///< of the forward
  Bytes gradient = 0;  ///< of the outputs: what the backward reads
  Bytes saved = 0;     ///< from the forward to the recomputation, if there is one, or the backward
  Bytes recomputed = 0;        ///< from the recomputation to the backward
  Bytes saved_for_weight = 0;  ///< from I to W
  // What an instruction makes beside the values that it reads and writes.
  Bytes forward = 0;
  Bytes forward_only = 0;  ///< of a program without backward, which saves nothing
  Bytes recompute = 0;
  Bytes backward_input = 0;
  Bytes backward = 0;
  Bytes backward_weight = 0;
  // Of exchanges: rows that go out, forth and back, alive until every member has read its share.
  Bytes sent = 0;
  Bytes sent_back = 0;
};

/// By rank, over all orders in which lanes and ranks can run: two things are counted together
/// unless the order of a lane, a wait, a message or an exchange proves that one has ended before
/// the other begins. A message counts on its sender until its reader has run, and on its receiver
/// from the issue of the receive. What reductions of gradients and gathers of
/// parameters hold is not counted. `parts` are by
/// stage and part. `programs` are those of one column, all columns run the same. Cost: time and
/// space O(instructions * ranks).
std::vector<Bytes> peak_memory(const std::vector<RankProgram>& programs,
                               const std::vector<std::vector<PartMemory>>& parts);

}  // namespace plait
