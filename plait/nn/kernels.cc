#include "plait/nn/kernels.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/roll.h>
#include <ATen/ops/silu.h>

#include <cmath>

namespace plait {

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return x * (x * x).mean(-1, true).add(eps).rsqrt() * weight;
}

RotaryTable make_rotary_table(std::int64_t length, std::int64_t head_size, double theta) {
  RotaryTable table{at::empty({length, head_size}, at::kFloat),
                    at::empty({length, head_size}, at::kFloat)};
  auto* cosine = static_cast<float*>(table.cosine.data_ptr());
  auto* sine = static_cast<float*>(table.signed_sine.data_ptr());
  const std::int64_t half = head_size / 2;
  for (std::int64_t i = 0; i < head_size; ++i) {
    // Rounded to float32 where Hugging Face rounds: at position 4096 one last bit of the frequency
    // is 2e-4 of the angle.
    const float share = static_cast<float>(2 * (i % half)) / static_cast<float>(head_size);
    const auto power = static_cast<float>(std::pow(theta, static_cast<double>(share)));
    const float frequency = 1.0f / power;
    for (std::int64_t t = 0; t < length; ++t) {
      const double angle = static_cast<double>(static_cast<float>(t) * frequency);
      cosine[t * head_size + i] = static_cast<float>(std::cos(angle));
      sine[t * head_size + i] = static_cast<float>(i < half ? -std::sin(angle) : std::sin(angle));
    }
  }
  return table;
}

at::Tensor rotate(const at::Tensor& x, const RotaryTable& table) {
  const std::int64_t length = x.size(1);
  const at::Tensor cosine = table.cosine.narrow(0, 0, length).unsqueeze(1);
  const at::Tensor sine = table.signed_sine.narrow(0, 0, length).unsqueeze(1);
  return at::addcmul(x * cosine, at::roll(x, x.size(-1) / 2, -1), sine);
}

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) { return at::silu(gate) * up; }

}  // namespace plait
