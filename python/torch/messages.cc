#include "python/torch/messages.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace plait::python {
namespace {

/// Of the places in a message, the first is its heading's.
constexpr int kPlaces = 32;
constexpr std::int64_t kHeadingNumbers = 256;

/// Number of tensors; for each its dtype, whether it has a gradient, its dimensions and sizes.
at::Tensor print_heading(const CrossingShape& shape) {
  std::vector<std::int64_t> numbers{static_cast<std::int64_t>(shape.tensors.size())};
  for (const CrossingShape::Tensor& tensor : shape.tensors) {
    numbers.push_back(static_cast<std::int64_t>(tensor.dtype));
    numbers.push_back(tensor.has_gradient ? 1 : 0);
    numbers.push_back(static_cast<std::int64_t>(tensor.sizes.size()));
    numbers.insert(numbers.end(), tensor.sizes.begin(), tensor.sizes.end());
  }
  if (shape.tensors.size() >= kPlaces || numbers.size() > kHeadingNumbers) {
    throw std::runtime_error(
        fmt::format("found {} tensors at a boundary, needed at most {} with {} numbers of shapes",
                    shape.tensors.size(), kPlaces - 1, kHeadingNumbers));
  }
  at::Tensor heading = at::zeros({kHeadingNumbers}, at::kLong);
  std::copy(numbers.begin(), numbers.end(), heading.data_ptr<std::int64_t>());
  return heading;
}

CrossingShape read_heading(const at::Tensor& heading) {
  const std::int64_t* next = heading.const_data_ptr<std::int64_t>();
  CrossingShape shape;
  shape.tensors.resize(static_cast<std::size_t>(*next++));
  for (CrossingShape::Tensor& tensor : shape.tensors) {
    tensor.dtype = static_cast<at::ScalarType>(*next++);
    tensor.has_gradient = *next++ != 0;
    tensor.sizes.resize(static_cast<std::size_t>(*next++));
    for (std::int64_t& size : tensor.sizes) size = *next++;
  }
  return shape;
}

bool is_moved(const at::Tensor& tensor) { return tensor.defined() && tensor.numel() > 0; }

}  // namespace

CrossingShape CrossingShape::of(const Crossing& crossing) {
  CrossingShape shape;
  for (std::size_t i = 0; i < crossing.tensors.size(); ++i) {
    const at::Tensor& tensor = crossing.tensors[i];
    shape.tensors.push_back(
        {tensor.sizes().vec(), tensor.scalar_type(), static_cast<bool>(crossing.has_gradient[i])});
  }
  return shape;
}

std::string CrossingShape::text() const {
  std::string text;
  for (const Tensor& tensor : tensors) {
    text += fmt::format("{}{} [{}]", text.empty() ? "" : ", ", c10::toString(tensor.dtype),
                        fmt::join(tensor.sizes, ", "));
  }
  return text.empty() ? "nothing" : text;
}

Messages::Messages(c10::intrusive_ptr<c10d::Backend> backend, int stages, int microbatches)
    : backend_(std::move(backend)), stages_(stages), microbatches_(microbatches) {
  const double needed = 2.0 * stages * microbatches * kPlaces;
  constexpr int kMost = std::numeric_limits<int>::max();
  if (needed > kMost) {
    throw std::runtime_error(fmt::format(
        "{} stages and {} micro-batches need {:.0f} tags of messages, a process group has {}",
        stages, microbatches, needed, kMost));
  }
  epochs_ = kMost / static_cast<int>(needed);
}

void Messages::begin_step() {
  open_.clear();
  known_.clear();
  epoch_ = (epoch_ + 1) % epochs_;
}

Messages::Boundary Messages::boundary_of(const Message& message) {
  if (message.direction == Direction::kForward) return {message.sender_stage, message.destination};
  return {message.sender_stage - 1, message.source};
}

int Messages::tag_of(const Message& message, std::size_t place) const {
  const int direction = message.direction == Direction::kForward ? 0 : 1;
  return (((epoch_ * 2 + direction) * stages_ + message.sender_stage) * microbatches_ +
          message.microbatch) *
             kPlaces +
         static_cast<int>(place);
}

