/// The tokens to train on: a memory-mapped file of bytes or of little-endian integers. No torch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "plait/base/error.h"
#include "plait/config/job_config.h"

namespace plait {

/// Consecutive tokens of a file, in the file's own width. A view: the Dataset owns the file.
class TokenSpan {
 public:
  TokenSpan() = default;
  TokenSpan(const std::byte* data, std::size_t size, int token_bytes)
      : data_(data), size_(size), token_bytes_(token_bytes) {}

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  int token_bytes() const { return token_bytes_; }
  TokenSpan subspan(std::size_t begin, std::size_t count) const;
  /// Widens tokens [begin, begin + count) to int64.
  void copy(std::size_t begin, std::size_t count, std::int64_t* out) const;
  /// The text itself; empty unless a token is a byte.
  std::span<const std::uint8_t> bytes() const;

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  int token_bytes_ = 1;
};

/// Training and held-out tokens. Immutable once open, so thread-safe.
class Dataset {
 public:
  /// Maps the files, splits off the tail if there is no validation file, and reads every token once
  /// to hold it against the vocabulary. Errors (kInvalidInput) name the file: missing, empty, not a
  /// multiple of the token's size, shorter than one sequence and its target, a token outside the
  /// vocabulary with its position.
  static Expected<Dataset> open(const DataConfig& config, std::int64_t vocab_size);

  const TokenSpan& train() const { return train_; }
  /// Empty if the job holds nothing out (no file and a share of 0).
  const TokenSpan& validation() const { return validation_; }

 private:
  struct Mapping;
  TokenSpan train_;
  TokenSpan validation_;
  std::shared_ptr<const Mapping> train_file_;
  std::shared_ptr<const Mapping> validation_file_;
};

}  // namespace plait
