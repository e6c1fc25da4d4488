/// The safetensors file format: a JSON header and raw little-endian numbers. No code runs on load.
/// Source: https://github.com/huggingface/safetensors#format
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "plait/base/error.h"
#include "plait/base/write_file.h"
#include "plait/saved/safetensors_header.h"
#include "plait/saved/tensor_sink.h"
#include "plait/torch/segment.h"

namespace plait {

/// One open file. Its header has been checked: offsets in order without gaps or overlaps, sizes as
/// dtype and shape say, and the file exactly as long. Errors are kInvalidInput and name the file,
/// the tensor, what was found and what was needed; kIo if it cannot be read.
class SafetensorsFile {
 public:
  using Entry = SafetensorsEntry;

  static Expected<SafetensorsFile> open(const std::string& path);

  const std::string& path() const { return path_; }
  const std::map<std::string, Entry>& entries() const { return header_.entries; }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  /// An error (kNotBuilt) if the tensor is of a dtype that read() cannot read.
  Expected<void> check_dtype(const std::string& name) const;
  /// F64, F32, BF16 and F16, in the dtype of the model's parameters (nn/tensor_options.h).
  Expected<at::Tensor> read(const std::string& name) const;
  /// Fills `into` with a tensor's bytes from byte `first` of it on, of whatever dtype. Requires
  /// that it has them.
  Expected<void> read_bytes(const std::string& name, std::int64_t first,
                            std::span<std::byte> into) const;

 private:
  SafetensorsFile() = default;
  std::string path_;
  SafetensorsHeader header_;
};

/// Writes a file tensor by tensor; it takes its name when it is whole. Errors (kInvalidInput): a
/// dtype that the format does not have; kIo: what cannot be written.
class SafetensorsSink final : public TensorSink {
 public:
  /// `observe`, if given, is told of all bytes of the file, in order.
  SafetensorsSink(const std::string& path, std::map<std::string, std::string> metadata,
                  std::function<void(std::span<const std::byte>)> observe = {})
      : path_(path), metadata_(std::move(metadata)), observe_(std::move(observe)), file_(path) {}
  Expected<void> begin(const std::vector<TensorInfo>& tensors) override;
  Expected<void> write(std::span<const std::byte> bytes) override;
  Expected<void> end() override;

 private:
  std::string path_;
  std::map<std::string, std::string> metadata_;
  Expected<void> put(std::span<const std::byte> bytes);

  std::function<void(std::span<const std::byte>)> observe_;
  AtomicFile file_;
  std::int64_t missing_ = 0;  // bytes that the header announces and that have not come
};

/// All of `tensors`, of dtypes that read() reads, in order of names.
Expected<void> write_tensors(TensorSink& sink, const std::vector<Parameter>& tensors);

/// Writes tensors of dtypes that read() reads, in order of names, atomically.
Expected<void> write_safetensors(const std::string& path, const std::vector<Parameter>& tensors,
                                 const std::map<std::string, std::string>& metadata);

}  // namespace plait
