/// What differs in torch's C++ interface between 2.11, the oldest version that is built, and 2.15.
#pragma once

#include <c10/util/intrusive_ptr.h>
#include <torch/csrc/autograd/function.h>
#include <torch/version.h>

#include <memory>

namespace plait {

/// A new node of autograd's graph, in the pointer that torch's functions take: since 2.13 nodes
/// count their owners themselves.
#if TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR < 13
template <typename NodeType>
std::shared_ptr<NodeType> make_node() {
  // Torch's own deleter takes a long graph apart without recursion.
  return std::shared_ptr<NodeType>(new NodeType(), torch::autograd::deleteNode);
}
#else
template <typename NodeType>
c10::intrusive_ptr<NodeType> make_node() {
  return c10::make_intrusive<NodeType>();
}
#endif

}  // namespace plait
