#include "plait/nn/mixture_kernels.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <numeric>
#include <string>
#include <vector>

#include "plait/nn/kernel_loops.h"
#include "plait/nn/kernel_node.h"
#include "plait/nn/tensor_options.h"

namespace plait {

namespace {

using kernels::check_float;
using kernels::mutable_numbers;
using kernels::numbers;
using kernels::record;
using kernels::row_grain;
using kernels::SavedVariable;
using kernels::TraceableFunction;
using kernels::variable_list;

/// As Hugging Face has it.
constexpr float kEpsilon = 1e-20f;

const std::int64_t* places_of(const at::Tensor& tensor) {
  return static_cast<const std::int64_t*>(tensor.const_data_ptr());
}
std::int64_t* mutable_places(const at::Tensor& tensor) {
  return static_cast<std::int64_t*>(tensor.data_ptr());
}

void check_rows(const at::Tensor& tensor, std::int64_t rows, std::int64_t columns,
                const char* what) {
  check_float(tensor, what);
  TORCH_CHECK(tensor.dim() == 2 && tensor.is_contiguous() && tensor.size(0) == rows &&
                  tensor.size(1) == columns,
              what, " needs contiguous [", rows, ", ", columns, "], got ", tensor.sizes());
}

void check_places(const at::Tensor& tensor, std::int64_t count, const char* what) {
  TORCH_CHECK(tensor.scalar_type() == scalar_type_of(kDtypes.index) && tensor.is_contiguous() &&
                  tensor.numel() == count,
              what, " needs ", count, " places in int64, got ", tensor.numel(), " in ",
              tensor.scalar_type());
}

// --- The router. ---

/// The k greatest of score + bias, greatest first, equal ones by number. What is not a number comes
/// last: the loss will say so.
void choose(const float* scores, const float* bias, std::int64_t experts, std::int64_t chosen,
            std::vector<float>& values, std::vector<std::int64_t>& order, std::int64_t* out) {
  for (std::int64_t i = 0; i < experts; ++i) {
    const float value = scores[i] + bias[i];
    values[static_cast<std::size_t>(i)] =
        std::isnan(value) ? -std::numeric_limits<float>::infinity() : value;
  }
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::partial_sort(order.begin(), order.begin() + chosen, order.end(),
                    [&](std::int64_t a, std::int64_t b) {
                      const float left = values[static_cast<std::size_t>(a)];
                      const float right = values[static_cast<std::size_t>(b)];
                      return left > right || (left == right && a < b);
                    });
  std::copy_n(order.begin(), chosen, out);
}

at::Tensor choose_all(const at::Tensor& scores, const at::Tensor& bias, std::int64_t chosen) {
  const std::int64_t tokens = scores.size(0), experts = scores.size(1);
  at::Tensor result = at::empty({tokens, chosen}, options_of(kDtypes.index));
  at::parallel_for(0, tokens, row_grain(experts), [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> values(static_cast<std::size_t>(experts));
    std::vector<std::int64_t> order(static_cast<std::size_t>(experts));
    for (std::int64_t t = begin; t < end; ++t) {
      choose(numbers(scores) + t * experts, numbers(bias), experts, chosen, values, order,
             mutable_places(result) + t * chosen);
    }
  });
  return result;
}

/// Counts rows and gives each copy its place, by expert and then by token.
void place_copies(const at::Tensor& chosen, Routing& routing) {
  const std::int64_t experts = routing.loads.numel(), copies = chosen.numel();
  const std::int64_t* expert = places_of(chosen);
  std::int64_t* loads = mutable_places(routing.loads);
  for (std::int64_t i = 0; i < copies; ++i) ++loads[expert[i]];
  std::vector<std::int64_t> next(static_cast<std::size_t>(experts));
  std::exclusive_scan(loads, loads + experts, next.begin(), std::int64_t{0});
  for (std::int64_t i = 0; i < copies; ++i) {
    mutable_places(routing.inverse)[i] = next[static_cast<std::size_t>(expert[i])]++;
  }
}

float sum_of_chosen(const float* scores, const std::int64_t* chosen, std::int64_t count) {
  float sum = 0.0f;
  for (std::int64_t j = 0; j < count; ++j) sum += scores[chosen[j]];
  return sum + kEpsilon;
}

struct RouterBackward final : public TraceableFunction {
  using TraceableFunction::TraceableFunction;
  RouterOptions options;
  at::Tensor scores, chosen, loads;  // without graph, not handed out: never changed

