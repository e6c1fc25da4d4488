#include "plait/nn/ops/loops.h"

#include <algorithm>
#include <array>
#include <cmath>

// One version a generation of processors, chosen when the program starts.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
#define PLAIT_MULTIVERSION \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define PLAIT_MULTIVERSION
#endif

namespace plait::loops {

namespace {

// Sums run in lanes of their own, which the compiler may keep in vectors without changing the
// order.
constexpr std::int64_t kLanes = 16;
using Lanes = std::array<float, kLanes>;

[[gnu::always_inline]] inline float add_up(const Lanes& lanes) {
  float sum = 0.0f;
  for (const float lane : lanes) sum += lane;
  return sum;
}

template <typename Term>
[[gnu::always_inline]] inline float sum_of(std::int64_t count, const Term& term) {
  Lanes lanes{};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::int64_t k = 0; k < kLanes; ++k) lanes[static_cast<std::size_t>(k)] += term(i + k);
  }
  for (; i < count; ++i) lanes[0] += term(i);
  return add_up(lanes);
}

}  // namespace

PLAIT_MULTIVERSION
void rms_norm(const float* x, const float* weight, double eps, std::int64_t rows,
              std::int64_t columns, float* y, float* inverse) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* row = x + r * columns;
    float* out = y + r * columns;
    const float squares = sum_of(columns, [row](std::int64_t i) { return row[i] * row[i]; });
    const auto scale = static_cast<float>(
        1.0 / std::sqrt(static_cast<double>(squares) / static_cast<double>(columns) + eps));
    inverse[r] = scale;
    for (std::int64_t i = 0; i < columns; ++i) out[i] = row[i] * scale * weight[i];
  }
}

PLAIT_MULTIVERSION
void rms_norm_input(const float* dy, const float* x, const float* weight, const float* inverse,
                    std::int64_t rows, std::int64_t columns, float* dx) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* row = x + r * columns;
    const float* above = dy + r * columns;
    float* out = dx + r * columns;
    const float along =
        sum_of(columns, [=](std::int64_t i) { return above[i] * weight[i] * row[i]; });
    const float scale = inverse[r];
    const float share = along * scale * scale / static_cast<float>(columns);
    for (std::int64_t i = 0; i < columns; ++i) {
      out[i] = scale * (above[i] * weight[i] - row[i] * share);
    }
  }
}

PLAIT_MULTIVERSION
void rms_norm_weight(const float* dy, const float* x, const float* inverse, std::int64_t rows,
                     std::int64_t columns, std::int64_t first, std::int64_t end, float* dw) {
  constexpr std::int64_t kBlock = 64;  // columns that stay in cache over all rows
  std::array<float, kBlock> part{};
  for (std::int64_t begin = first; begin < end; begin += kBlock) {
    const std::int64_t count = std::min(kBlock, end - begin);
    std::array<float, kBlock> sum{};
    // Partial sums over 32 rows, so that rounding grows with rows / 32.
    constexpr std::int64_t kRows = 32;
    for (std::int64_t top = 0; top < rows; top += kRows) {
      part.fill(0.0f);
      for (std::int64_t r = top; r < std::min(rows, top + kRows); ++r) {
        const float* row = x + r * columns + begin;
        const float* above = dy + r * columns + begin;
        const float scale = inverse[r];
        for (std::int64_t i = 0; i < count; ++i) {
          part[static_cast<std::size_t>(i)] += above[i] * row[i] * scale;
        }
      }
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += part[i];
    }
    std::copy_n(sum.begin(), count, dw + begin);
  }
}

PLAIT_MULTIVERSION
void add_bias(const float* x, const float* bias, std::int64_t rows, std::int64_t columns,
              float* y) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* row = x + r * columns;
    float* out = y + r * columns;
    for (std::int64_t i = 0; i < columns; ++i) out[i] = row[i] + bias[i];
  }
}

