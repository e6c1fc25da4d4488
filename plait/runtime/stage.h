/// One stage of the model as the executor sees it: parts that compute and parts that exchange, each
/// with values in and values out.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "plait/base/check.h"
#include "plait/base/error.h"
#include "plait/runtime/value.h"

namespace plait {

struct ForwardResult {
  Value output;  ///< for the next part or stage; null at the model's end: the stage keeps the loss
  Value saved;   ///< what the backward needs; null without `for_backward`
};

struct BackwardInputResult {
  Value input_gradient;    ///< for the part or stage before; null at the model's beginning
  Value saved_for_weight;  ///< what W needs; never null, even if nothing is left for W
  bool whole = false;      ///< this part could not be split: I ran the whole B, W has nothing to do
};

/// What one rank gives to a collective, by member of the group.
class ExchangeValue : public Payload {
 public:
  /// What `member` gets. Asked once for each member.
  virtual Value share_for(int member) = 0;
  /// The bytes that go to other ranks.
  virtual Bytes bytes_leaving() const = 0;
  /// The shares that the members had for this rank, in order of members, as one value. Cheap: its
  /// reader copies and joins the shares if it has to.
  virtual Value join(std::vector<Value> shares) = 0;
};

struct ExchangeStart {
  std::unique_ptr<ExchangeValue> exchange;
  Value carried;  ///< the tensors of the input that are not exchanged; null if there are none
  Value saved;    ///< for the mirror exchange; null without `for_backward`
};

/// A part of a stage, counted within the stage, for one micro-batch.
struct PartOf {
  int part = 0;
  int microbatch = 0;
};

/// A stage keeps nothing between calls but its parameters, their gradients and its losses: what
/// lives from F to B is in the values. Calls that compute, of all stages of one rank, come from one
/// thread at a time. Calls that exchange do too, and may run while a call that computes does.
/// Errors, thrown or returned, end the step.
///
/// On an asynchronous device a call only starts its work, on the lane that the thread has entered
/// (plait/runtime/device.h). It reads no number of a tensor on the host, but for row counts in
/// start_exchange() and everything in end_step().
class Stage {
 public:
  virtual ~Stage() = default;
  /// `input` is null at the model's beginning, which takes its micro-batch from the batch of the
  /// step.
  virtual Expected<ForwardResult> forward(PartOf which, Value input, bool for_backward) = 0;
  /// `output_gradient` is null at the model's end.
  virtual Expected<BackwardInputResult> backward_input(PartOf which, Value saved,
                                                       Value output_gradient) = 0;
  /// Runs the forward of a part that is recomputed a second time: takes what the forward saved and
  /// returns what the backward needs.
  virtual Expected<Value> recompute(PartOf, Value) {
    PLAIT_CHECK(false, "a stage that recomputes nothing was asked to");
  }
  virtual Expected<void> backward_weight(PartOf which, Value saved_for_weight) = 0;
  /// Whole backward; returns the input's gradient, null at the model's beginning.
  virtual Expected<Value> backward(PartOf which, Value saved, Value output_gradient) = 0;

  /// Begins the exchange of a part that exchanges: of its input, or of its output's gradient.
  virtual Expected<ExchangeStart> start_exchange(PartOf, Value, bool) {
    PLAIT_CHECK(false, "a stage without exchanges was asked for one");
  }
  virtual Expected<ExchangeStart> start_exchange_back(PartOf, Value, Value) {
    PLAIT_CHECK(false, "a stage without exchanges was asked for one");
  }
  /// Joins ExchangeStart::carried and the arrived value to the input of the next part. From any
  /// thread, on an asynchronous device from the rank's. Cheap.
  virtual Value end_exchange(Value, Value) noexcept { return nullptr; }

  /// All work of the step has run: what stayed on the device, as losses do, may be read now.
  virtual Expected<void> end_step() { return {}; }
};

}  // namespace plait