  std::string name() const override { return "PlaitRouterBackward"; }
  void release_variables() override {
    const std::scoped_lock lock(mutex_);
    for (at::Tensor* saved : {&scores, &chosen, &loads}) saved->reset();
  }
  variable_list apply(variable_list&& gradients) override {
    const std::scoped_lock lock(mutex_);
    if (!gradients[0].defined()) return {at::Tensor()};
    const at::Tensor above = gradients[0].contiguous();
    at::Tensor result = at::empty_like(scores);
    const std::int64_t tokens = scores.size(0), experts = scores.size(1);
    const std::vector<float> pull = auxiliary_pull();
    at::parallel_for(0, tokens, row_grain(experts), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        const float* row = numbers(scores) + t * experts;
        float* out = mutable_numbers(result) + t * experts;
        std::fill_n(out, experts, 0.0f);
        add_weights(numbers(above) + t * options.chosen, row,
                    places_of(chosen) + t * options.chosen, out);
        if (!pull.empty()) add_auxiliary(pull.data(), row, experts, out);
        through_scores(row, experts, out);
      }
    });
    return {result};
  }

 private:
  /// coefficient * f_i / tokens.
  std::vector<float> auxiliary_pull() const {
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
                   float* out) const {
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
  static void add_auxiliary(const float* pull, const float* row, std::int64_t experts, float* out) {
    float sum = kEpsilon, along = 0.0f;
    for (std::int64_t i = 0; i < experts; ++i) {
      sum += row[i];
      along += pull[i] * row[i];
    }
    along /= sum;
    for (std::int64_t i = 0; i < experts; ++i) out[i] += (pull[i] - along) / sum;
  }

  void through_scores(const float* row, std::int64_t experts, float* out) const {
    float along = 0.0f;
    for (std::int64_t i = 0; options.softmax && i < experts; ++i) along += out[i] * row[i];
    for (std::int64_t i = 0; i < experts; ++i) {
      out[i] = options.softmax ? row[i] * (out[i] - along) : out[i] * row[i] * (1.0f - row[i]);
    }
  }
};

void weigh(const at::Tensor& scores, const at::Tensor& chosen, const RouterOptions& options,
           const at::Tensor& weights) {
  const std::int64_t tokens = scores.size(0), experts = scores.size(1), k = options.chosen;
  const auto scale = static_cast<float>(options.scale);
  for (std::int64_t t = 0; t < tokens; ++t) {
    const float* row = numbers(scores) + t * experts;
    const std::int64_t* of_token = places_of(chosen) + t * k;
    const float sum = options.normalise ? sum_of_chosen(row, of_token, k) : 1.0f;
    for (std::int64_t j = 0; j < k; ++j) {
      mutable_numbers(weights)[t * k + j] = row[of_token[j]] / sum * scale;
    }
  }
}

// --- Rows. ---

/// Calls work(first, end) for parts of `rows`.
template <typename Work>
void over_rows(std::int64_t rows, std::int64_t columns, const Work& work) {
  at::parallel_for(0, rows, row_grain(columns), work);
}

/// to[places[r]] = from[r], or to[r] = from[places[r]].
at::Tensor moved(const at::Tensor& from, const at::Tensor& places, bool back) {
  at::Tensor to = at::empty_like(from);
  const std::int64_t columns = from.size(1);
  over_rows(from.size(0), columns, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const std::int64_t place = places_of(places)[r];
      std::memcpy(mutable_numbers(to) + (back ? r : place) * columns,
                  numbers(from) + (back ? place : r) * columns,
                  static_cast<std::size_t>(columns) * sizeof(float));
    }
  });
  return to;
}