PLAIT_MULTIVERSION
void bias_gradient(const float* dy, std::int64_t rows, std::int64_t columns, std::int64_t first,
                   std::int64_t end, float* db) {
  constexpr std::int64_t kRows = 32;  // partial sums, so that rounding grows with rows / 32
  constexpr std::int64_t kBlock = 64;
  std::array<float, kBlock> part{};
  for (std::int64_t begin = first; begin < end; begin += kBlock) {
    const std::int64_t count = std::min(kBlock, end - begin);
    std::array<float, kBlock> sum{};
    for (std::int64_t top = 0; top < rows; top += kRows) {
      part.fill(0.0f);
      for (std::int64_t r = top; r < std::min(rows, top + kRows); ++r) {
        const float* above = dy + r * columns + begin;
        for (std::int64_t i = 0; i < count; ++i) part[static_cast<std::size_t>(i)] += above[i];
      }
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += part[i];
    }
    std::copy_n(sum.begin(), count, db + begin);
  }
}

PLAIT_MULTIVERSION
void rotate(const float* x, const float* cosine, const float* sine, std::int64_t first_row,
            std::int64_t end_row, std::int64_t length, std::int64_t heads, std::int64_t half,
            bool back, float* y) {
  const float sign = back ? -1.0f : 1.0f;
  for (std::int64_t r = first_row; r < end_row; ++r) {
    const float* c = cosine + r % length * half;
    const float* s = sine + r % length * half;
    for (std::int64_t h = 0; h < heads; ++h) {
      const float* in = x + (r * heads + h) * 2 * half;
      float* out = y + (r * heads + h) * 2 * half;
      for (std::int64_t i = 0; i < half; ++i) {
        const float turn = sign * s[i];
        out[i] = in[i] * c[i] - in[i + half] * turn;
        out[i + half] = in[i + half] * c[i] + in[i] * turn;
      }
    }
  }
}

PLAIT_MULTIVERSION
void sum_rows(const float* rows, const std::int64_t* places, std::int64_t first, std::int64_t end,
              std::int64_t copies, std::int64_t columns, float* y) {
  for (std::int64_t t = first; t < end; ++t) {
    float* out = y + t * columns;
    std::copy_n(rows + places[t * copies] * columns, columns, out);
    for (std::int64_t j = 1; j < copies; ++j) {
      const float* row = rows + places[t * copies + j] * columns;
      for (std::int64_t i = 0; i < columns; ++i) out[i] += row[i];
    }
  }
}

PLAIT_MULTIVERSION
void add_weighted_rows(const float* base, const float* rows, const float* weights,
                       const std::int64_t* places, std::int64_t first, std::int64_t end,
                       std::int64_t copies, std::int64_t columns, float* y) {
  for (std::int64_t t = first; t < end; ++t) {
    float* out = y + t * columns;
    std::copy_n(base + t * columns, columns, out);
    for (std::int64_t j = 0; j < copies; ++j) {
      const float weight = weights[t * copies + j];
      const float* row = rows + places[t * copies + j] * columns;
      for (std::int64_t i = 0; i < columns; ++i) out[i] += weight * row[i];
    }
  }
}

PLAIT_MULTIVERSION
void spread_rows(const float* dy, const float* weights, const std::int64_t* places,
                 std::int64_t first, std::int64_t end, std::int64_t copies, std::int64_t columns,
                 float* rows) {
  for (std::int64_t t = first; t < end; ++t) {
    const float* above = dy + t * columns;
    for (std::int64_t j = 0; j < copies; ++j) {
      const float weight = weights[t * copies + j];
      float* row = rows + places[t * copies + j] * columns;
      for (std::int64_t i = 0; i < columns; ++i) row[i] = weight * above[i];
    }
  }
}

PLAIT_MULTIVERSION
void row_products(const float* dy, const float* rows, const std::int64_t* places,
                  std::int64_t first, std::int64_t end, std::int64_t copies, std::int64_t columns,
                  float* dweights) {
  for (std::int64_t t = first; t < end; ++t) {
    const float* above = dy + t * columns;
    for (std::int64_t j = 0; j < copies; ++j) {
      const float* row = rows + places[t * copies + j] * columns;
      dweights[t * copies + j] = sum_of(columns, [=](std::int64_t i) { return above[i] * row[i]; });
    }
  }
}

}  // namespace plait::loops
