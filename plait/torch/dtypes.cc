#include "plait/torch/dtypes.h"

#include <fmt/core.h>

#include <array>
#include <utility>

#include "plait/base/check.h"
#include "plait/torch/segment.h"

namespace plait {
namespace {

constexpr std::array<std::pair<Dtype, at::ScalarType>, kDtypeTable.size() - 1> kScalarTypes{{
    {Dtype::kBool, at::kBool},
    {Dtype::kUint8, at::kByte},
    {Dtype::kInt8, at::kChar},
    {Dtype::kInt16, at::kShort},
    {Dtype::kInt32, at::kInt},
    {Dtype::kInt64, at::kLong},
    {Dtype::kFloat16, at::kHalf},
    {Dtype::kBFloat16, at::kBFloat16},
    {Dtype::kFloat32, at::kFloat},
    {Dtype::kFloat64, at::kDouble},
    {Dtype::kComplex64, at::kComplexFloat},
    {Dtype::kComplex128, at::kComplexDouble},
    {Dtype::kFloat8E4m3fn, at::kFloat8_e4m3fn},
    {Dtype::kFloat8E5m2, at::kFloat8_e5m2},
}};

}  // namespace

at::ScalarType scalar_type_of(Dtype dtype) {
  for (const auto& [ours, theirs] : kScalarTypes) {
    if (ours == dtype) return theirs;
  }
  PLAIT_CHECK(false, "a tensor has a dtype");
}

Dtype dtype_of(at::ScalarType type) {
  for (const auto& [ours, theirs] : kScalarTypes) {
    if (theirs == type) return ours;
  }
  throw SegmentError(ErrorCode::kRuntime,
                     fmt::format("a tensor of {} cannot cross a boundary", c10::toString(type)));
}

}  // namespace plait
