/// The parts of a stage, tensors in and tensors out: any callable that is all compute, or an
/// exchange of rows within the expert group that is all communication.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "plait/base/error.h"
#include "plait/program/grid.h"

namespace plait {

/// A named leaf tensor that is trained. The name is the one in the model's file.
struct Parameter {
  std::string name;
  at::Tensor tensor;
  /// Which ranks of a grid hold the same numbers: all columns, or of an expert's its replicas
  /// (kData).
  Group holders = Group::kReplicas;
  /// A copy in the dtype that products are computed in, renewed before each step; undefined: the
  /// tensor itself is used.
  at::Tensor rounded = {};
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
  /// What belongs to the model and is not trained.
  virtual std::vector<Parameter> buffers() const { return {}; }
};

/// Rows that each member of the expert group gets from this rank and gives to it, by member.
struct RowSplits {
  std::vector<std::int64_t> send, receive;
};

/// A part of a stage that is all communication: an all-to-all of the rows of one tensor within the
/// expert group. The other tensors pass through. The backward is the mirror exchange: gradients of
/// the rows that came go back to where the rows came from; an integer tensor has none.
class ExchangeSegment final : public Segment {
 public:
  /// From the segment's inputs; its sums are the rows of the exchanged tensor before and after.
  using Splits = std::function<RowSplits(const std::vector<at::Tensor>& inputs)>;

  /// `exchanged`: which input is exchanged; the output in its place is what came, in order of
  /// members. `has_gradient`: false if that tensor is one of integers.
  ExchangeSegment(std::string name, std::size_t exchanged, bool has_gradient, Splits splits)
      : name_(std::move(name)),
        exchanged_(exchanged),
        has_gradient_(has_gradient),
        splits_(std::move(splits)) {}

  /// These inputs, of which the splits are made, come to the host once, and are there for the
  /// segments that follow.
  void bring_to_host(std::vector<std::size_t> inputs) { on_host_ = std::move(inputs); }

  const std::string& name() const override { return name_; }
  /// What it is in a group of one: everything stays where it is.
  std::vector<at::Tensor> forward(const std::vector<at::Tensor>& inputs, int) override {
    return inputs;
  }
  std::vector<Parameter> parameters() const override { return {}; }

  std::size_t exchanged() const { return exchanged_; }
  bool has_gradient() const { return has_gradient_; }
  const std::vector<std::size_t>& on_host() const { return on_host_; }
  RowSplits splits(const std::vector<at::Tensor>& inputs) const { return splits_(inputs); }

 private:
  std::string name_;
  std::size_t exchanged_;
  bool has_gradient_;
  Splits splits_;
  std::vector<std::size_t> on_host_;
};

}  // namespace plait
