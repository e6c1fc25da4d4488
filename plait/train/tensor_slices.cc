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

TensorSlice whole_tensor(std::string name, const at::Tensor& numbers) {
  return {std::move(name), numbers.sizes().vec(), 0, numbers};
}

StateSlice slice_of(std::string what, const TensorSlice& slice) {
  const at::Tensor& numbers = slice.numbers;
  PLAIT_CHECK(numbers.is_contiguous() && numbers.is_cpu(), "the state is contiguous on the CPU");
  StateSlice state;
  state.what = std::move(what);
  state.name = slice.name;
  state.dtype = dtype_name(numbers);
  state.shape = slice.shape;
  state.first = slice.first;
  state.count = numbers.numel();
  state.bytes = {static_cast<std::byte*>(numbers.data_ptr()), numbers.nbytes()};
  return state;
}

StateSlice slice_of(std::string what, std::int64_t& number) {
  StateSlice slice;
  slice.what = std::move(what);
  slice.dtype = "I64";
  slice.bytes = std::as_writable_bytes(std::span(&number, 1));
  return slice;
}

}  // namespace plait
