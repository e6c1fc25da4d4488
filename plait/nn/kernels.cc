#include "plait/nn/kernels.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <c10/core/GradMode.h>

#include <cmath>
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

/// dy^T x, the matrix's gradient.
at::Tensor matrix_gradient(const at::Tensor& dy, const at::Tensor& x, at::ScalarType dtype) {
  if (!dy.is_cpu() && dtype == at::kFloat) return at::mm(dy.t(), x, dtype);
  return at::mm(dy.t(), x).to(dtype);
}

/// Of base + x matrix^T; without base the first of the three gradients is asked by nobody.
struct MatrixProductBackward final : public TraceableFunction {
  using TraceableFunction::TraceableFunction;
  SavedVariable x, matrix;
  at::Tensor rounded;  // changes between steps only

  std::string name() const override { return "PlaitMatrixProductBackward"; }
  void release_variables() override {
    const std::scoped_lock lock(mutex_);
    x.reset_data();
    matrix.reset_data();
    rounded.reset();
  }
  variable_list apply(variable_list&& gradients) override {
    const std::scoped_lock lock(mutex_);
    variable_list result(3);
    if (!gradients[0].defined()) return result;
    const at::Tensor& above = gradients[0];
    const at::Tensor rows = x.unpack(), w = matrix.unpack();
    if (task_should_compute_output(0)) result[0] = above;
    if (task_should_compute_output(1))
      result[1] = at::mm(above, rounded.defined() ? rounded : w.to(above.scalar_type()));
    if (task_should_compute_output(2)) result[2] = matrix_gradient(above, rows, w.scalar_type());
    return result;
  }
};

at::Tensor rounded_to(at::ScalarType dtype, const Parameter& matrix) {
  return matrix.rounded.defined() ? matrix.rounded : matrix.tensor.to(dtype);
}

at::Tensor record_product(at::Tensor y, const at::Tensor& base, const at::Tensor& x,
                          const Parameter& matrix) {
  record<MatrixProductBackward>(
      y,
      [&](MatrixProductBackward& node) {
        node.x = SavedVariable(x, false);
        node.matrix = SavedVariable(matrix.tensor, false);
        node.rounded = matrix.rounded;
      },
      base, x, matrix.tensor);
  return y;
}

struct RmsNormBackward final : public TraceableFunction {
  using TraceableFunction::TraceableFunction;
  SavedVariable x, weight, inverse;

  std::string name() const override { return "PlaitRmsNormBackward"; }
  void release_variables() override {
    const std::scoped_lock lock(mutex_);
    for (SavedVariable* saved : {&x, &weight, &inverse}) saved->reset_data();
  }
  variable_list apply(variable_list&& gradients) override {
    const std::scoped_lock lock(mutex_);
    if (!gradients[0].defined()) return {at::Tensor(), at::Tensor()};
    const at::Tensor above = gradients[0].contiguous();
    const at::Tensor rows_x = x.unpack(), w = weight.unpack(), scales = inverse.unpack();
    const Ops& ops = ops_for(above);
    variable_list result(2);
    if (task_should_compute_output(0)) result[0] = ops.rms_norm_input(above, rows_x, w, scales);
    if (task_should_compute_output(1)) result[1] = ops.rms_norm_weight(above, rows_x, w, scales);
    return result;
  }
};

struct AddBiasBackward final : public TraceableFunction {
  using TraceableFunction::TraceableFunction;
  std::int64_t columns = 0;
  at::ScalarType bias_type = at::kFloat;

  std::string name() const override { return "PlaitAddBiasBackward"; }
  variable_list apply(variable_list&& gradients) override {
    if (!gradients[0].defined()) return {at::Tensor(), at::Tensor()};
    variable_list result(2);
    if (task_should_compute_output(0)) result[0] = gradients[0];
    if (task_should_compute_output(1)) {
      const at::Tensor above = gradients[0].contiguous();
      result[1] = ops_for(above).bias_gradient(above, columns).to(bias_type);
    }
    return result;
  }
};

/// Hugging Face's _compute_llama3_parameters, each operation rounded to float32 as there.
float scaled_frequency(float frequency, const RopeScaling& scaling) {
  if (!scaling.scales()) return frequency;
  const auto length = static_cast<double>(scaling.original_max_position_embeddings);
  const auto longest = static_cast<float>(length / scaling.low_freq_factor);
  const auto shortest = static_cast<float>(length / scaling.high_freq_factor);
  const auto factor = static_cast<float>(scaling.factor);
  const float wavelength = static_cast<float>(2.0 * M_PI) / frequency;
  if (wavelength > longest) return frequency / factor;
  if (wavelength < shortest) return frequency;
  const float smooth =
      (static_cast<float>(length) / wavelength - static_cast<float>(scaling.low_freq_factor)) /
      static_cast<float>(scaling.high_freq_factor - scaling.low_freq_factor);
  return (1.0f - smooth) * frequency / factor + smooth * frequency;
}

at::Tensor rotated(const at::Tensor& x, const RotaryTable& table, bool back) {
  return ops_for(x).rotate(x, table.cosine, table.sine, back);
}

struct RotateBackward final : public TraceableFunction {
  using TraceableFunction::TraceableFunction;
  RotaryTable table;  // of the model, lives as long

  std::string name() const override { return "PlaitRotateBackward"; }
  variable_list apply(variable_list&& gradients) override {
    if (!gradients[0].defined()) return {at::Tensor()};
    return {rotated(gradients[0].contiguous(), table, /*back=*/true)};
  }
};

