/// A list of tensors as a Value of the runtime.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <utility>
#include <vector>

#include "plait/runtime/stage.h"
#include "plait/runtime/value.h"
#include "plait/torch/segment.h"

namespace plait {

/// A value that may be read by another lane, or another rank, than the one that wrote it: its
/// device holds the memory of each tensor (device.h).
class TensorPayload : public Payload {
 public:
  /// Some may be undefined.
  virtual void each_tensor(const std::function<void(const at::Tensor&)>& visit) const = 0;
};

/// Contiguous, immutable tensors without graph: what crosses the boundary of segments and stages.
class Tensors final : public TensorPayload {
 public:
  explicit Tensors(std::vector<at::Tensor> list) : tensors(std::move(list)) {}
  Bytes bytes() const override;
  ValueSpec spec() const override;
  void each_tensor(const std::function<void(const at::Tensor&)>& visit) const override;
  bool is_of(const ValueSpec& needed) const override;

  std::vector<at::Tensor> tensors;
};

ValueSpec spec_of(const std::vector<at::Tensor>& tensors);

Value make_value(std::vector<at::Tensor> list);

/// The rows of one tensor on their way to the members of a group.
class RowExchange final : public ExchangeValue {
 public:
  /// `member`: this rank's own place, -1 if it does not matter. Throws SegmentError if the splits
  /// do not add up to the rows.
  RowExchange(at::Tensor rows, RowSplits splits, int member = -1);
  Bytes bytes() const override { return static_cast<Bytes>(rows.nbytes()); }
  Bytes bytes_leaving() const override;
  /// A view, no copy.
  Value share_for(int receiver) override;
  /// Tensors with one piece from each member.
  Value join(std::vector<Value> shares) override;

  at::Tensor rows;
  RowSplits splits;
  int member;
};

/// One slice on its way to all members of a group, which get it whole.
class SliceGather final : public ExchangeValue {
 public:
  SliceGather(at::Tensor own, std::int64_t of_members)
      : slice(std::move(own)), members(of_members) {}
  Bytes bytes() const override { return static_cast<Bytes>(slice.nbytes()); }
  Bytes bytes_leaving() const override { return bytes() * (members - 1); }
  /// A view, no copy.
  Value share_for(int) override;
  /// Tensors with one slice from each member.
  Value join(std::vector<Value> shares) override;

  at::Tensor slice;
  std::int64_t members;
};

/// What passed an exchange by, and the pieces that came. Whoever takes them joins the pieces.
class ArrivedRows final : public TensorPayload {
 public:
  ArrivedRows(std::vector<at::Tensor> others, std::size_t exchanged,
              std::vector<std::int64_t> expected)
      : others_(std::move(others)), exchanged_(exchanged), expected_(std::move(expected)) {}
  Bytes bytes() const override;
  void each_tensor(const std::function<void(const at::Tensor&)>& visit) const override;
  /// All tensors, what came in the place of what went, in order of members. One piece alone is not
  /// copied. Throws SegmentError if a member sent another number of rows than it had announced.
  std::vector<at::Tensor> take();
  bool read_on_host() const override { return row_counts; }

  std::vector<at::Tensor> pieces;  ///< one from each member, or all rows in one
  bool row_counts = false;         ///< the pieces say how many rows the next exchange brings

 private:
  std::vector<at::Tensor> others_;
  std::size_t exchanged_;
  std::vector<std::int64_t> expected_;  // rows from each member
};

}  // namespace plait
