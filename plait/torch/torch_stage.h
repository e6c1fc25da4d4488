/// A stage of the executor made of torch segments.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "plait/program/grid.h"
#include "plait/program/pair_order.h"
#include "plait/runtime/stage.h"
#include "plait/torch/segment.h"

namespace plait {

/// The losses of the micro-batches of one step. The compute lane of the rank that holds the last
/// stage writes them; they stay on its device until read(). Not thread-safe.
class LossSink {
 public:
  void reset(int microbatches);
  /// `loss`: one number of any floating dtype. Does not wait for the device.
  void record(int microbatch, const at::Tensor& loss);
  /// From here on a loss that is not finite is no error of read(): its reader looks.
  void let_pass_not_finite() { lets_pass_ = true; }
  /// Copies the losses to the host when the step has ended. Errors: kNotFinite, the first loss that
  /// is not finite.
  Expected<void> read();
  /// As of the last read(), in order of micro-batches; NaN where none was recorded.
  const std::vector<double>& losses() const { return losses_; }
  /// Sum in order of micro-batches, divided once.
  double mean() const;

 private:
  at::Tensor on_device_ = at::empty({0}, at::kDouble);
  std::vector<double> losses_;
  std::vector<bool> recorded_;
  bool lets_pass_ = false;
};

/// Segments run in order, joined to parts by join_segments() (program/join_segments.h). What a
/// segment returns is detached, contiguous and a new leaf for the next, so no graph crosses a
/// boundary.
/// Parameters accumulate unscaled into .grad (allocate it before for in-place accumulation).
/// Exceptions of torch become errors that name the segment. An in-place change of a boundary
/// tensor and a loss that is not a scalar are errors of their micro-batch, a loss that is not
/// finite (kNotFinite) is one of end_step(). If one segment of a part cannot be split, the whole
/// part runs as B at its I.
class TorchStage final : public Stage {
 public:
  /// `losses` for the last stage, whose last segment returns the scalar loss; null for others.
  /// `group`: this rank's place in the expert group. `recompute`: the last words of the names of
  /// segments that keep only their inputs and run again before their backward; what was exchanged
  /// is kept, so no exchange is repeated.
  explicit TorchStage(std::vector<std::shared_ptr<Segment>> segments,
                      std::shared_ptr<LossSink> losses = nullptr, GroupPlace group = {},
                      const std::set<std::string>& recompute = {});

  Expected<ForwardResult> forward(PartOf which, Value input, bool for_backward) override;
  Expected<BackwardInputResult> backward_input(PartOf which, Value saved,
                                               Value output_gradient) override;
  Expected<Value> recompute(PartOf which, Value saved) override;
  Expected<void> backward_weight(PartOf which, Value saved_for_weight) override;
  Expected<Value> backward(PartOf which, Value saved, Value output_gradient) override;
  Expected<ExchangeStart> start_exchange(PartOf which, Value input, bool for_backward) override;
  Expected<ExchangeStart> start_exchange_back(PartOf which, Value saved, Value gradient) override;
  Value end_exchange(Value carried, Value arrived) noexcept override;
  /// Errors: kNotFinite, of the losses.
  Expected<void> end_step() override;

  StageShape shape() const;

  /// Told of what each segment that computes has made, on the thread that ran it: its outputs, or
  /// the gradients of its inputs.
  using Observer = std::function<void(const std::string& segment, bool forward, int microbatch,
                                      const std::vector<at::Tensor>& made)>;
  void observe(Observer observer) { observer_ = std::move(observer); }

  /// Of all segments, in order.
  std::vector<Parameter> parameters() const;

 private:
  struct Part {
    std::vector<std::shared_ptr<Segment>> segments;
    std::vector<bool> recomputed{};             ///< by segment
    const ExchangeSegment* exchange = nullptr;  ///< the one segment, if the part exchanges
    PartShape shape{};
  };

  const Part& part(PartOf which) const { return parts_[static_cast<std::size_t>(which.part)]; }
  bool ends_model(PartOf which) const {
    return losses_ != nullptr && static_cast<std::size_t>(which.part) + 1 == parts_.size();
  }

  std::vector<std::shared_ptr<Segment>> segments_;
  std::vector<Part> parts_;
  std::shared_ptr<LossSink> losses_;
  Observer observer_;
  int member_;
};

/// Last words of the names of those segments that compute: what may be recomputed.
std::set<std::string> compute_words(const std::vector<std::shared_ptr<Segment>>& segments);

}  // namespace plait
