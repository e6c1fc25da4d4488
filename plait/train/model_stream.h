/// Hands tensors of all ranks to rank 0, one piece at a time.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/runtime/comm.h"
#include "plait/saved/tensor_sink.h"
#include "plait/torch/memory.h"
#include "plait/train/tensor_slices.h"

namespace plait {

/// Bytes of a tensor that are on their way at once.
inline constexpr std::int64_t kStreamPiece = std::int64_t{4} << 20;

/// Between two meetings of all ranks so many pieces are written: no rank waits for its turn, or for
/// the next meeting, longer than that takes.
inline constexpr int kPiecesBetweenMeetings = 16;

/// Writes the tensors of all ranks into `sink`, in order of names. Every rank calls it with the
/// slices that it speaks for; those of all ranks are each number of each tensor once. Only rank 0
/// has a sink. A rank needs room for the numbers of one slice of its own that is not contiguous;
/// rank 0 also for one piece, which is charged to `buffers`. Errors: the sink's, on rank 0, after
/// every slice has been taken, so that no rank is left waiting; the exchange's.
Expected<void> stream_tensors(Exchange& exchange, const std::vector<TensorSlice>& mine,
                              TensorSink* sink, MemoryAccount& buffers);

}  // namespace plait
