/// The parameters and buffers of one rank, by name, whatever stage uses them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "plait/base/error.h"
#include "plait/torch/segment.h"

namespace plait {

/// Not thread-safe; each rank has its own.
class ParameterStore {
 public:
  /// `device`: where its tensors are made.
  explicit ParameterStore(at::Device device = at::kCPU) : device_(device) {}
  at::Device device() const { return device_; }

  /// A new leaf tensor of that shape, not initialised. The name must be new.
  at::Tensor create(const std::string& name, at::IntArrayRef shape);
  /// Another leaf on the same storage with a gradient of its own, for a second use that must
  /// accumulate apart (tied embeddings). The parameter must exist.
  at::Tensor alias(const std::string& name);

  /// Keeps a copy of the parameter in that dtype, renewed by renew_rounded(), and returns it; the
  /// same one every time.
  at::Tensor keep_rounded(const std::string& name, at::ScalarType dtype);
  /// Copies the parameter to its rounded copy, if it has one.
  void renew_rounded(const std::string& name);

  /// A new tensor of zeros that belongs to the model but is not trained: it has no gradient and is
  /// not among the parameters. The name must be new.
  at::Tensor create_buffer(const std::string& name, at::IntArrayRef shape);

  /// A tensor that exists already: a leaf that is trained, or one that needs no gradient as a
  /// buffer. A tensor that is here already, under whatever name, changes nothing.
  /// Errors (kInvalidInput): another tensor has the name; it is not contiguous, or on another
  /// device than the store's.
  Expected<void> adopt(const Parameter& parameter);
  Expected<void> adopt_buffer(const Parameter& buffer);
  /// Says which ranks hold the same numbers of a parameter; kReplicas until it is said.
  void set_holders(const std::string& name, Group holders);

  /// Of parameters and buffers.
  bool contains(const std::string& name) const;
  /// The parameter or buffer; undefined if there is none.
  at::Tensor find(const std::string& name) const;
  /// What is trained, in order of names; each once, aliases aside.
  std::vector<Parameter> parameters() const;
  /// In order of names.
  std::vector<Parameter> buffers() const;
  /// Parameters and buffers in order of names: what a model's file holds.
  std::vector<Parameter> tensors() const;
  std::int64_t count() const;  ///< numbers of the parameters, each once

  /// Gives every leaf and alias a zero gradient if it has none, for accumulation in place.
  void allocate_gradients();
  /// Sets all gradients to zero, keeping their memory.
  void zero_gradients();
  /// Adds the gradients of a parameter's aliases to its own, in the order they were made, and
  /// zeroes them. Once a step, after its last W and before anything reads its gradient.
  void add_alias_gradients(const std::string& name);
  /// Of all parameters.
  void add_alias_gradients();

  // The memory of a parameter's numbers and of their rounded copy, or of its gradient and those of
  // its aliases, goes back to the allocator and comes anew under the same tensors: what graphs and
  // segments hold stays valid, and autograd sees no change. Nothing to do where it is so already.

  void free_values(const std::string& name);
  /// Not initialised.
  void allocate_values(const std::string& name);
  void free_gradients(const std::string& name);
  /// Zeros, where there were none.
  void allocate_gradients(const std::string& name);

 private:
  struct Entry {
    at::Tensor leaf;
    std::vector<at::Tensor> aliases;
    at::Tensor rounded;
    Group holders = Group::kReplicas;
  };
  at::Device device_;
  std::map<std::string, Entry> entries_;
  Expected<bool> is_new(const Parameter& parameter) const;
  std::map<std::string, Parameter> buffers_;
};

/// Fills with normal numbers of that deviation, drawn by counter from (seed, name): the same bits
/// on every rank, split, device and platform. Each is the sum of eight uniform numbers of
/// 16 bits.
void fill_normal(const at::Tensor& tensor, std::uint64_t seed, std::string_view name,
                 double deviation);

}  // namespace plait
