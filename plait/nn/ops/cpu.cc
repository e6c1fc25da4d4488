#include <ATen/Parallel.h>
#include <ATen/core/PhiloxRNGEngine.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "plait/nn/ops/generic.h"
#include "plait/nn/ops/loops.h"

namespace plait {
namespace {

/// As Hugging Face has it.
constexpr float kEpsilon = 1e-20f;

/// Checks the dtype, and where the numbers are.
template <typename Number>
const Number* data_of(const at::Tensor& tensor) {
  TORCH_CHECK(tensor.is_cpu(), "needs a tensor on the CPU, got one on ", tensor.device());
  return tensor.const_data_ptr<Number>();
}
const float* numbers(const at::Tensor& tensor) { return data_of<float>(tensor); }
const std::int64_t* places_of(const at::Tensor& tensor) { return data_of<std::int64_t>(tensor); }
float* mutable_numbers(const at::Tensor& tensor) { return tensor.mutable_data_ptr<float>(); }
std::int64_t* mutable_places(const at::Tensor& tensor) {
  return tensor.mutable_data_ptr<std::int64_t>();
}

/// Rows a thread takes at least, when intra-op threads share the work: about 32,768 numbers.
std::int64_t row_grain(std::int64_t columns) {
  return std::max<std::int64_t>(1, 32768 / std::max<std::int64_t>(1, columns));
}

/// Calls work(first, end) for parts of `rows`.
template <typename Work>
void over_rows(std::int64_t rows, std::int64_t columns, const Work& work) {
  at::parallel_for(0, rows, row_grain(columns), work);
}

// --- The router. ---

void choose_of_row(const float* scores, const float* bias, std::int64_t experts, std::int64_t k,
                   std::vector<float>& values, std::vector<std::int64_t>& order,
                   std::int64_t* out) {
  for (std::int64_t i = 0; i < experts; ++i) {
    const float value = scores[i] + bias[i];
    values[static_cast<std::size_t>(i)] =
        std::isnan(value) ? -std::numeric_limits<float>::infinity() : value;
  }
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::partial_sort(order.begin(), order.begin() + k, order.end(),
                    [&](std::int64_t a, std::int64_t b) {
                      const float left = values[static_cast<std::size_t>(a)];
                      const float right = values[static_cast<std::size_t>(b)];
                      return left > right || (left == right && a < b);
                    });
  std::copy_n(order.begin(), k, out);
}

float sum_of_chosen(const float* scores, const std::int64_t* chosen, std::int64_t count) {
  float sum = 0.0f;
  for (std::int64_t j = 0; j < count; ++j) sum += scores[chosen[j]];
  return sum + kEpsilon;
}

/// coefficient * f_i / tokens.
std::vector<float> auxiliary_pull(const at::Tensor& scores, const at::Tensor& loads,
                                  const RouterOptions& options) {
  if (options.aux_loss_coefficient == 0.0) return {};
  const auto tokens = static_cast<double>(scores.size(0));
  const auto experts = static_cast<double>(scores.size(1));
  const double factor = options.aux_loss_coefficient * experts /
                        (static_cast<double>(options.chosen) * tokens * tokens);
  std::vector<float> pull;
  for (std::int64_t i = 0; i < loads.numel(); ++i) {
    pull.push_back(static_cast<float>(factor * static_cast<double>(places_of(loads)[i])));
  }
  return pull;
}

void add_weights(const float* above, const float* row, const std::int64_t* experts,
                 const RouterOptions& options, float* out) {
  const auto scale = static_cast<float>(options.scale);
  if (!options.normalise) {
    for (std::int64_t j = 0; j < options.chosen; ++j) out[experts[j]] = scale * above[j];
    return;
  }
  const float sum = sum_of_chosen(row, experts, options.chosen);
  float along = 0.0f;
  for (std::int64_t j = 0; j < options.chosen; ++j) along += above[j] * row[experts[j]];
  along /= sum;
  for (std::int64_t j = 0; j < options.chosen; ++j) {
    out[experts[j]] = scale * (above[j] - along) / sum;
  }
}

/// Of sum_i pull_i s_i / sum_j s_j.
void add_auxiliary(const float* pull, const float* row, std::int64_t experts, float* out) {
  float sum = kEpsilon, along = 0.0f;
  for (std::int64_t i = 0; i < experts; ++i) {
    sum += row[i];
    along += pull[i] * row[i];
  }
  along /= sum;
  for (std::int64_t i = 0; i < experts; ++i) out[i] += (pull[i] - along) / sum;
}

void through_scores(const float* row, std::int64_t experts, bool softmax, float* out) {
  float along = 0.0f;
  for (std::int64_t i = 0; softmax && i < experts; ++i) along += out[i] * row[i];
  for (std::int64_t i = 0; i < experts; ++i) {
    out[i] = softmax ? row[i] * (out[i] - along) : out[i] * row[i] * (1.0f - row[i]);
  }
}

// --- Dropout. ---

/// factors[i] for number `begin` + i of the tensor: 0 for what is dropped, else the scale.
void draw(const DropMask& mask, std::int64_t begin, std::int64_t count, float* factors) {
  const auto scale = static_cast<float>(1.0 / (1.0 - mask.share));
  const auto dropped = static_cast<std::uint64_t>(std::llround(mask.share * 0x1p32));
  const auto place = static_cast<std::uint64_t>(mask.first + begin);
  at::Philox4_32 generator(mask.seed, mask.operation, place / 4);
  for (std::uint64_t i = 0; i < place % 4; ++i) generator();
  for (std::int64_t i = 0; i < count; ++i) factors[i] = generator() < dropped ? 0.0f : scale;
}

class CpuOps final : public GenericOps {
 public:
  Normed rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) const override {
    const std::int64_t columns = weight.numel(), rows = x.numel() / columns;
    Normed normed{at::empty_like(x), at::empty({rows}, x.options())};
    over_rows(rows, columns, [&](std::int64_t begin, std::int64_t end) {
      loops::rms_norm(numbers(x) + begin * columns, numbers(weight), eps, end - begin, columns,
                      mutable_numbers(normed.y) + begin * columns,
                      mutable_numbers(normed.inverse) + begin);
    });
    return normed;
  }
  at::Tensor rms_norm_input(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& inverse) const override {
    const std::int64_t columns = weight.numel();
    at::Tensor dx = at::empty_like(dy);
    over_rows(inverse.numel(), columns, [&](std::int64_t begin, std::int64_t end) {
      const std::int64_t first = begin * columns;
      loops::rms_norm_input(numbers(dy) + first, numbers(x) + first, numbers(weight),
                            numbers(inverse) + begin, end - begin, columns,
                            mutable_numbers(dx) + first);
    });
    return dx;
  }
  at::Tensor rms_norm_weight(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                             const at::Tensor& inverse) const override {
    const std::int64_t columns = weight.numel(), rows = inverse.numel();
    at::Tensor dw = at::empty_like(weight);
    // By columns: sums over rows are then the same for any number of threads.
    over_rows(columns, rows, [&](std::int64_t begin, std::int64_t end) {
      loops::rms_norm_weight(numbers(dy), numbers(x), numbers(inverse), rows, columns, begin, end,
                             mutable_numbers(dw));
    });
    return dw;
  }

