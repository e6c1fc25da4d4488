#include "plait/torch/tensors.h"

#include <ATen/ops/cat.h>
#include <fmt/core.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>

#include "plait/torch/dtypes.h"

namespace plait {
namespace {

Bytes bytes_of(const std::vector<at::Tensor>& tensors) {
  Bytes sum = 0;
  for (const at::Tensor& tensor : tensors) {
    if (tensor.defined()) sum += static_cast<Bytes>(tensor.nbytes());
  }
  return sum;
}

Value joined(const std::vector<Value>& shares) {
  std::vector<at::Tensor> pieces;
  for (const Value& share : shares) pieces.push_back(static_cast<Tensors&>(*share).tensors.front());
  return make_value(std::move(pieces));
}

std::int64_t sum_of(const std::vector<std::int64_t>& rows) {
  return std::accumulate(rows.begin(), rows.end(), std::int64_t{0});
}

}  // namespace

ValueSpec spec_of(const std::vector<at::Tensor>& tensors) {
  ValueSpec spec;
  for (const at::Tensor& tensor : tensors) {
    spec.emplace_back();
    if (tensor.defined()) spec.back() = {tensor.sizes().vec(), dtype_of(tensor.scalar_type())};
  }
  return spec;
}

Bytes Tensors::bytes() const { return bytes_of(tensors); }

ValueSpec Tensors::spec() const { return spec_of(tensors); }

void Tensors::each_tensor(const std::function<void(const at::Tensor&)>& visit) const {
  for (const at::Tensor& tensor : tensors) visit(tensor);
}

namespace {

/// As spec_of() says it of one tensor.
bool is_like(const at::Tensor& tensor, const TensorSpec& spec) {
  if (!tensor.defined() || spec.dtype == Dtype::kNone)
    return !tensor.defined() && spec == TensorSpec{};
  return tensor.scalar_type() == scalar_type_of(spec.dtype) && tensor.sizes() == spec.sizes;
}

}  // namespace

bool Tensors::is_of(const ValueSpec& needed) const {
  return std::equal(tensors.begin(), tensors.end(), needed.begin(), needed.end(), is_like);
}

Value make_value(std::vector<at::Tensor> list) {
  return std::make_unique<Tensors>(std::move(list));
}

RowExchange::RowExchange(at::Tensor of, RowSplits by, int place)
    : rows(std::move(of)), splits(std::move(by)), member(place) {
  if (sum_of(splits.send) == rows.size(0)) return;
  throw SegmentError(ErrorCode::kRuntime,
                     fmt::format("{} rows are to be exchanged, the tensor has {}",
                                 sum_of(splits.send), rows.size(0)));
}

Bytes RowExchange::bytes_leaving() const {
  if (rows.size(0) == 0) return 0;
  const std::int64_t own = member < 0 ? 0 : splits.send[static_cast<std::size_t>(member)];
  return bytes() / rows.size(0) * (rows.size(0) - own);
}

Value RowExchange::share_for(int receiver) {
  const auto end = splits.send.begin() + receiver;
  const std::int64_t first = std::accumulate(splits.send.begin(), end, std::int64_t{0});
  return make_value({rows.narrow(0, first, *end)});
}

Value RowExchange::join(std::vector<Value> shares) { return joined(shares); }

Value SliceGather::share_for(int) { return make_value({slice}); }
Value SliceGather::join(std::vector<Value> shares) { return joined(shares); }

Bytes ArrivedRows::bytes() const { return bytes_of(others_) + bytes_of(pieces); }

void ArrivedRows::each_tensor(const std::function<void(const at::Tensor&)>& visit) const {
  for (const std::vector<at::Tensor>* list : {&others_, &pieces}) {
    for (const at::Tensor& tensor : *list) visit(tensor);
  }
}

std::vector<at::Tensor> ArrivedRows::take() {
  for (std::size_t member = 0; member < pieces.size(); ++member) {
    const std::int64_t expected = pieces.size() == 1 ? sum_of(expected_) : expected_[member];
    if (pieces[member].size(0) == expected) continue;
    throw SegmentError(ErrorCode::kRuntime,
                       fmt::format("member {} sent {} rows, it had announced {}", member,
                                   pieces[member].size(0), expected));
  }
  others_[exchanged_] = pieces.size() == 1 ? std::move(pieces.front()) : at::cat(pieces);
  return std::move(others_);
}

}  // namespace plait
