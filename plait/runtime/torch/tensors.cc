#include "plait/runtime/torch/tensors.h"

#include <memory>

namespace plait {

Bytes Tensors::bytes() const {
  Bytes sum = 0;
  for (const at::Tensor& tensor : tensors) sum += static_cast<Bytes>(tensor.nbytes());
  return sum;
}

Value make_value(std::vector<at::Tensor> list) {
  return std::make_unique<Tensors>(std::move(list));
}

}  // namespace plait
