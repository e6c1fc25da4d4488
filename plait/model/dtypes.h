/// What numbers a model is made of. Every size in bytes is derived from these.
#pragma once

#include "plait/base/dtype.h"

namespace plait {

/// The dtypes of a run. Other numbers are other defaults here.
struct Dtypes {
  Dtype parameter = Dtype::kFloat32;  ///< parameters, their gradients, buffers
  Dtype compute = Dtype::kFloat32;    ///< hidden states, unless run.dtype has another
  Dtype index = Dtype::kInt64;        ///< tokens, and places and counts of routed rows
};

inline constexpr Dtypes kDtypes{};

}  // namespace plait
