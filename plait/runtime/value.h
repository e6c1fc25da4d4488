/// What instructions hand to one another: an owned, type-erased bundle of tensors.
///
/// Every value has one writer and one reader, so it is moved, never shared: who holds it last
/// frees it. The core of the runtime knows no torch; runtime/torch/tensors.h holds at::Tensor.
#pragma once

#include <memory>

#include "plait/base/units.h"

namespace plait {

class Payload {
 public:
  virtual ~Payload() = default;
  virtual Bytes bytes() const = 0;

 protected:
  Payload() = default;
  Payload(const Payload&) = default;
  Payload& operator=(const Payload&) = default;
};

using Value = std::unique_ptr<Payload>;

}  // namespace plait
