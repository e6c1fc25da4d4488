/// What numbers a model is made of. Every size in bytes is derived from these.
#pragma once

#include <cstdint>

#include "plait/base/units.h"

namespace plait {

enum class Dtype : std::uint8_t { kFloat32, kInt64 };

constexpr Bytes bytes_of(Dtype dtype) { return dtype == Dtype::kInt64 ? 8 : 4; }

/// The dtypes of a run. A later one of two bytes is a value of Dtype and other defaults here.
struct Dtypes {
  Dtype parameter = Dtype::kFloat32;  ///< parameters, their gradients, buffers
  Dtype compute = Dtype::kFloat32;    ///< hidden states and what segments keep for the backward
  Dtype index = Dtype::kInt64;        ///< tokens, and places and counts of routed rows
};

inline constexpr Dtypes kDtypes{};

}  // namespace plait
