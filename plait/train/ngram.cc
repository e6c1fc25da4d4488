#include "plait/train/ngram.h"

#include <cmath>
#include <unordered_map>
#include <vector>

namespace plait {
namespace {

struct ContextCounts {
  std::uint32_t total = 0;
  std::uint32_t types = 0;
};

/// Counts of one order: of contexts of `length` bytes, and of context and byte.
struct OrderCounts {
  std::unordered_map<std::uint32_t, ContextCounts> contexts;
  std::unordered_map<std::uint64_t, std::uint32_t> grams;
};

std::uint32_t context_at(std::span<const std::uint8_t> text, std::size_t position,
                         std::size_t length) {
  std::uint32_t context = 0;
  for (std::size_t i = position - length; i < position; ++i) context = context << 8 | text[i];
  return context;
}

std::uint64_t gram(std::uint32_t context, std::uint8_t byte) {
  return static_cast<std::uint64_t>(context) << 8 | byte;
}

}  // namespace

double witten_bell_bits_per_byte(std::span<const std::uint8_t> train,
                                 std::span<const std::uint8_t> test, std::size_t first, int order) {
  std::vector<OrderCounts> counts(static_cast<std::size_t>(order));
  for (std::size_t length = 0; length < counts.size(); ++length) {
    for (std::size_t i = length; i < train.size(); ++i) {
      const std::uint32_t context = context_at(train, i, length);
      ContextCounts& here = counts[length].contexts[context];
      ++here.total;
      if (counts[length].grams[gram(context, train[i])]++ == 0) ++here.types;
    }
  }
  double bits = 0;
  for (std::size_t i = first; i < test.size(); ++i) {
    double probability = 1.0 / 256;
    for (std::size_t length = 0; length < counts.size() && length <= i; ++length) {
      const std::uint32_t context = context_at(test, i, length);
      const auto found = counts[length].contexts.find(context);
      if (found == counts[length].contexts.end())
        break;  // longer contexts have not been seen either
      const auto seen = counts[length].grams.find(gram(context, test[i]));
      const double count = seen == counts[length].grams.end() ? 0 : seen->second;
      const double types = found->second.types;
      probability = (count + types * probability) / (found->second.total + types);
    }
    bits -= std::log2(probability);
  }
  return bits / static_cast<double>(test.size() - first);
}

std::array<double, 4> held_out_ngram_bits(const DataSplit& data, int sequence_length) {
  const auto length = static_cast<std::size_t>(sequence_length);
  const std::size_t scored = (data.validation.size() - 1) / length * length;
  const auto test = data.validation.bytes().subspan(0, scored + 1);
  std::array<double, 4> bits{};
  for (std::size_t i = 0; i < bits.size(); ++i) {
    bits[i] = witten_bell_bits_per_byte(data.training.bytes(), test, 1, static_cast<int>(i) + 1);
  }
  return bits;
}

}  // namespace plait
