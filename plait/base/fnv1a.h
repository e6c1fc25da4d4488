/// A short hash that is the same on every platform: what is equal has equal hashes. Finds no
/// forgery.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace plait {

/// FNV-1a, 64 bits. Source: http://www.isthe.com/chongo/tech/comp/fnv.
inline std::uint64_t fnv1a(std::span<const std::byte> bytes) {
  std::uint64_t value = 0xcbf29ce484222325ULL;
  for (const std::byte byte : bytes)
    value = (value ^ static_cast<std::uint64_t>(byte)) * 0x100000001b3ULL;
  return value;
}
inline std::uint64_t fnv1a(std::string_view text) { return fnv1a(std::as_bytes(std::span(text))); }

}  // namespace plait
