/// Text or tokens on disk, memory-mapped. Knows no torch.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/job/job_config.h"

namespace plait {

enum class TokenFormat : std::uint8_t { kBytes, kUint16, kUint32 };

/// A range of the tokens of a file; copies share the mapping. Read-only, thread-safe. A file that
/// is cut short while it is mapped ends the process: on_lost_data() says how.
class Dataset {
 public:
  /// Maps the file and checks every token once. Errors (kInvalidInput) name the file: missing,
  /// empty, not a multiple of the token's size, a token outside the vocabulary (with its position).
  static Expected<Dataset> open(const std::string& path, TokenFormat format,
                                std::int64_t vocab_size);

  std::size_t size() const { return end_ - begin_; }
  std::int64_t at(std::size_t position) const;
  /// Tokens [first, end) of this range.
  Dataset slice(std::size_t first, std::size_t end) const;
  /// The range's bytes; for byte files only.
  std::span<const std::uint8_t> bytes() const;
  const std::string& path() const;

 private:
  struct Mapping;
  std::shared_ptr<const Mapping> mapping_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

/// Reading behind the end that a file has now is SIGBUS, on whatever thread reads. `end` is called
/// in its handler with "PATH: the data file …" and ends the process; it may call async-signal-safe
/// functions only. Installs the handler; a fault of other memory stays what it was.
void on_lost_data(void (*end)(const char* words));

/// What a job trains on and what it validates on.
struct DataSplit {
  Dataset training;
  Dataset validation;
};

/// Errors: also a part that is shorter than one sequence and its next token.
Expected<DataSplit> open_data(const DataConfig& data, std::int64_t vocab_size);

/// Where the sequences of a step begin: a pure function of (seed, step), `count` of them, each
/// below `positions`. Source: the SplitMix64 finaliser as a counter-based generator.
std::vector<std::size_t> sample_starts(std::uint64_t seed, int step, int count,
                                       std::size_t positions);

}  // namespace plait
