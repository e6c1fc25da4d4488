/// SHA-256 of a text, for tests against hashes of what another program wrote.
#pragma once

#include <fmt/core.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

namespace plait::testing {

namespace sha256_detail {

/// The first 32 bits behind the point of the roots of the first primes.
template <std::size_t Count>
std::array<std::uint32_t, Count> bits_of_roots(double (*root)(double)) {
  std::array<std::uint32_t, Count> bits{};
  std::size_t found = 0;
  for (int number = 2; found < Count; ++number) {
    bool prime = true;
    for (int divisor = 2; divisor * divisor <= number; ++divisor)
      prime = prime && number % divisor != 0;
    if (!prime) continue;
    const double value = root(number);
    bits[found++] = static_cast<std::uint32_t>((value - std::floor(value)) * 4294967296.0);
  }
  return bits;
}

using State = std::array<std::uint32_t, 8>;

inline void add_block(State& state, std::string_view block) {
  static const auto constants = bits_of_roots<64>(std::cbrt);
  std::array<std::uint32_t, 64> words{};
  for (std::size_t i = 0; i < 64; ++i)
    words[i / 4] = words[i / 4] << 8 | static_cast<unsigned char>(block[i]);
  for (std::size_t i = 16; i < 64; ++i) {
    const std::uint32_t a = words[i - 15], b = words[i - 2];
    words[i] = words[i - 16] + (std::rotr(a, 7) ^ std::rotr(a, 18) ^ a >> 3) + words[i - 7] +
               (std::rotr(b, 17) ^ std::rotr(b, 19) ^ b >> 10);
  }
  State next = state;
  for (std::size_t i = 0; i < 64; ++i) {
    const std::uint32_t a = next[0], e = next[4];
    const std::uint32_t first = next[7] + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) +
                                ((e & next[5]) ^ (~e & next[6])) + constants[i] + words[i];
    const std::uint32_t second = (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) +
                                 ((a & next[1]) ^ (a & next[2]) ^ (next[1] & next[2]));
    for (std::size_t k = 7; k > 0; --k) next[k] = next[k - 1];
    next[4] += first;
    next[0] = first + second;
  }
  for (std::size_t k = 0; k < 8; ++k) state[k] += next[k];
}

}  // namespace sha256_detail

/// As 64 hexadecimal digits. Source: FIPS 180-4.
inline std::string sha256(std::string text) {
  const std::uint64_t bits = text.size() * 8;
  text += '\x80';
  text.resize((text.size() + 8 + 63) / 64 * 64 - 8, '\0');
  for (int shift = 56; shift >= 0; shift -= 8) text += static_cast<char>(bits >> shift & 0xFF);
  auto state = sha256_detail::bits_of_roots<8>(std::sqrt);
  for (std::size_t begin = 0; begin < text.size(); begin += 64)
    sha256_detail::add_block(state, std::string_view(text).substr(begin, 64));
  std::string hex;
  for (const std::uint32_t word : state) hex += fmt::format("{:08x}", word);
  return hex;
}

}  // namespace plait::testing
