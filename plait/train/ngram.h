/// The yardstick of a byte-level model: interpolated Witten-Bell n-grams over bytes. No torch.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace plait {

/// Orders 1 (unigram) to 4. p_n(w|h) = (c(hw) + t(h) p_{n-1}(w|h')) / (c(h) + t(h)), where t(h) is
/// how many different bytes followed h, h' is h without its first byte, and p_0 = 1/256; a context
/// never seen passes p_{n-1} on. Source: Witten and Bell 1991, interpolated as in Chen and Goodman
/// 1998, section 2.4.
class NgramModel {
 public:
  static constexpr int kOrders = 4;

  /// Counts all n-grams of `text`. Cost: O(size).
  explicit NgramModel(std::span<const std::uint8_t> text);

  /// Bits per byte over text[begin, end), result[n - 1] for order n. Contexts reach back to the
  /// start of `text`. Requires begin < end <= text.size().
  std::array<double, kOrders> bits_per_byte(std::span<const std::uint8_t> text, std::size_t begin,
                                            std::size_t end) const;

  /// p_n(byte | the last n - 1 bytes of `context`); fewer if the context is shorter.
  double probability(int order, std::span<const std::uint8_t> context, std::uint8_t byte) const;

 private:
  /// Open addressing; keys are grams packed into an integer, never 0.
  class Counts {
   public:
    std::uint32_t& operator[](std::uint64_t key);
    std::uint32_t find(std::uint64_t key) const;

   private:
    void grow();
    std::vector<std::uint64_t> keys_;
    std::vector<std::uint32_t> values_;
    std::size_t used_ = 0;
  };

  std::array<Counts, kOrders> grams_;      ///< [n - 1]: of n bytes
  std::array<Counts, kOrders> contexts_;   ///< [n - 1]: of n - 1 bytes, how often one followed
  std::array<Counts, kOrders> followers_;  ///< [n - 1]: of n - 1 bytes, how many different ones
};

/// "unigram", …, "4-gram".
const char* ngram_name(int order);

}  // namespace plait