  at::Tensor add_bias(const at::Tensor& x, const at::Tensor& bias) const override {
    const std::int64_t columns = bias.numel();
    at::Tensor y = at::empty_like(x);
    over_rows(x.numel() / columns, columns, [&](std::int64_t begin, std::int64_t end) {
      loops::add_bias(numbers(x) + begin * columns, numbers(bias), end - begin, columns,
                      mutable_numbers(y) + begin * columns);
    });
    return y;
  }
  at::Tensor bias_gradient(const at::Tensor& dy, std::int64_t columns) const override {
    const std::int64_t rows = dy.numel() / columns;
    at::Tensor db = at::empty({columns}, dy.options());
    over_rows(columns, rows, [&](std::int64_t begin, std::int64_t end) {
      loops::bias_gradient(numbers(dy), rows, columns, begin, end, mutable_numbers(db));
    });
    return db;
  }

  at::Tensor rotate(const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine,
                    bool back) const override {
    at::Tensor y = at::empty_like(x);
    const std::int64_t length = x.size(1), heads = x.size(2), half = x.size(3) / 2;
    over_rows(x.size(0) * length, heads * half * 2, [&](std::int64_t begin, std::int64_t end) {
      loops::rotate(numbers(x), numbers(cosine), numbers(sine), begin, end, length, heads, half,
                    back, mutable_numbers(y));
    });
    return y;
  }

