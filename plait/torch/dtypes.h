/// Dtypes by their names in torch.
#pragma once

#include <c10/core/ScalarType.h>

#include "plait/base/dtype.h"

namespace plait {

/// PLAIT_CHECKs that the dtype is of a tensor (not kNone).
at::ScalarType scalar_type_of(Dtype dtype);
/// Throws SegmentError with the name of a type that has no Dtype.
Dtype dtype_of(at::ScalarType type);

}  // namespace plait