void Messages::say_ahead(Transfer& transfer, const CrossingShape& shape) {
  Known& known = known_[boundary_of(transfer.message)];
  if (!known.shape) {
    known.shape = shape;
    known.heading = print_heading(shape);
    std::vector<at::Tensor> one{known.heading};
    transfer.works.push_back(
        backend_->send(one, transfer.message.destination, tag_of(transfer.message, 0)));
    return;
  }
  if (*known.shape == shape) return;
  throw std::runtime_error(fmt::format(
      "the output of stage {} for micro-batch {} is {}, this step's first was {}: micro-batches of "
      "one step have one shape",
      transfer.message.sender_stage, transfer.message.microbatch, shape.text(),
      known.shape->text()));
}

void Messages::send(const Message& message, Crossing value, int token) {
  Transfer& transfer = open_[token];
  transfer.message = message;
  transfer.sends = transfer.posted = true;
  transfer.value = std::move(value);
  if (message.direction == Direction::kForward)
    say_ahead(transfer, CrossingShape::of(transfer.value));
  for (std::size_t i = 0; i < transfer.value.tensors.size(); ++i) {
    if (!is_moved(transfer.value.tensors[i])) continue;
    std::vector<at::Tensor> one{transfer.value.tensors[i]};
    transfer.works.push_back(backend_->send(one, message.destination, tag_of(message, i + 1)));
  }
}

void Messages::recv(const Message& message, int token) {
  Transfer& transfer = open_[token];
  transfer.message = message;
  Known& known = known_[boundary_of(message)];
  if (known.shape) return post_receive(transfer, *known.shape);
  if (known.work || message.direction == Direction::kBackward) return;
  known.heading = at::empty({kHeadingNumbers}, at::kLong);
  std::vector<at::Tensor> one{known.heading};
  known.work = backend_->recv(one, message.source, tag_of(message, 0));
}

void Messages::post_receive(Transfer& transfer, const CrossingShape& shape) {
  const bool gradients = transfer.message.direction == Direction::kBackward;
  for (std::size_t i = 0; i < shape.tensors.size(); ++i) {
    const CrossingShape::Tensor& tensor = shape.tensors[i];
    transfer.value.has_gradient.push_back(tensor.has_gradient);
    if (gradients && !tensor.has_gradient) {
      transfer.value.tensors.emplace_back();
      continue;
    }
    transfer.value.tensors.push_back(at::empty(tensor.sizes, tensor.dtype));
    if (!is_moved(transfer.value.tensors.back())) continue;
    std::vector<at::Tensor> one{transfer.value.tensors.back()};
    transfer.works.push_back(
        backend_->recv(one, transfer.message.source, tag_of(transfer.message, i + 1)));
  }
  transfer.posted = true;
}

bool Messages::wait_for_heading(Known& known, WaitPlace& place) {
  if (!known.work) {
    throw std::runtime_error(
        "a gradient is awaited before this step's first activation over its boundary was sent");
  }
  if (!place.wait(*known.work)) return false;
  known.shape = read_heading(known.heading);
  known.work.reset();
  return true;
}

bool Messages::wait(int token, WaitPlace& place) {
  const auto found = open_.find(token);
  if (found == open_.end()) return true;
  Transfer& transfer = found->second;
  if (!transfer.posted) {
    const Boundary boundary = boundary_of(transfer.message);
    Known& known = known_[boundary];
    if (!known.shape && !wait_for_heading(known, place)) return false;
    // All that stood back for the heading, in the order of the list.
    for (auto& [other_token, other] : open_) {
      if (!other.posted && boundary_of(other.message) == boundary)
        post_receive(other, *known.shape);
    }
  }
  for (; transfer.over < transfer.works.size(); ++transfer.over) {
    if (!place.wait(*transfer.works[transfer.over])) return false;
  }
  if (transfer.sends) open_.erase(found);
  return true;
}

Crossing Messages::take(int token) {
  const auto found = open_.find(token);
  Crossing value = std::move(found->second.value);
  open_.erase(found);
  return value;
}

std::optional<int> Messages::oldest() const {
  if (open_.empty()) return std::nullopt;
  return open_.begin()->first;
}

}  // namespace plait::python
