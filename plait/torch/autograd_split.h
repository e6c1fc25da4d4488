/// Splits the backward of one segment into I (gradients of its inputs) and W (of its parameters)
/// without help from the module. How, why the bits stay, and what cannot be split: docs/split.md.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "plait/base/units.h"
#include "plait/torch/segment.h"

namespace plait {

/// The graph of one forward, from its outputs to its leaves. Movable; empty when default made.
class SavedSegment {
 public:
  SavedSegment();
  SavedSegment(SavedSegment&&) noexcept;
  SavedSegment& operator=(SavedSegment&&) noexcept;
  ~SavedSegment();

  struct State;
  std::unique_ptr<State> state;
};

/// What is left of the graph for W, and the gradients that enter it. Movable; empty when default
/// made or when nothing is left to do.
class SavedWeight {
 public:
  SavedWeight();
  SavedWeight(SavedWeight&&) noexcept;
  SavedWeight& operator=(SavedWeight&&) noexcept;
  ~SavedWeight();
  /// Bytes of the gradients that wait for W, without the saved activations.
  Bytes bytes() const;

  struct State;
  std::unique_ptr<State> state;
};

struct SegmentForward {
  std::vector<at::Tensor> outputs;  ///< contiguous, without graph
  SavedSegment saved;               ///< empty unless `for_backward`
};

struct SegmentBackwardInput {
  std::vector<at::Tensor> input_gradients;  ///< as backward() returns them
  SavedWeight saved;
  bool whole = false;  ///< could not be split: parameters have their gradients, W has nothing to do
};

/// Runs the segment on detached leaves of `inputs`; without graph unless `for_backward`.
/// All five throw c10::Error or SegmentError; a gradient that was half accumulated then stays so.
SegmentForward run_forward(Segment& segment, const std::vector<at::Tensor>& inputs, int microbatch,
                           bool for_backward);

/// The same for a forward that the caller has run: `leaves` are the inputs that it ran on, without
/// graph, and those that get a gradient require it; an undefined output is an error. Keeps the
/// graph of `outputs`.
SegmentForward save_forward(const std::vector<at::Tensor>& leaves,
                            const std::vector<at::Tensor>& outputs);

/// Whole backward: parameters accumulate into .grad. One gradient per output, undefined where there
/// is none. Returns one contiguous gradient per input: zeros where the input was not used,
/// undefined where the input requires none (integers).
std::vector<at::Tensor> backward(SavedSegment saved, std::vector<at::Tensor> output_gradients);

/// I. A segment without inputs has an empty I: its W is the whole backward, which is not `whole`.
SegmentBackwardInput backward_input(SavedSegment saved, std::vector<at::Tensor> output_gradients);

/// W. I then W gives every gradient bit for bit as backward() does.
void backward_weight(SavedWeight saved);

}  // namespace plait
