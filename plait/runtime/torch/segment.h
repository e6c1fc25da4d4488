/// A part of a stage that is all compute: any callable on tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "plait/base/error.h"

namespace plait {

/// A named leaf tensor that is trained. The name is the one in the model's file.
struct Parameter {
  std::string name;
  at::Tensor tensor;
};

/// What a segment throws to name a cause; the stage adds the segment's name.
class SegmentError : public std::runtime_error {
 public:
  SegmentError(ErrorCode code, const std::string& message)
      : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

/// Tensors in, tensors out. Inputs are detached, contiguous leaves; outputs are made contiguous at
/// the boundary. A segment does not change its inputs in place. Throws c10::Error, or
/// plait::SegmentError to name a cause.
class Segment {
 public:
  virtual ~Segment() = default;
  virtual const std::string& name() const = 0;
  /// `inputs` is empty for the first segment of the model, which takes its micro-batch from the
  /// batch of the step. The last segment of the model returns the scalar loss.
  virtual std::vector<at::Tensor> forward(const std::vector<at::Tensor>& inputs,
                                          int microbatch) = 0;
  virtual std::vector<Parameter> parameters() const = 0;
};

}  // namespace plait