struct PermuteBackward final : public TraceableFunction {
  using TraceableFunction::TraceableFunction;
  at::Tensor places;  // not changed by anyone

  std::string name() const override { return "PlaitPermuteRowsBackward"; }
  void release_variables() override {
    const std::scoped_lock lock(mutex_);
    places.reset();
  }
  variable_list apply(variable_list&& gradients) override {
    const std::scoped_lock lock(mutex_);
    if (!gradients[0].defined()) return {at::Tensor()};
    return {moved(gradients[0].contiguous(), places, /*back=*/true)};
  }
};

struct CopyBackward final : public TraceableFunction {
  using TraceableFunction::TraceableFunction;
  SavedVariable inverse;
  std::int64_t tokens = 0;

  std::string name() const override { return "PlaitCopyRowsBackward"; }
  void release_variables() override {
    const std::scoped_lock lock(mutex_);
    inverse.reset_data();
  }
  variable_list apply(variable_list&& gradients) override {
    const std::scoped_lock lock(mutex_);
    if (!gradients[0].defined()) return {at::Tensor()};
    const at::Tensor above = gradients[0].contiguous(), places = inverse.unpack();
    const std::int64_t columns = above.size(1), copies = places.numel() / tokens;
    at::Tensor result = at::empty({tokens, columns}, above.options());
    over_rows(tokens, columns * copies, [&](std::int64_t begin, std::int64_t end) {
      loops::sum_rows(numbers(above), places_of(places), begin, end, copies, columns,
                      mutable_numbers(result));
    });
    return {result};
  }
};

struct WeightedBackward final : public TraceableFunction {
  using TraceableFunction::TraceableFunction;
  SavedVariable rows, weights, inverse;

  std::string name() const override { return "PlaitAddWeightedRowsBackward"; }
  void release_variables() override {
    const std::scoped_lock lock(mutex_);
    for (SavedVariable* saved : {&rows, &weights, &inverse}) saved->reset_data();
  }
  variable_list apply(variable_list&& gradients) override {
    const std::scoped_lock lock(mutex_);
    if (!gradients[0].defined()) return variable_list(3);
    const at::Tensor above = gradients[0].contiguous(), x = rows.unpack(), w = weights.unpack(),
                     places = inverse.unpack();
    const std::int64_t tokens = w.size(0), copies = w.size(1), columns = above.size(1);
    variable_list result(3);
    if (task_should_compute_output(0)) result[0] = above;
    if (task_should_compute_output(1)) {
      result[1] = at::empty_like(x);
      over_rows(tokens, columns * copies, [&](std::int64_t begin, std::int64_t end) {
        loops::spread_rows(numbers(above), numbers(w), places_of(places), begin, end, copies,
                           columns, mutable_numbers(result[1]));
      });
    }
    if (task_should_compute_output(2)) {
      result[2] = at::empty_like(w);
      over_rows(tokens, columns * copies, [&](std::int64_t begin, std::int64_t end) {
        loops::row_products(numbers(above), numbers(x), places_of(places), begin, end, copies,
                            columns, mutable_numbers(result[2]));
      });
    }
    return result;
  }
};

}  // namespace

