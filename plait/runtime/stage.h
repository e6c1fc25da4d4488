/// One stage of the model as the executor sees it: parts that compute or exchange, and what each
/// does with values.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "plait/base/check.h"
#include "plait/base/error.h"
#include "plait/runtime/value.h"

namespace plait {

struct ForwardResult {
  Value output;  ///< for the next part or stage; null at the end of the model, which keeps its loss
  Value saved;   ///< what the backward needs; null if it was not asked for
};

struct BackwardInputResult {
  Value input_gradient;    ///< for what came before; null at the model's beginning
  Value saved_for_weight;  ///< what W needs; never null, even if nothing is left for W
  bool whole = false;      ///< this part could not be split: I ran the whole B, W has nothing to do
};

/// What one rank gives to an all-to-all, by member of the group.
class ExchangeValue : public Payload {
 public:
  /// What `member` gets. Asked once for each.
  virtual Value share_for(int member) = 0;
  /// Of what goes to others.
  virtual Bytes bytes_leaving() const = 0;
  /// What came, in order of members, as one value. Cheap: whoever reads it makes what it needs.
  virtual Value join(std::vector<Value> shares) = 0;
};

struct ExchangeStart {
  std::unique_ptr<ExchangeValue> exchange;
  Value carried;  ///< what stays here meanwhile
  Value saved;    ///< for the mirror exchange; null if it was not asked for
};

/// Which part of the stage, and which micro-batch.
struct PartOf {
  int part = 0;
  int microbatch = 0;
};

/// A stage keeps nothing between calls but its parameters and their gradients: what lives from F to
/// B is in the values. The calls that compute, of all stages of one rank, come from one thread at a
/// time; those of exchanges too, maybe from another thread at the same time.
/// Errors, thrown or returned, end the step.
class Stage {
 public:
  virtual ~Stage() = default;
  /// `input` is null at the model's beginning, which takes its micro-batch from the batch of the
  /// step.
  virtual Expected<ForwardResult> forward(PartOf at, Value input, bool for_backward) = 0;
  /// `output_gradient` is null at the model's end.
  virtual Expected<BackwardInputResult> backward_input(PartOf at, Value saved,
                                                       Value output_gradient) = 0;
  /// Of a part that is recomputed: what its forward kept becomes what its backward needs.
  virtual Expected<Value> recompute(PartOf, Value) {
    PLAIT_CHECK(false, "a stage that recomputes nothing was asked to");
  }
  virtual Expected<void> backward_weight(PartOf at, Value saved_for_weight) = 0;
  /// Whole backward; returns the input's gradient, null at the model's beginning.
  virtual Expected<Value> backward(PartOf at, Value saved, Value output_gradient) = 0;

  /// Of parts that exchange: what goes out, forward and back.
  virtual Expected<ExchangeStart> start_exchange(PartOf, Value, bool) {
    PLAIT_CHECK(false, "a stage without exchanges was asked for one");
  }
  virtual Expected<ExchangeStart> start_exchange_back(PartOf, Value, Value) {
    PLAIT_CHECK(false, "a stage without exchanges was asked for one");
  }
  /// What was carried and what came, as the input of the next part. From any thread; cheap.
  virtual Value end_exchange(Value, Value) noexcept { return nullptr; }

  /// All work of the step has run: what stayed on the device, as losses do, may be read now.
  virtual Expected<void> end_step() { return {}; }
};

}  // namespace plait
