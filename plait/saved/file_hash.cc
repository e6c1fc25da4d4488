#include "plait/saved/file_hash.h"

#define XXH_INLINE_ALL
#include <fmt/core.h>
#include <xxhash.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <vector>

namespace plait {

struct FileHash::State {
  XXH3_state_t value;
};

FileHash::FileHash() : state_(std::make_unique<State>()) { XXH3_128bits_reset(&state_->value); }
FileHash::FileHash(FileHash&& other) noexcept = default;
FileHash& FileHash::operator=(FileHash&& other) noexcept = default;
FileHash::~FileHash() = default;

void FileHash::update(std::span<const std::byte> bytes) {
  XXH3_128bits_update(&state_->value, bytes.data(), bytes.size());
  bytes_ += static_cast<std::int64_t>(bytes.size());
}

FileSeal FileHash::seal() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(&state_->value);
  return {bytes_, fmt::format("{:016x}{:016x}", hash.high64, hash.low64)};
}

Expected<FileSeal> seal_of(const std::string& path) {
  constexpr std::size_t kPiece = std::size_t{1} << 20;
  std::ifstream stream(path, std::ios::binary);
  if (!stream) return fail(ErrorCode::kInvalidInput, "is not there", path);
  FileHash hash;
  std::vector<char> piece(kPiece);
  while (stream) {
    stream.read(piece.data(), static_cast<std::streamsize>(piece.size()));
    hash.update(std::as_bytes(std::span(piece)).first(static_cast<std::size_t>(stream.gcount())));
  }
  if (stream.bad())
    return fail(ErrorCode::kIo, fmt::format("cannot be read: {}", std::strerror(errno)), path);
  return hash.seal();
}

}  // namespace plait
