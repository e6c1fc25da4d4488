#include "plait/nn/mixture_kernels.h"

#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <c10/core/GradMode.h>

#include <mutex>
#include <string>
#include <utility>

#include "plait/nn/kernel_node.h"
#include "plait/nn/ops/ops.h"
#include "plait/nn/tensor_options.h"

namespace plait {

namespace {

using kernels::record;
using kernels::SavedVariable;
using kernels::TraceableFunction;
using kernels::variable_list;

void check_rows(const at::Tensor& tensor, std::int64_t rows, std::int64_t columns,
                const char* what) {
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

struct RouterBackward final : public TraceableFunction {
  using TraceableFunction::TraceableFunction;
  RouterOptions options;
  at::Tensor scores, chosen, loads;  // without graph, not handed out: never changed
  at::ScalarType logits_type = at::kFloat;

  std::string name() const override { return "PlaitRouterBackward"; }
  void release_variables() override {
    const std::scoped_lock lock(mutex_);
    for (at::Tensor* saved : {&scores, &chosen, &loads}) saved->reset();
  }
  variable_list apply(variable_list&& gradients) override {
    const std::scoped_lock lock(mutex_);
    if (!gradients[0].defined()) return {at::Tensor()};
    const at::Tensor above = gradients[0].contiguous();
    const at::Tensor result =
        ops_for(scores).router_gradient(above, scores, chosen, loads, options);
    return {result.to(logits_type)};
  }
};

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
    const at::Tensor above = gradients[0].contiguous();
    return {ops_for(above).move_rows(above, places, /*back=*/true)};
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
    return {ops_for(above).sum_rows(above, places, tokens)};
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
    const Ops& ops = ops_for(above);
    variable_list result(3);
    if (task_should_compute_output(0)) result[0] = above;
    if (task_should_compute_output(1))
      result[1] = ops.spread_rows(above, w, places).to(x.scalar_type());
    if (task_should_compute_output(2)) result[2] = ops.row_products(above, x, w, places);
    return result;
  }
};

}  // namespace

Routing route(const at::Tensor& logits, const at::Tensor& bias, const RouterOptions& options) {
  TORCH_CHECK(logits.dim() == 2 && options.chosen >= 1 && options.chosen <= logits.size(1),
              "route needs [tokens, at least ", options.chosen, " experts], got ", logits.sizes());
  TORCH_CHECK(bias.numel() == logits.size(1), "route needs a bias for each of ", logits.size(1),
              " experts, got ", bias.numel());
  Routing routing;
  at::Tensor scores, chosen;
  {
    const c10::AutoGradMode no_graph(false);
    at::Tensor given = logits.detach().contiguous();
    if (given.scalar_type() != at::kDouble) given = given.to(at::kFloat);
    scores = options.softmax ? at::softmax(given, -1) : at::sigmoid(given);
    const Ops& ops = ops_for(scores);
    chosen = ops.choose(scores, bias, options.chosen);
    routing.weights = ops.weigh(scores, chosen, options);
    Ops::Places places = ops.place(chosen, logits.size(1));
    routing.inverse = std::move(places.inverse);
    routing.loads = std::move(places.loads);
  }
  record<RouterBackward>(
      routing.weights,
      [&](RouterBackward& node) {
        node.options = options;
        node.scores = scores;
        node.chosen = chosen;
        node.loads = routing.loads;
        node.logits_type = logits.scalar_type();
      },
      logits);
  return routing;
}

at::Tensor copy_rows(const at::Tensor& h, const at::Tensor& inverse) {
  check_rows(h, h.size(0), h.size(-1), "copy_rows");
  const std::int64_t tokens = h.size(0);
  TORCH_CHECK(tokens > 0 && inverse.numel() % tokens == 0, "copy_rows needs a multiple of ", tokens,
              " places, got ", inverse.numel());
  check_places(inverse, inverse.numel(), "copy_rows");
  at::Tensor rows;
  {
    const c10::AutoGradMode no_graph(false);
    rows = ops_for(h).copy_rows(h, inverse);
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
    y = ops_for(base).add_weighted_rows(base, rows, weights, inverse);
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
    y = ops_for(rows).move_rows(rows, places, /*back=*/false);
  }
  record<PermuteBackward>(
      y, [&](PermuteBackward& node) { node.places = places; }, rows);
  return y;
}

}  // namespace plait
