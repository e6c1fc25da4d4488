#include "plait/torch/torch_stage.h"

#include <ATen/ops/full.h>
#include <ATen/ops/ones_like.h>
#include <c10/util/Exception.h>
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "plait/base/check.h"
#include "plait/base/print.h"
#include "plait/program/join_segments.h"
#include "plait/torch/autograd_split.h"
#include "plait/torch/tensors.h"

namespace plait {

namespace {

struct SavedPart final : Payload {
  std::vector<SavedSegment> segments;
  std::vector<std::vector<at::Tensor>> inputs;  ///< of segments that run again, else empty
  at::Tensor loss;  ///< at the end of the model: what its seed gradient looks like
  /// What is live depends on the graph: the counting allocator knows.
  Bytes bytes() const override { return 0; }
};

/// What the mirror exchange sends and receives, the other way round.
struct SavedSplits final : Payload {
  explicit SavedSplits(RowSplits of) : splits(std::move(of)) {}
  RowSplits splits;
  Bytes bytes() const override { return 0; }
};

struct SavedPartWeight final : Payload {
  std::vector<SavedWeight> segments;
  Bytes bytes() const override {
    Bytes sum = 0;
    for (const SavedWeight& saved : segments) sum += saved.bytes();
    return sum;
  }
};

/// What the segment says of itself.
SegmentShape shape_of(const Segment& segment) {
  const auto* exchange = dynamic_cast<const ExchangeSegment*>(&segment);
  if (exchange == nullptr) return {last_word(segment.name())};
  return {last_word(segment.name()), Lane::kCommunication, exchange->has_gradient()};
}

/// Runs `work` for one segment; what it throws becomes an error that names the segment.
template <typename Work>
Expected<void> guarded(const Segment& segment, int microbatch, Work&& work) {
  const auto where = [&] {
    return fmt::format("segment {}, micro-batch {}", segment.name(), microbatch);
  };
  try {
    work();
    return {};
  } catch (const SegmentError& error) {
    return fail(error.code(), error.what(), where());
  } catch (const c10::Error& error) {
    return fail(ErrorCode::kRuntime, std::string(first_line(error.what_without_backtrace())),
                where());
  } catch (const std::exception& error) {
    return fail(ErrorCode::kRuntime, std::string(first_line(error.what())), where());
  }
}

std::vector<at::Tensor> take_tensors(Value value) {
  if (value == nullptr) return {};
  if (auto* arrived = dynamic_cast<ArrivedRows*>(value.get())) return arrived->take();
  auto* tensors = dynamic_cast<Tensors*>(value.get());
  PLAIT_CHECK(tensors != nullptr, "a torch stage was given a value of another kind");
  return std::move(tensors->tensors);
}

template <typename Kind>
std::unique_ptr<Kind> take(Value value) {
  auto* kind = dynamic_cast<Kind*>(value.get());
  PLAIT_CHECK(kind != nullptr, "a torch stage was given what it had not saved");
  static_cast<void>(value.release());
  return std::unique_ptr<Kind>(kind);
}

/// `tensors` but the exchanged one stay here; its rows go out.
ExchangeStart begin(std::vector<at::Tensor> tensors, std::size_t exchanged, RowSplits splits,
                    int member, Value saved) {
  if (exchanged >= tensors.size() || !tensors[exchanged].defined()) {
    throw SegmentError(ErrorCode::kRuntime,
                       fmt::format("tensor {} of {} is to be exchanged, and is not there",
                                   exchanged, tensors.size()));
  }
  ExchangeStart start;
  start.saved = std::move(saved);
  start.exchange = std::make_unique<RowExchange>(tensors[exchanged].contiguous(), splits, member);
  tensors[exchanged] = at::Tensor();
  start.carried =
      std::make_unique<ArrivedRows>(std::move(tensors), exchanged, std::move(splits.receive));
  return start;
}

Value input_gradient_value(std::vector<at::Tensor> gradients) {
  return gradients.empty() ? nullptr : make_value(std::move(gradients));
}

/// The gradients of the part's outputs; at the end of the model the seed, 1.
std::vector<at::Tensor> first_gradients(const SavedPart& part, Value output_gradient) {
  if (part.loss.defined()) return {at::ones_like(part.loss)};
  return take_tensors(std::move(output_gradient));
}

Expected<void> check_is_loss(const std::vector<at::Tensor>& outputs) {
  if (outputs.size() == 1 && outputs[0].numel() == 1) return {};
  return fail(ErrorCode::kRuntime,
              "the last segment of the model must return its loss, one tensor of one number");
}

}  // namespace

void LossSink::reset(int microbatches) {
  on_device_ = at::full({microbatches}, std::numeric_limits<double>::quiet_NaN(),
                        on_device_.options().dtype(at::kDouble));
  losses_.assign(static_cast<std::size_t>(microbatches), std::numeric_limits<double>::quiet_NaN());
  recorded_.assign(losses_.size(), false);
}

void LossSink::record(int microbatch, const at::Tensor& loss) {
  const auto mb = static_cast<std::size_t>(microbatch);
  PLAIT_CHECK(microbatch >= 0 && mb < losses_.size(),
              "a loss of a micro-batch that the step does not have");
  if (on_device_.device() != loss.device()) on_device_ = on_device_.to(loss.device());
  on_device_[microbatch].copy_(loss.detach().reshape({}));
  recorded_[mb] = true;
}

Expected<void> LossSink::read() {
  const at::Tensor numbers = on_device_.cpu();
  std::copy_n(numbers.const_data_ptr<double>(), losses_.size(), losses_.begin());
  for (std::size_t mb = 0; mb < losses_.size(); ++mb) {
    if (recorded_[mb] && !lets_pass_ && !std::isfinite(losses_[mb])) {
      return fail(ErrorCode::kNotFinite,
                  fmt::format("loss is {} at micro-batch {}", losses_[mb], mb));
    }
  }
  return {};
}

double LossSink::mean() const {
  double sum = 0;
  for (const double loss : losses_) sum += loss;
  return sum / static_cast<double>(losses_.size());
}

TorchStage::TorchStage(std::vector<std::shared_ptr<Segment>> segments,
                       std::shared_ptr<LossSink> losses, GroupPlace group,
                       const std::set<std::string>& recompute)
    : segments_(std::move(segments)), losses_(std::move(losses)), member_(group.member) {
  PLAIT_CHECK(!segments_.empty(), "a stage without segments");
  std::vector<SegmentShape> shapes;
  for (const std::shared_ptr<Segment>& segment : segments_) shapes.push_back(shape_of(*segment));
  for (JoinedPart& joined : join_segments(shapes, group.members, recompute)) {
    Part& part = parts_.emplace_back();
    for (const std::size_t i : joined.segments) {
      part.segments.push_back(segments_[i]);
      part.recomputed.push_back(runs_again(shapes[i], recompute));
    }
    part.exchange = dynamic_cast<const ExchangeSegment*>(part.segments.front().get());
    part.shape = std::move(joined.shape);
  }
}

StageShape TorchStage::shape() const {
  StageShape shape;
  for (const Part& part : parts_) shape.push_back(part.shape);
  return shape;
}

std::set<std::string> compute_words(const std::vector<std::shared_ptr<Segment>>& segments) {
  std::set<std::string> words;
  for (const std::shared_ptr<Segment>& segment : segments) {
    const SegmentShape shape = shape_of(*segment);
    if (shape.lane == Lane::kCompute) words.insert(shape.word);
  }
  return words;
}

Expected<ForwardResult> TorchStage::forward(PartOf which, Value input, bool for_backward) {
  std::vector<at::Tensor> tensors;
  const std::vector<std::shared_ptr<Segment>>& segments = part(which).segments;
  PLAIT_TRY_VOID(guarded(*segments.front(), which.microbatch,
                         [&] { tensors = take_tensors(std::move(input)); }));
  auto saved = std::make_unique<SavedPart>();
  for (std::size_t i = 0; i < segments.size(); ++i) {
    PLAIT_TRY_VOID(guarded(*segments[i], which.microbatch, [&] {
      const bool recomputed = for_backward && part(which).recomputed[i];
      SegmentForward result =
          run_forward(*segments[i], tensors, which.microbatch, for_backward && !recomputed);
      if (for_backward) {
        saved->inputs.push_back(recomputed ? std::move(tensors) : std::vector<at::Tensor>());
        saved->segments.push_back(std::move(result.saved));
      }
      tensors = std::move(result.outputs);
      if (observer_) observer_(segments[i]->name(), true, which.microbatch, tensors);
    }));
  }
  ForwardResult result;
  if (ends_model(which)) {
    PLAIT_TRY_VOID(check_is_loss(tensors));
    losses_->record(which.microbatch, tensors[0]);
    saved->loss = std::move(tensors[0]);
  } else {
    result.output = make_value(std::move(tensors));
  }
  if (for_backward) result.saved = std::move(saved);
  return result;
}

Expected<BackwardInputResult> TorchStage::backward_input(PartOf which, Value saved,
                                                         Value output_gradient) {
  const std::vector<std::shared_ptr<Segment>>& segments = part(which).segments;
  const auto kept = take<SavedPart>(std::move(saved));
  std::vector<at::Tensor> gradients;
  PLAIT_TRY_VOID(guarded(*segments.back(), which.microbatch,
                         [&] { gradients = first_gradients(*kept, std::move(output_gradient)); }));
  auto weight = std::make_unique<SavedPartWeight>();
  BackwardInputResult result;
  for (std::size_t i = segments.size(); i-- > 0;) {
    PLAIT_TRY_VOID(guarded(*segments[i], which.microbatch, [&] {
      SegmentBackwardInput one =
          plait::backward_input(std::move(kept->segments[i]), std::move(gradients));
      gradients = std::move(one.input_gradients);
      if (observer_) observer_(segments[i]->name(), false, which.microbatch, gradients);
      result.whole = result.whole || one.whole;
      weight->segments.push_back(std::move(one.saved));
    }));
  }
  result.input_gradient = input_gradient_value(std::move(gradients));
  result.saved_for_weight = std::move(weight);
  if (result.whole) {
    // A part counts as split or as whole, so that a step's count of whole backwards is exact: where
    // one segment cannot be split, the W of all of them run now.
    PLAIT_TRY_VOID(backward_weight(which, std::move(result.saved_for_weight)));
    result.saved_for_weight = std::make_unique<SavedPartWeight>();
  }
  return result;
}

Expected<Value> TorchStage::recompute(PartOf which, Value saved) {
  auto kept = take<SavedPart>(std::move(saved));
  for (std::size_t i = 0; i < part(which).segments.size(); ++i) {
    if (!part(which).recomputed[i]) continue;
    Segment& segment = *part(which).segments[i];
    PLAIT_TRY_VOID(guarded(segment, which.microbatch, [&] {
      kept->segments[i] = run_forward(segment, kept->inputs[i], which.microbatch, true).saved;
      kept->inputs[i].clear();
    }));
  }
  return kept;
}

Expected<void> TorchStage::backward_weight(PartOf which, Value saved_for_weight) {
  const std::vector<std::shared_ptr<Segment>>& segments = part(which).segments;
  const auto weight = take<SavedPartWeight>(std::move(saved_for_weight));
  for (std::size_t i = 0; i < weight->segments.size(); ++i) {
    const Segment& segment = *segments[segments.size() - 1 - i];
    PLAIT_TRY_VOID(guarded(segment, which.microbatch,
                           [&] { plait::backward_weight(std::move(weight->segments[i])); }));
  }
  return {};
}

Expected<Value> TorchStage::backward(PartOf which, Value saved, Value output_gradient) {
  const std::vector<std::shared_ptr<Segment>>& segments = part(which).segments;
  const auto kept = take<SavedPart>(std::move(saved));
  std::vector<at::Tensor> gradients;
  PLAIT_TRY_VOID(guarded(*segments.back(), which.microbatch,
                         [&] { gradients = first_gradients(*kept, std::move(output_gradient)); }));
  for (std::size_t i = segments.size(); i-- > 0;) {
    PLAIT_TRY_VOID(guarded(*segments[i], which.microbatch, [&] {
      gradients = plait::backward(std::move(kept->segments[i]), std::move(gradients));
      if (observer_) observer_(segments[i]->name(), false, which.microbatch, gradients);
    }));
  }
  return input_gradient_value(std::move(gradients));
}

Expected<ExchangeStart> TorchStage::start_exchange(PartOf which, Value input, bool for_backward) {
  const ExchangeSegment& segment = *part(which).exchange;
  ExchangeStart start;
  PLAIT_TRY_VOID(guarded(segment, which.microbatch, [&] {
    std::vector<at::Tensor> tensors = take_tensors(std::move(input));
    for (const std::size_t i : segment.on_host()) tensors[i] = tensors[i].cpu();
    RowSplits splits = segment.splits(tensors);
    if (for_backward && segment.has_gradient()) start.saved = std::make_unique<SavedSplits>(splits);
    start = begin(std::move(tensors), segment.exchanged(), std::move(splits), member_,
                  std::move(start.saved));
    // Integers have no gradient, and what is exchanged of integers is row counts.
    static_cast<ArrivedRows&>(*start.carried).row_counts = !segment.has_gradient();
  }));
  return start;
}

Expected<ExchangeStart> TorchStage::start_exchange_back(PartOf which, Value saved, Value gradient) {
  const ExchangeSegment& segment = *part(which).exchange;
  ExchangeStart start;
  PLAIT_TRY_VOID(guarded(segment, which.microbatch, [&] {
    RowSplits splits = std::move(take<SavedSplits>(std::move(saved))->splits);
    std::swap(splits.send, splits.receive);
    start = begin(take_tensors(std::move(gradient)), segment.exchanged(), std::move(splits),
                  member_, nullptr);
  }));
  return start;
}

Value TorchStage::end_exchange(Value carried, Value arrived) noexcept {
  auto rows = take<ArrivedRows>(std::move(carried));
  rows->pieces = std::move(static_cast<Tensors&>(*arrived).tensors);
  return rows;
}

Expected<void> TorchStage::end_step() {
  return losses_ == nullptr ? Expected<void>() : losses_->read();
}

std::vector<Parameter> TorchStage::parameters() const {
  std::vector<Parameter> all;
  for (const std::shared_ptr<Segment>& segment : segments_) {
    std::vector<Parameter> some = segment->parameters();
    all.insert(all.end(), std::make_move_iterator(some.begin()),
               std::make_move_iterator(some.end()));
  }
  return all;
}

}  // namespace plait
