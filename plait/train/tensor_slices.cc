#include "plait/train/tensor_slices.h"

#include <c10/core/ScalarType.h>

#include <utility>

#include "plait/base/check.h"

namespace plait {

std::string dtype_name(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kDouble:
      return "F64";
    case at::kFloat:
      return "F32";
    case at::kHalf:
      return "F16";
    case at::kBFloat16:
      return "BF16";
    case at::kLong:
      return "I64";
    case at::kInt:
      return "I32";
    case at::kShort:
      return "I16";
    case at::kChar:
      return "I8";
    case at::kByte:
      return "U8";
    case at::kBool:
      return "BOOL";
    default:
      return {};
  }
}

StateSlice slice_of(std::string what, const Parameter& tensor) {
  PLAIT_CHECK(tensor.tensor.is_contiguous() && tensor.tensor.is_cpu(),
              "the state is contiguous on the CPU");
  StateSlice slice;
  slice.what = std::move(what);
  slice.name = tensor.name;
  slice.dtype = dtype_name(tensor.tensor);
  slice.shape = tensor.tensor.sizes().vec();
  slice.count = tensor.tensor.numel();
  slice.bytes = {static_cast<std::byte*>(tensor.tensor.data_ptr()), tensor.tensor.nbytes()};
  return slice;
}

StateSlice slice_of(std::string what, std::int64_t& number) {
  StateSlice slice;
  slice.what = std::move(what);
  slice.dtype = "I64";
  slice.bytes = std::as_writable_bytes(std::span(&number, 1));
  return slice;
}

}  // namespace plait
