/// What crosses the boundaries between stages: how many tensors, their sizes and dtypes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "plait/base/dtype.h"
#include "plait/base/error.h"
#include "plait/base/units.h"
#include "plait/ir/direction.h"

namespace plait {

struct TensorSpec {
  std::vector<std::int64_t> sizes;
  Dtype dtype = Dtype::kNone;

  Bytes bytes() const;
  /// "float32 [2, 64, 96]", "no tensor".
  std::string text() const;
  friend bool operator==(const TensorSpec&, const TensorSpec&) = default;
};

/// The tensors of one value, in order.
using ValueSpec = std::vector<TensorSpec>;

/// "float32 [2, 64, 96], int64 [2]"; "nothing".
std::string print_spec(const ValueSpec& spec);

/// What passes between stage b and stage b + 1, the same for every micro-batch.
struct Boundary {
  ValueSpec activation;  ///< from b to b + 1
  ValueSpec gradient;    ///< from b + 1 to b: one for each tensor of the activation

  Boundary() = default;
  /// The gradient of each tensor looks like the tensor; integers have none.
  explicit Boundary(ValueSpec of_activation);
  friend bool operator==(const Boundary&, const Boundary&) = default;
};

/// By boundary: S - 1 for S stages. Empty: nothing is declared, and nothing checked.
using Boundaries = std::vector<Boundary>;

/// The boundary that a message crosses, named by the lower one of its two stages.
constexpr int boundary_of(const Message& message) {
  return std::min(message.sender_stage, stage_after(message.direction, message.sender_stage));
}

/// What the boundary declares for the message; nothing if none is declared.
const ValueSpec& spec_of(const Boundaries& boundaries, const Message& message);

/// Errors (kRuntime): the first tensor of `found` that is not as its boundary declares it, with the
/// message's stage and micro-batch, the tensor's number, what it is and what was declared. Nothing
/// is checked where no boundary is declared.
Expected<void> check_value(const Boundaries& boundaries, const Message& message,
                           const ValueSpec& found);

}  // namespace plait
