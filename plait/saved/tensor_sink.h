/// Takes the tensors of a file one after the other, so that nobody has to hold them all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "plait/base/error.h"

namespace plait {

struct TensorInfo {
  std::string name;
  std::string dtype;  ///< as safetensors calls it: "F32", "I64", …
  std::vector<std::int64_t> shape;
};

/// begin(), write() until all bytes are there, end(). Without end() nothing is left behind.
class TensorSink {
 public:
  virtual ~TensorSink() = default;
  /// `tensors` in ascending order of names, each once.
  virtual Expected<void> begin(const std::vector<TensorInfo>& tensors) = 0;
  /// The tensors' numbers, little-endian, tensor after tensor, in pieces of any length.
  virtual Expected<void> write(std::span<const std::byte> bytes) = 0;
  virtual Expected<void> end() = 0;
};

}  // namespace plait
