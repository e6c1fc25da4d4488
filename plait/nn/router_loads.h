/// How many rows each expert got, and the balancing by the router's bias that follows from it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <vector>

#include "plait/nn/parameter_store.h"

namespace plait {

/// Rows per expert, by layer.
using LayerLoads = std::map<int, std::vector<std::int64_t>>;

/// The loads of one step on one rank. Written by the segments on the rank's compute lane, read when
/// the step has ended: until then those of a GPU stay there. A micro-batch's loads are assigned, so
/// that its forward may run again.
class RouterLoads {
 public:
  void reset(int microbatches);
  /// `loads`: int64, a number for each expert, not changed afterwards.
  void record(int layer, int microbatch, const at::Tensor& loads);
  /// Summed over micro-batches; of the layers that recorded since reset().
  LayerLoads sums() const;

 private:
  struct Loads {
    std::vector<std::int64_t> numbers;  // of a tensor on the CPU
    at::Tensor on_device;               // else the tensor
  };
  int microbatches_ = 0;
  std::map<int, std::vector<Loads>> loads_;  // by layer and micro-batch
};

/// Adds speed * sign(mean load - load) to the bias of each expert, in the layers of `loads` that
/// `store` holds. `loads` are those of the whole step, summed over all ranks. Once a step, after
/// it: DeepSeek-V3's balancing without a loss, arXiv:2412.19437, 2.1.2.
void update_router_bias(ParameterStore& store, const LayerLoads& loads, double speed);

}  // namespace plait