Routing route(const at::Tensor& logits, const at::Tensor& bias, const RouterOptions& options) {
  check_float(logits, "route");
  TORCH_CHECK(logits.dim() == 2 && options.chosen >= 1 && options.chosen <= logits.size(1),
              "route needs [tokens, at least ", options.chosen, " experts], got ", logits.sizes());
  TORCH_CHECK(bias.numel() == logits.size(1), "route needs a bias for each of ", logits.size(1),
              " experts, got ", bias.numel());
  const std::int64_t tokens = logits.size(0);
  Routing routing;
  at::Tensor scores, chosen;
  {
    const c10::AutoGradMode no_graph(false);
    const at::Tensor given = logits.detach().contiguous();
    scores = options.softmax ? at::softmax(given, -1) : at::sigmoid(given);
    chosen = choose_all(scores, bias, options.chosen);
    routing.weights = at::empty({tokens, options.chosen}, logits.options());
    weigh(scores, chosen, options, routing.weights);
    routing.inverse = at::empty({tokens * options.chosen}, options_of(kDtypes.index));
    routing.loads = at::zeros({logits.size(1)}, options_of(kDtypes.index));
    place_copies(chosen, routing);
  }
  record<RouterBackward>(
      routing.weights,
      [&](RouterBackward& node) {
        node.options = options;
        node.scores = scores;
        node.chosen = chosen;
        node.loads = routing.loads;
      },
      logits);
  return routing;
}

at::Tensor copy_rows(const at::Tensor& h, const at::Tensor& inverse) {
  check_rows(h, h.size(0), h.size(-1), "copy_rows");
  const std::int64_t tokens = h.size(0), columns = h.size(1);
  TORCH_CHECK(tokens > 0 && inverse.numel() % tokens == 0, "copy_rows needs a multiple of ", tokens,
              " places, got ", inverse.numel());
  check_places(inverse, inverse.numel(), "copy_rows");
  const std::int64_t copies = inverse.numel() / tokens;
  at::Tensor rows;
  {
    const c10::AutoGradMode no_graph(false);
    rows = at::empty({tokens * copies, columns}, h.options());
    over_rows(tokens, columns * copies, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin * copies; i < end * copies; ++i) {
        std::memcpy(mutable_numbers(rows) + places_of(inverse)[i] * columns,
                    numbers(h) + i / copies * columns,
                    static_cast<std::size_t>(columns) * sizeof(float));
      }
    });
  }
  record<CopyBackward>(
      rows,
      [&](CopyBackward& node) {
        node.inverse = SavedVariable(inverse, false);
        node.tokens = tokens;
      },
      h);
  return rows;
}

at::Tensor add_weighted_rows(const at::Tensor& base, const at::Tensor& rows,
                             const at::Tensor& weights, const at::Tensor& inverse) {
  const std::int64_t tokens = base.size(0), columns = base.size(-1), copies = weights.size(-1);
  check_rows(base, tokens, columns, "add_weighted_rows");
  check_rows(rows, tokens * copies, columns, "add_weighted_rows");
  check_rows(weights, tokens, copies, "add_weighted_rows");
  check_places(inverse, tokens * copies, "add_weighted_rows");
  at::Tensor y;
  {
    const c10::AutoGradMode no_graph(false);
    y = at::empty_like(base);
    over_rows(tokens, columns * copies, [&](std::int64_t begin, std::int64_t end) {
      loops::add_weighted_rows(numbers(base), numbers(rows), numbers(weights), places_of(inverse),
                               begin, end, copies, columns, mutable_numbers(y));
    });
  }
  record<WeightedBackward>(
      y,
      [&](WeightedBackward& node) {
        node.rows = SavedVariable(rows, false);
        node.weights = SavedVariable(weights, false);
        node.inverse = SavedVariable(inverse, false);
      },
      base, rows, weights);
  return y;
}

at::Tensor permute_rows(const at::Tensor& rows, const at::Tensor& places) {
  check_rows(rows, places.numel(), rows.size(-1), "permute_rows");
  check_places(places, rows.size(0), "permute_rows");
  at::Tensor y;
  {
    const c10::AutoGradMode no_graph(false);
    y = moved(rows, places, /*back=*/false);
  }
  record<PermuteBackward>(
      y, [&](PermuteBackward& node) { node.places = places; }, rows);
  return y;
}

}  // namespace plait