struct SwigluBackward final : public TraceableFunction {
  using TraceableFunction::TraceableFunction;
  SavedVariable gate, up;

  std::string name() const override { return "PlaitSwigluBackward"; }
  void release_variables() override {
    const std::scoped_lock lock(mutex_);
    gate.reset_data();
    up.reset_data();
  }
  variable_list apply(variable_list&& gradients) override {
    const std::scoped_lock lock(mutex_);
    if (!gradients[0].defined()) return {at::Tensor(), at::Tensor()};
    const at::Tensor above = gradients[0].contiguous(), g = gate.unpack().detach(),
                     u = up.unpack().detach();
    const Ops& ops = ops_for(above);
    variable_list result(2);
    if (task_should_compute_output(0)) {
      result[0] = ops.swiglu_gate(above, g, u);
    }
    if (task_should_compute_output(1)) result[1] = ops.swiglu_up(above, g);
    return result;
  }
};

}  // namespace

at::Tensor matrix_product(const at::Tensor& x, const Parameter& matrix) {
  if (x.scalar_type() == matrix.tensor.scalar_type()) return at::mm(x, matrix.tensor.t());
  at::Tensor y;
  {
    const c10::AutoGradMode no_graph(false);
    y = at::mm(x, rounded_to(x.scalar_type(), matrix).t());
  }
  return record_product(std::move(y), {}, x, matrix);
}

at::Tensor add_matrix_product(const at::Tensor& base, const at::Tensor& x,
                              const Parameter& matrix) {
  if (x.scalar_type() == matrix.tensor.scalar_type()) return at::addmm(base, x, matrix.tensor.t());
  at::Tensor y;
  {
    const c10::AutoGradMode no_graph(false);
    y = at::addmm(base, x, rounded_to(x.scalar_type(), matrix).t());
  }
  return record_product(std::move(y), base, x, matrix);
}

at::Tensor widened(const at::Tensor& x) {
  return c10::elementSize(x.scalar_type()) < c10::elementSize(at::kFloat) ? x.to(at::kFloat) : x;
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  TORCH_CHECK(x.is_contiguous() && x.size(-1) == weight.numel(),
              "rms_norm needs contiguous rows of ", weight.numel(), " numbers, got ", x.sizes());
  Ops::Normed normed;
  {
    const c10::AutoGradMode no_graph(false);
    normed = ops_for(x).rms_norm(x, weight, eps);
  }
  record<RmsNormBackward>(
      normed.y,
      [&](RmsNormBackward& node) {
        node.x = SavedVariable(x, false);
        node.weight = SavedVariable(weight, false);
        node.inverse = SavedVariable(normed.inverse, false);
      },
      x, weight);
  return normed.y;
}

at::Tensor add_bias(const at::Tensor& x, const at::Tensor& bias) {
  TORCH_CHECK(x.is_contiguous() && x.size(-1) == bias.numel(), "add_bias needs contiguous rows of ",
              bias.numel(), " numbers, got ", x.sizes());
  const std::int64_t columns = bias.numel();
  at::Tensor y;
  {
    const c10::AutoGradMode no_graph(false);
    y = ops_for(x).add_bias(x, bias);
  }
  record<AddBiasBackward>(
      y,
      [&](AddBiasBackward& node) {
        node.columns = columns;
        node.bias_type = bias.scalar_type();
      },
      x, bias);
  return y;
}

RotaryTable make_rotary_table(std::int64_t length, std::int64_t head_size, double theta,
                              const RopeScaling& scaling) {
  const std::int64_t half = head_size / 2;
  const at::TensorOptions options = options_of(kDtypes.compute);
  RotaryTable table{at::empty({length, half}, options), at::empty({length, half}, options)};
  auto* cosine = table.cosine.mutable_data_ptr<float>();
  auto* sine = table.sine.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < half; ++i) {
    // Rounded to float32 where Hugging Face rounds: at position 4096 one last bit of the frequency
    // is 2e-4 of the angle.
    const float share = static_cast<float>(2 * i) / static_cast<float>(head_size);
    const auto power = static_cast<float>(std::pow(theta, static_cast<double>(share)));
    const float frequency = scaled_frequency(1.0f / power, scaling);
    for (std::int64_t t = 0; t < length; ++t) {
      const double angle = static_cast<double>(static_cast<float>(t) * frequency);
      cosine[t * half + i] = static_cast<float>(std::cos(angle));
      sine[t * half + i] = static_cast<float>(std::sin(angle));
    }
  }
  return table;
}

at::Tensor rotate(const at::Tensor& x, const RotaryTable& table) {
  TORCH_CHECK(x.dim() == 4 && x.is_contiguous() && x.size(1) <= table.cosine.size(0) &&
                  x.size(3) == 2 * table.cosine.size(1),
              "rotate needs [sequences, at most ", table.cosine.size(0), ", heads, ",
              2 * table.cosine.size(1), "], got ", x.sizes());
  at::Tensor y;
  {
    const c10::AutoGradMode no_graph(false);
    y = rotated(x, table, /*back=*/false);
  }
  record<RotateBackward>(
      y, [&](RotateBackward& node) { node.table = table; }, x);
  return y;
}

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  at::Tensor y;
  {
    const c10::AutoGradMode no_graph(false);
    y = ops_for(gate).swiglu(gate.detach(), up.detach());
  }
  record<SwigluBackward>(
      y,
      [&](SwigluBackward& node) {
        node.gate = SavedVariable(gate, false);
        node.up = SavedVariable(up, false);
      },
      gate, up);
  return y;
}

}  // namespace plait
