/// XXH3-128 of files: whether what is read is what was written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "plait/base/error.h"

namespace plait {

/// What a manifest says of a file.
struct FileSeal {
  std::int64_t bytes = 0;
  std::string xxh3_128;  ///< 32 hexadecimal digits, as `xxhsum -H2` prints them

  friend bool operator==(const FileSeal&, const FileSeal&) = default;
};

/// Takes a file's bytes in order. It finds damage, not forgery. Not thread-safe.
/// Source: https://github.com/Cyan4973/xxHash
class FileHash {
 public:
  FileHash();
  FileHash(FileHash&& other) noexcept;
  FileHash& operator=(FileHash&& other) noexcept;
  ~FileHash();

  void update(std::span<const std::byte> bytes);
  /// Of all bytes until now.
  FileSeal seal() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
  std::int64_t bytes_ = 0;
};

/// Reads the whole file. Errors (kInvalidInput): it is not there; kIo: it cannot be read.
Expected<FileSeal> seal_of(const std::string& path);

}  // namespace plait
