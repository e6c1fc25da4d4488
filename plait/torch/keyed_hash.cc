#include "plait/torch/keyed_hash.h"

#include <c10/util/hash.h>

#include <cstdint>

namespace plait {
namespace {

constexpr std::size_t kBlock = 64;  // bytes, of SHA-1

std::string hex_of(const std::string& text) { return c10::sha1(text).str(); }

std::string bytes_of(const std::string& text) {
  const std::string hex = hex_of(text);
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

/// The key filled up to a block, each byte with bits turned over.
std::string pad(const std::string& key, unsigned char turned) {
  std::string block(kBlock, static_cast<char>(turned));
  for (std::size_t i = 0; i < key.size(); ++i)
    block[i] = static_cast<char>(static_cast<unsigned char>(key[i]) ^ turned);
  return block;
}

}  // namespace

std::string keyed_hash(const std::string& key, const std::string& text) {
  constexpr unsigned char kInner = 0x36, kOuter = 0x5c;
  const std::string used = key.size() > kBlock ? bytes_of(key) : key;
  return hex_of(pad(used, kOuter) + bytes_of(pad(used, kInner) + text));
}

}  // namespace plait