  at::Tensor masked(const at::Tensor& base, const at::Tensor& x,
                    const DropMask& mask) const override {
    at::Tensor y = at::empty_like(x);
    float* out = mutable_numbers(y);
    const float* in = numbers(x);
    const float* under = base.defined() ? numbers(base) : nullptr;
    constexpr std::int64_t kGrain = 16384;
    at::parallel_for(0, x.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
      std::array<float, 1024> factors;
      const auto most = static_cast<std::int64_t>(factors.size());
      for (std::int64_t place = begin; place < end; place += most) {
        const std::int64_t count = std::min(most, end - place);
        draw(mask, place, count, factors.data());
        for (std::int64_t i = 0; i < count; ++i) {
          const float kept = in[place + i] * factors[static_cast<std::size_t>(i)];
          out[place + i] = under == nullptr ? kept : under[place + i] + kept;
        }
      }
    });
    return y;
  }

  at::Tensor choose(const at::Tensor& scores, const at::Tensor& bias,
                    std::int64_t k) const override {
    const std::int64_t tokens = scores.size(0), experts = scores.size(1);
    at::Tensor chosen = at::empty({tokens, k}, scores.options().dtype(at::kLong));
    over_rows(tokens, experts, [&](std::int64_t begin, std::int64_t end) {
      std::vector<float> values(static_cast<std::size_t>(experts));
      std::vector<std::int64_t> order(static_cast<std::size_t>(experts));
      for (std::int64_t t = begin; t < end; ++t) {
        choose_of_row(numbers(scores) + t * experts, numbers(bias), experts, k, values, order,
                      mutable_places(chosen) + t * k);
      }
    });
    return chosen;
  }
  Places place(const at::Tensor& chosen, std::int64_t experts) const override {
    const std::int64_t copies = chosen.numel();
    Places places{at::empty({copies}, chosen.options()), at::zeros({experts}, chosen.options())};
    const std::int64_t* expert = places_of(chosen);
    std::int64_t* loads = mutable_places(places.loads);
    for (std::int64_t i = 0; i < copies; ++i) ++loads[expert[i]];
    std::vector<std::int64_t> next(static_cast<std::size_t>(experts));
    std::exclusive_scan(loads, loads + experts, next.begin(), std::int64_t{0});
    std::int64_t* inverse = mutable_places(places.inverse);
    for (std::int64_t i = 0; i < copies; ++i) {
      inverse[i] = next[static_cast<std::size_t>(expert[i])]++;
    }
    return places;
  }
  at::Tensor weigh(const at::Tensor& scores, const at::Tensor& chosen,
                   const RouterOptions& options) const override {
    const std::int64_t tokens = scores.size(0), experts = scores.size(1), k = options.chosen;
    at::Tensor weights = at::empty({tokens, k}, scores.options());
    const auto scale = static_cast<float>(options.scale);
    const float* score = numbers(scores);
    const std::int64_t* expert = places_of(chosen);
    float* weight = mutable_numbers(weights);
    for (std::int64_t t = 0; t < tokens; ++t) {
      const float* row = score + t * experts;
      const std::int64_t* of_token = expert + t * k;
      const float sum = options.normalise ? sum_of_chosen(row, of_token, k) : 1.0f;
      for (std::int64_t j = 0; j < k; ++j) {
        weight[t * k + j] = row[of_token[j]] / sum * scale;
      }
    }
    return weights;
  }
  at::Tensor router_gradient(const at::Tensor& dweights, const at::Tensor& scores,
                             const at::Tensor& chosen, const at::Tensor& loads,
                             const RouterOptions& options) const override {
    at::Tensor result = at::empty_like(scores);
    const std::int64_t tokens = scores.size(0), experts = scores.size(1), k = options.chosen;
    const std::vector<float> pull = auxiliary_pull(scores, loads, options);
    over_rows(tokens, experts, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        const float* row = numbers(scores) + t * experts;
        float* out = mutable_numbers(result) + t * experts;
        std::fill_n(out, experts, 0.0f);
        add_weights(numbers(dweights) + t * k, row, places_of(chosen) + t * k, options, out);
        if (!pull.empty()) add_auxiliary(pull.data(), row, experts, out);
        through_scores(row, experts, options.softmax, out);
      }
    });
    return result;
  }

  at::Tensor move_rows(const at::Tensor& rows, const at::Tensor& places, bool back) const override {
    at::Tensor to = at::empty_like(rows);
    const std::int64_t columns = rows.size(1);
    over_rows(rows.size(0), columns, [&](std::int64_t begin, std::int64_t end) {
      const std::int64_t* list = places_of(places);
      for (std::int64_t r = begin; r < end; ++r) {
        const std::int64_t place = list[r];
        std::memcpy(mutable_numbers(to) + (back ? r : place) * columns,
                    numbers(rows) + (back ? place : r) * columns,
                    static_cast<std::size_t>(columns) * sizeof(float));
      }
    });
    return to;
  }
  at::Tensor copy_rows(const at::Tensor& h, const at::Tensor& inverse) const override {
    const std::int64_t tokens = h.size(0), columns = h.size(1), copies = inverse.numel() / tokens;
    at::Tensor rows = at::empty({tokens * copies, columns}, h.options());
    over_rows(tokens, columns * copies, [&](std::int64_t begin, std::int64_t end) {
      const std::int64_t* place = places_of(inverse);
      for (std::int64_t i = begin * copies; i < end * copies; ++i) {
        std::memcpy(mutable_numbers(rows) + place[i] * columns, numbers(h) + i / copies * columns,
                    static_cast<std::size_t>(columns) * sizeof(float));
      }
    });
    return rows;
  }
  at::Tensor sum_rows(const at::Tensor& rows, const at::Tensor& inverse,
                      std::int64_t tokens) const override {
    const std::int64_t columns = rows.size(1), copies = inverse.numel() / tokens;
    at::Tensor result = at::empty({tokens, columns}, rows.options());
    over_rows(tokens, columns * copies, [&](std::int64_t begin, std::int64_t end) {
      loops::sum_rows(numbers(rows), places_of(inverse), begin, end, copies, columns,
                      mutable_numbers(result));
    });
    return result;
  }
  at::Tensor add_weighted_rows(const at::Tensor& base, const at::Tensor& rows,
                               const at::Tensor& weights,
                               const at::Tensor& inverse) const override {
    const std::int64_t tokens = base.size(0), columns = base.size(1), copies = weights.size(1);
    at::Tensor y = at::empty_like(base);
    over_rows(tokens, columns * copies, [&](std::int64_t begin, std::int64_t end) {
      loops::add_weighted_rows(numbers(base), numbers(rows), numbers(weights), places_of(inverse),
                               begin, end, copies, columns, mutable_numbers(y));
    });
    return y;
  }
  at::Tensor spread_rows(const at::Tensor& dy, const at::Tensor& weights,
                         const at::Tensor& inverse) const override {
    const std::int64_t tokens = weights.size(0), copies = weights.size(1), columns = dy.size(1);
    at::Tensor rows = at::empty({tokens * copies, columns}, dy.options());
    over_rows(tokens, columns * copies, [&](std::int64_t begin, std::int64_t end) {
      loops::spread_rows(numbers(dy), numbers(weights), places_of(inverse), begin, end, copies,
                         columns, mutable_numbers(rows));
    });
    return rows;
  }
  at::Tensor row_products(const at::Tensor& dy, const at::Tensor& rows, const at::Tensor& weights,
                          const at::Tensor& inverse) const override {
    const std::int64_t tokens = weights.size(0), copies = weights.size(1), columns = dy.size(1);
    at::Tensor products = at::empty_like(weights);
    over_rows(tokens, columns * copies, [&](std::int64_t begin, std::int64_t end) {
      loops::row_products(numbers(dy), numbers(rows), places_of(inverse), begin, end, copies,
                          columns, mutable_numbers(products));
    });
    return products;
  }
};

}  // namespace

const Ops& cpu_ops() {
  static const CpuOps ops;
  return ops;
}

}  // namespace plait
