#include "plait/train/gradient_norm.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/linalg_vector_norm.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <tuple>

#include "plait/base/check.h"
#include "plait/base/numbers_of.h"
#include "plait/train/shard_layout.h"

namespace plait {
namespace {

/// Eight sums that are added at the end: a fixed order that a compiler can make vectors of.
template <typename Number>
double square_sum(const Number* values, std::size_t count) {
  std::array<double, 8> lanes{};
  for (std::size_t i = 0; i < count; ++i)
    lanes[i % 8] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

template <typename Number>
std::vector<double> chunk_sums(const at::Tensor& gradient, std::int64_t length) {
  const auto* values = gradient.const_data_ptr<Number>();
  std::vector<double> sums;
  for (std::int64_t first = 0; first < gradient.numel(); first += length) {
    const std::int64_t count = std::min(length, gradient.numel() - first);
    sums.push_back(square_sum(values + first, static_cast<std::size_t>(count)));
  }
  return sums;
}

/// Norms of a slice's chunks, on its device: of those of full length, and of the last one.
void add_norms(const at::Tensor& gradient, std::int64_t length, std::vector<at::Tensor>& norms) {
  const std::int64_t full = gradient.numel() / length * length;
  const auto add = [&](const at::Tensor& rows) {
    if (rows.numel() > 0)
      norms.push_back(at::linalg_vector_norm(rows, 2, {1}, /*keepdim=*/false, at::kDouble));
  };
  add(gradient.narrow(0, 0, full).view({-1, length}));
  add(gradient.narrow(0, full, gradient.numel() - full).view({1, -1}));
}

/// Of several slices on a GPU, read from it at once.
class DeviceSums {
 public:
  void add(std::size_t place, const TrainedSlice& slice, std::int64_t length) {
    const std::int64_t chunks = (slice.gradient.numel() + length - 1) / length;
    places_.emplace_back(place, chunks);
    add_norms(slice.gradient, length, norms_);
  }
  void read(std::vector<SquareSums>& sums) const {
    if (norms_.empty()) return;
    const at::Tensor host = at::cat(norms_).square_().cpu();
    const auto* next = host.const_data_ptr<double>();
    for (const auto& [place, chunks] : places_) {
      sums[place].sums.assign(next, next + chunks);
      next += chunks;
    }
  }

 private:
  std::vector<std::pair<std::size_t, std::int64_t>> places_;  // in the sums, and chunks there
  std::vector<at::Tensor> norms_;
};

double sum_of(const std::vector<double>& numbers, double sum) {
  for (const double number : numbers) sum += number;
  return sum;
}

}  // namespace

std::vector<SquareSums> square_sums(const std::vector<TrainedSlice>& slices) {
  std::vector<SquareSums> all;
  DeviceSums on_device;
  for (const TrainedSlice& slice : slices) {
    if (!slice.speaks) continue;
    const at::Tensor& gradient = slice.gradient;
    const std::int64_t length = chunk_numbers(numbers_of(slice.shape));
    PLAIT_CHECK(slice.first % length == 0, "a slice begins with a chunk");
    SquareSums sums{slice.name, slice.first / length, {}};
    if (!gradient.is_cpu()) {
      on_device.add(all.size(), slice, length);
    } else if (gradient.scalar_type() == at::kFloat) {
      sums.sums = chunk_sums<float>(gradient, length);
    } else {
      // A module of the caller's own.
      sums.sums = chunk_sums<double>(gradient.to(at::kDouble), length);
    }
    all.push_back(std::move(sums));
  }
  on_device.read(all);
  // The first chunks' sum is where that of the whole begins: one number says as much.
  for (SquareSums& one : all) {
    if (one.chunk == 0) one.sums = {sum_of(one.sums, 0)};
  }
  return all;
}

double global_norm(std::vector<SquareSums> sums) {
  std::sort(sums.begin(), sums.end(), [](const SquareSums& a, const SquareSums& b) {
    return std::tie(a.name, a.chunk) < std::tie(b.name, b.chunk);
  });
  double total = 0;
  for (auto one = sums.begin(); one != sums.end();) {
    double of_parameter = 0;
    const auto parameter = one;
    for (; one != sums.end() && one->name == parameter->name; ++one)
      of_parameter = sum_of(one->sums, of_parameter);
    total += of_parameter;
  }
  return std::sqrt(total);
}

}  // namespace plait
