/// What crosses the boundaries between stages: how many tensors, their sizes and dtypes.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/base/units.h"
#include "plait/ir/direction.h"

namespace plait {

enum class TensorDtype : std::uint8_t {
  kNone,  ///< no tensor in this place: the gradient of integers
  kBool,
  kUint8,
  kInt8,
  kInt16,
  kInt32,
  kInt64,
  kFloat16,
  kBfloat16,
  kFloat32,
  kFloat64,
  kComplex64,
  kComplex128,
  kFloat8E4m3fn,
  kFloat8E5m2,
};

struct TensorDtypeInfo {
  TensorDtype dtype;
  const char* name;
  Bytes bytes;        ///< of one number
  bool has_gradient;  ///< real and complex numbers have one
};
/// By TensorDtype.
inline constexpr std::array kTensorDtypes{
    TensorDtypeInfo{TensorDtype::kNone, "none", 0, false},
    TensorDtypeInfo{TensorDtype::kBool, "bool", 1, false},
    TensorDtypeInfo{TensorDtype::kUint8, "uint8", 1, false},
    TensorDtypeInfo{TensorDtype::kInt8, "int8", 1, false},
    TensorDtypeInfo{TensorDtype::kInt16, "int16", 2, false},
    TensorDtypeInfo{TensorDtype::kInt32, "int32", 4, false},
    TensorDtypeInfo{TensorDtype::kInt64, "int64", 8, false},
    TensorDtypeInfo{TensorDtype::kFloat16, "float16", 2, true},
    TensorDtypeInfo{TensorDtype::kBfloat16, "bfloat16", 2, true},
    TensorDtypeInfo{TensorDtype::kFloat32, "float32", 4, true},
    TensorDtypeInfo{TensorDtype::kFloat64, "float64", 8, true},
    TensorDtypeInfo{TensorDtype::kComplex64, "complex64", 8, true},
    TensorDtypeInfo{TensorDtype::kComplex128, "complex128", 16, true},
    TensorDtypeInfo{TensorDtype::kFloat8E4m3fn, "float8_e4m3fn", 1, true},
    TensorDtypeInfo{TensorDtype::kFloat8E5m2, "float8_e5m2", 1, true},
};
constexpr const TensorDtypeInfo& info(TensorDtype dtype) {
  return kTensorDtypes[static_cast<std::size_t>(dtype)];
}

struct TensorSpec {
  std::vector<std::int64_t> sizes;
  TensorDtype dtype = TensorDtype::kNone;

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
