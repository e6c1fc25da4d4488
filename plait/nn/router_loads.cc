#include "plait/nn/router_loads.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <utility>

#include "plait/base/check.h"
#include "plait/model/names.h"

namespace plait {

void RouterLoads::reset(int microbatches) {
  microbatches_ = microbatches;
  loads_.clear();
}

namespace {

std::vector<std::int64_t> numbers_of(const at::Tensor& tensor) {
  const at::Tensor host = tensor.cpu();
  const auto* first = host.const_data_ptr<std::int64_t>();
  return {first, first + host.numel()};
}

}  // namespace

void RouterLoads::record(int layer, int microbatch, const at::Tensor& loads) {
  PLAIT_CHECK(microbatch >= 0 && microbatch < microbatches_,
              "loads of a micro-batch that the step does not have");
  auto& of_layer = loads_[layer];
  of_layer.resize(static_cast<std::size_t>(microbatches_));
  Loads& of_microbatch = of_layer[static_cast<std::size_t>(microbatch)];
  of_microbatch = loads.is_cpu() ? Loads{numbers_of(loads), {}} : Loads{{}, loads};
}

LayerLoads RouterLoads::sums() const {
  LayerLoads sums;
  for (const auto& [layer, microbatches] : loads_) {
    std::vector<std::int64_t>& sum = sums[layer];
    for (const Loads& loads : microbatches) {
      const std::vector<std::int64_t> one =
          loads.on_device.defined() ? numbers_of(loads.on_device) : loads.numbers;
      sum.resize(std::max(sum.size(), one.size()));
      for (std::size_t expert = 0; expert < one.size(); ++expert) sum[expert] += one[expert];
    }
  }
  return sums;
}

void update_router_bias(ParameterStore& store, const LayerLoads& loads, double speed) {
  for (const auto& [layer, load] : loads) {
    const std::string name = router_bias_name(layer);
    if (!store.contains(name)) continue;
    const at::Tensor bias = store.find(name);
    PLAIT_CHECK(bias.numel() == static_cast<std::int64_t>(load.size()),
                "a load for each expert of the layer");
    const std::int64_t total = std::accumulate(load.begin(), load.end(), std::int64_t{0});
    const at::Tensor host = bias.cpu();  // itself, if it is there
    auto* numbers = host.mutable_data_ptr<float>();
    for (std::size_t expert = 0; expert < load.size(); ++expert) {
      // In whole numbers: an expert at exactly the mean stays.
      const std::int64_t short_of = total - bias.numel() * load[expert];
      const int sign = (short_of > 0) - (short_of < 0);
      numbers[expert] += static_cast<float>(speed * sign);
    }
    if (!bias.is_cpu()) bias.copy_(host);
  }
}

}  // namespace plait
