#include "plait/runtime/torch/torch_stage.h"

#include <ATen/ops/ones_like.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "plait/base/check.h"
#include "plait/runtime/torch/autograd_split.h"
#include "plait/runtime/torch/tensors.h"

namespace plait {

namespace {

struct SavedStage final : Payload {
  std::vector<SavedSegment> segments;
  at::Tensor loss;  ///< on the last stage: what its seed gradient looks like
  /// What is live depends on the graph: the counting allocator knows.
  Bytes bytes() const override { return 0; }
};

struct SavedStageWeight final : Payload {
  std::vector<SavedWeight> segments;
  Bytes bytes() const override {
    Bytes sum = 0;
    for (const SavedWeight& saved : segments) sum += saved.bytes();
    return sum;
  }
};

/// Torch's messages go on with call stacks and advice.
std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

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
    return fail(ErrorCode::kRuntime, first_line(error.what_without_backtrace()), where());
  } catch (const std::exception& error) {
    return fail(ErrorCode::kRuntime, first_line(error.what()), where());
  }
}

std::vector<at::Tensor> take_tensors(Value value) {
  if (value == nullptr) return {};
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

Value input_gradient_value(std::vector<at::Tensor> gradients) {
  return gradients.empty() ? nullptr : make_value(std::move(gradients));
}

/// The gradients of the stage's outputs; on the last stage the seed, 1.
std::vector<at::Tensor> first_gradients(const SavedStage& stage, Value output_gradient) {
  if (stage.loss.defined()) return {at::ones_like(stage.loss)};
  return take_tensors(std::move(output_gradient));
}

Expected<double> loss_value(const std::vector<at::Tensor>& outputs, int microbatch) {
  if (outputs.size() != 1 || outputs[0].numel() != 1) {
    return fail(ErrorCode::kRuntime,
                "the last segment of the model must return its loss, one tensor of one number");
  }
  const double loss = outputs[0].item().toDouble();
  if (!std::isfinite(loss)) {
    return fail(ErrorCode::kNotFinite,
                fmt::format("loss is {} at micro-batch {}", loss, microbatch));
  }
  return loss;
}

}  // namespace

void LossSink::reset(int microbatches) {
  losses_.assign(static_cast<std::size_t>(microbatches), std::numeric_limits<double>::quiet_NaN());
}

void LossSink::record(int microbatch, double loss) {
  PLAIT_CHECK(microbatch >= 0 && static_cast<std::size_t>(microbatch) < losses_.size(),
              "a loss of a micro-batch that the step does not have");
  losses_[static_cast<std::size_t>(microbatch)] = loss;
}

double LossSink::mean() const {
  double sum = 0;
  for (const double loss : losses_) sum += loss;
  return sum / static_cast<double>(losses_.size());
}

TorchStage::TorchStage(std::vector<std::shared_ptr<Segment>> segments,
                       std::shared_ptr<LossSink> losses)
    : segments_(std::move(segments)), losses_(std::move(losses)) {
  PLAIT_CHECK(!segments_.empty(), "a stage without segments");
}

Expected<ForwardResult> TorchStage::forward(int microbatch, Value input, bool for_backward) {
  std::vector<at::Tensor> tensors = take_tensors(std::move(input));
  auto saved = std::make_unique<SavedStage>();
  for (const std::shared_ptr<Segment>& segment : segments_) {
    PLAIT_TRY_VOID(guarded(*segment, microbatch, [&] {
      SegmentForward result = run_forward(*segment, tensors, microbatch, for_backward);
      tensors = std::move(result.outputs);
      if (for_backward) saved->segments.push_back(std::move(result.saved));
    }));
  }
  ForwardResult result;
  if (losses_ != nullptr) {
    PLAIT_TRY(const double loss, loss_value(tensors, microbatch));
    losses_->record(microbatch, loss);
    saved->loss = std::move(tensors[0]);
  } else {
    result.output = make_value(std::move(tensors));
  }
  if (for_backward) result.saved = std::move(saved);
  return result;
}

Expected<BackwardInputResult> TorchStage::backward_input(int microbatch, Value saved,
                                                         Value output_gradient) {
  const auto stage = take<SavedStage>(std::move(saved));
  std::vector<at::Tensor> gradients = first_gradients(*stage, std::move(output_gradient));
  auto weight = std::make_unique<SavedStageWeight>();
  BackwardInputResult result;
  for (std::size_t i = segments_.size(); i-- > 0;) {
    PLAIT_TRY_VOID(guarded(*segments_[i], microbatch, [&] {
      SegmentBackwardInput part =
          plait::backward_input(std::move(stage->segments[i]), std::move(gradients));
      gradients = std::move(part.input_gradients);
      result.whole = result.whole || part.whole;
      weight->segments.push_back(std::move(part.saved));
    }));
  }
  result.input_gradient = input_gradient_value(std::move(gradients));
  result.saved_for_weight = std::move(weight);
  if (result.whole) {
    // A step counts stages that were not split: one that was split in part would be neither.
    PLAIT_TRY_VOID(backward_weight(microbatch, std::move(result.saved_for_weight)));
    result.saved_for_weight = std::make_unique<SavedStageWeight>();
  }
  return result;
}

Expected<void> TorchStage::backward_weight(int microbatch, Value saved_for_weight) {
  const auto weight = take<SavedStageWeight>(std::move(saved_for_weight));
  for (std::size_t i = 0; i < weight->segments.size(); ++i) {
    const Segment& segment = *segments_[segments_.size() - 1 - i];
    PLAIT_TRY_VOID(guarded(segment, microbatch,
                           [&] { plait::backward_weight(std::move(weight->segments[i])); }));
  }
  return {};
}

Expected<Value> TorchStage::backward(int microbatch, Value saved, Value output_gradient) {
  const auto stage = take<SavedStage>(std::move(saved));
  std::vector<at::Tensor> gradients = first_gradients(*stage, std::move(output_gradient));
  for (std::size_t i = segments_.size(); i-- > 0;) {
    PLAIT_TRY_VOID(guarded(*segments_[i], microbatch, [&] {
      gradients = plait::backward(std::move(stage->segments[i]), std::move(gradients));
    }));
  }
  return input_gradient_value(std::move(gradients));
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
