/// Any torch module, or any function of tensors, as a segment.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "plait/torch/segment.h"

namespace plait {

class FunctionSegment final : public Segment {
 public:
  using Function = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>& inputs)>;

  FunctionSegment(std::string name, Function function, std::vector<Parameter> parameters = {},
                  std::vector<Parameter> buffers = {})
      : name_(std::move(name)),
        function_(std::move(function)),
        parameters_(std::move(parameters)),
        buffers_(std::move(buffers)) {}

  const std::string& name() const override { return name_; }
  std::vector<at::Tensor> forward(const std::vector<at::Tensor>& inputs, int) override {
    return function_(inputs);
  }
  std::vector<Parameter> parameters() const override { return parameters_; }
  std::vector<Parameter> buffers() const override { return buffers_; }

 private:
  std::string name_;
  Function function_;
  std::vector<Parameter> parameters_, buffers_;
};

/// A module whose forward takes one tensor and returns one; `module` is a torch::nn::ModuleHolder
/// or a shared_ptr. Its parameters and buffers are named after the segment. `holders`: kData for an
/// expert, which lies on one member of each expert group.
template <typename Module>
std::shared_ptr<Segment> module_segment(std::string name, Module module,
                                        Group holders = Group::kReplicas) {
  std::vector<Parameter> parameters, buffers;
  for (const auto& parameter : module->named_parameters())
    parameters.push_back({name + "." + parameter.key(), parameter.value(), holders});
  for (const auto& buffer : module->named_buffers())
    buffers.push_back({name + "." + buffer.key(), buffer.value(), holders});
  return std::make_shared<FunctionSegment>(
      std::move(name),
      [module](const std::vector<at::Tensor>& inputs) mutable {
        return std::vector<at::Tensor>{module->forward(inputs.at(0))};
      },
      std::move(parameters), std::move(buffers));
}

}  // namespace plait
