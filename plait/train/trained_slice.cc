#include "plait/train/trained_slice.h"

#include "plait/base/check.h"

namespace plait {

TrainedSlice whole_slice(const Parameter& parameter, bool speaks) {
  at::Tensor& gradient = parameter.tensor.mutable_grad();
  PLAIT_CHECK(gradient.defined(), "gradients are allocated before the step");
  // Of a module of the caller's own it may have come out of a transposition.
  if (!gradient.is_contiguous()) gradient = gradient.contiguous();
  return {parameter.name,
          parameter.tensor.sizes().vec(),
          0,
          parameter.tensor.detach().view({-1}),
          gradient.view({-1}),
          speaks};
}

}  // namespace plait
