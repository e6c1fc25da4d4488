#include "plait/nn/parameter_store.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/Allocator.h>
#include <c10/core/GradMode.h>
#include <c10/core/StorageImpl.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "plait/base/check.h"
#include "plait/base/fnv1a.h"
#include "plait/base/random.h"
#include "plait/nn/tensor_options.h"

namespace plait {

namespace {

template <typename Visitor>
void each_leaf(const at::Tensor& leaf, const std::vector<at::Tensor>& aliases, Visitor&& visit) {
  visit(leaf);
  for (const at::Tensor& alias : aliases) visit(alias);
}

bool has_memory(const at::Tensor& tensor) {
  return tensor.numel() == 0 || tensor.storage().nbytes() > 0;
}

void free_memory(const at::Tensor& tensor) {
  c10::StorageImpl* storage = tensor.storage().unsafeGetStorageImpl();
  storage->set_nbytes(0);
  storage->set_data_ptr_noswap(c10::DataPtr(nullptr, storage->device()));
}

/// Of a tensor that its storage holds alone.
void allocate_memory(const at::Tensor& tensor) {
  const std::size_t bytes = tensor.nbytes();
  c10::StorageImpl* storage = tensor.storage().unsafeGetStorageImpl();
  storage->set_data_ptr_noswap(c10::GetAllocator(storage->device_type())->allocate(bytes));
  storage->set_nbytes(bytes);
}

std::int64_t sum_of_quarters(std::uint64_t bits) {
  return static_cast<std::int64_t>((bits & 0xffff) + ((bits >> 16) & 0xffff) +
                                   ((bits >> 32) & 0xffff) + (bits >> 48));
}

// fill_normal() in whole tensors of int64, whose products wrap as unsigned ones do.

at::Tensor shifted(const at::Tensor& bits, int places) {
  return bits.bitwise_right_shift(places).bitwise_and((std::int64_t{1} << (64 - places)) - 1);
}

at::Tensor mixed(const at::Tensor& bits) {
  constexpr auto kFirst = static_cast<std::int64_t>(0xbf58476d1ce4e5b9ULL);
  constexpr auto kSecond = static_cast<std::int64_t>(0x94d049bb133111ebULL);
  const at::Tensor once = bits.bitwise_xor(shifted(bits, 30)).mul_(kFirst);
  const at::Tensor twice = once.bitwise_xor(shifted(once, 27)).mul_(kSecond);
  return twice.bitwise_xor(shifted(twice, 31));
}

at::Tensor sum_of_quarters(const at::Tensor& bits) {
  at::Tensor sum = bits.bitwise_and(0xffff);
  for (const int places : {16, 32, 48})
    sum.add_(bits.bitwise_right_shift(places).bitwise_and(0xffff));
  return sum;
}

void fill_on_device(const at::Tensor& flat, std::uint64_t key, double scale) {
  constexpr std::int64_t kMean = std::int64_t{4} * 65535;
  constexpr std::int64_t kAtOnce = std::int64_t{1} << 24;
  constexpr auto kStep = static_cast<std::int64_t>(kSplitMixStep);
  for (std::int64_t first = 0; first < flat.numel(); first += kAtOnce) {
    const std::int64_t count = std::min(kAtOnce, flat.numel() - first);
    const at::Tensor even =
        at::arange(first, first + count, flat.options().dtype(at::kLong)).mul_(2);
    const auto draw = [&](std::int64_t number) {
      return sum_of_quarters(
          mixed(even.add(number).mul_(kStep).add_(static_cast<std::int64_t>(key))));
    };
    const at::Tensor sum = draw(1).add_(draw(2)).sub_(kMean);
    flat.narrow(0, first, count).copy_(sum.to(at::kDouble).mul_(scale));
  }
}

}  // namespace

at::Tensor ParameterStore::create(const std::string& name, at::IntArrayRef shape) {
  PLAIT_CHECK(!contains(name), "a parameter was made twice");
  at::Tensor leaf = at::empty(shape, options_of(kDtypes.parameter, device_));
  leaf.set_requires_grad(true);
  Entry entry;
  entry.leaf = std::move(leaf);
  return entries_.emplace(name, std::move(entry)).first->second.leaf;
}

at::Tensor ParameterStore::alias(const std::string& name) {
  const auto found = entries_.find(name);
  PLAIT_CHECK(found != entries_.end(), "an alias of a parameter that does not exist");
  at::Tensor leaf = found->second.leaf.detach();
  leaf.set_requires_grad(true);
  return found->second.aliases.emplace_back(std::move(leaf));
}

at::Tensor ParameterStore::keep_rounded(const std::string& name, at::ScalarType dtype) {
  Entry& entry = entries_.at(name);
  if (!entry.rounded.defined())
    entry.rounded = at::empty_like(entry.leaf.detach(), entry.leaf.options().dtype(dtype));
  return entry.rounded;
}

void ParameterStore::renew_rounded(const std::string& name) {
  const c10::AutoGradMode no_graph(false);
  const Entry& entry = entries_.at(name);
  if (entry.rounded.defined()) entry.rounded.copy_(entry.leaf);
}

at::Tensor ParameterStore::create_buffer(const std::string& name, at::IntArrayRef shape) {
  PLAIT_CHECK(!contains(name), "a buffer was made twice");
  Parameter buffer{name, at::zeros(shape, options_of(kDtypes.parameter, device_))};
  return buffers_.emplace(name, std::move(buffer)).first->second.tensor;
}

Expected<bool> ParameterStore::is_new(const Parameter& parameter) const {
  const at::Tensor& tensor = parameter.tensor;
  for (const Parameter& held : tensors()) {
    if (held.tensor.is_same(tensor)) return false;
  }
  if (contains(parameter.name)) {
    return fail(ErrorCode::kInvalidInput, "two tensors have this name, needed one for each",
                parameter.name);
  }
  if (!tensor.is_contiguous() || tensor.device() != device_) {
    return fail(ErrorCode::kInvalidInput,
                "the tensor must be contiguous and on " +
                    (device_.is_cpu() ? std::string("the CPU") : device_.str()),
                parameter.name);
  }
  return true;
}

Expected<void> ParameterStore::adopt(const Parameter& parameter) {
  if (!parameter.tensor.requires_grad()) return adopt_buffer(parameter);
  PLAIT_TRY(const bool added, is_new(parameter));
  if (added) entries_.emplace(parameter.name, Entry{parameter.tensor, {}, {}, parameter.holders});
  return {};
}

Expected<void> ParameterStore::adopt_buffer(const Parameter& buffer) {
  PLAIT_TRY(const bool added, is_new(buffer));
  if (added) buffers_.emplace(buffer.name, buffer);
  return {};
}

void ParameterStore::set_holders(const std::string& name, Group holders) {
  entries_.at(name).holders = holders;
}

bool ParameterStore::contains(const std::string& name) const {
  return entries_.contains(name) || buffers_.contains(name);
}

at::Tensor ParameterStore::find(const std::string& name) const {
  if (const auto found = entries_.find(name); found != entries_.end()) return found->second.leaf;
  const auto found = buffers_.find(name);
  return found == buffers_.end() ? at::Tensor() : found->second.tensor;
}

std::vector<Parameter> ParameterStore::parameters() const {
  std::vector<Parameter> all;
  all.reserve(entries_.size());
  for (const auto& [name, entry] : entries_) all.push_back({name, entry.leaf, entry.holders});
  return all;
}

std::vector<Parameter> ParameterStore::buffers() const {
  std::vector<Parameter> all;
  for (const auto& [name, buffer] : buffers_) all.push_back(buffer);
  return all;
}

std::vector<Parameter> ParameterStore::tensors() const {
  std::vector<Parameter> all = parameters();
  for (Parameter& buffer : buffers()) all.push_back(std::move(buffer));
  std::sort(all.begin(), all.end(),
            [](const Parameter& a, const Parameter& b) { return a.name < b.name; });
  return all;
}

std::int64_t ParameterStore::count() const {
  std::int64_t sum = 0;
  for (const auto& [name, entry] : entries_) sum += entry.leaf.numel();
  return sum;
}

void ParameterStore::allocate_gradients() {
  for (auto& [name, entry] : entries_) {
    each_leaf(entry.leaf, entry.aliases, [](const at::Tensor& leaf) {
      at::Tensor& gradient = leaf.mutable_grad();
      if (!gradient.defined()) gradient = at::zeros_like(leaf.detach());
    });
  }
}

void ParameterStore::zero_gradients() {
  const c10::AutoGradMode no_graph(false);
  for (auto& [name, entry] : entries_) {
    each_leaf(entry.leaf, entry.aliases, [](const at::Tensor& leaf) {
      at::Tensor& gradient = leaf.mutable_grad();
      if (gradient.defined() && has_memory(gradient)) gradient.zero_();
    });
  }
}

void ParameterStore::free_values(const std::string& name) {
  const Entry& entry = entries_.at(name);
  free_memory(entry.leaf);
  if (entry.rounded.defined()) free_memory(entry.rounded);
}

void ParameterStore::allocate_values(const std::string& name) {
  const Entry& entry = entries_.at(name);
  if (!has_memory(entry.leaf)) allocate_memory(entry.leaf);
  if (entry.rounded.defined() && !has_memory(entry.rounded)) allocate_memory(entry.rounded);
}

void ParameterStore::free_gradients(const std::string& name) {
  const Entry& entry = entries_.at(name);
  each_leaf(entry.leaf, entry.aliases, [](const at::Tensor& leaf) {
    if (leaf.grad().defined()) free_memory(leaf.grad());
  });
}

void ParameterStore::allocate_gradients(const std::string& name) {
  const c10::AutoGradMode no_graph(false);
  const Entry& entry = entries_.at(name);
  each_leaf(entry.leaf, entry.aliases, [](const at::Tensor& leaf) {
    at::Tensor& gradient = leaf.mutable_grad();
    if (!gradient.defined()) {
      gradient = at::zeros_like(leaf.detach());
    } else if (!has_memory(gradient)) {
      allocate_memory(gradient);
      gradient.zero_();
    }
  });
}

void ParameterStore::add_alias_gradients(const std::string& name) {
  const c10::AutoGradMode no_graph(false);
  Entry& entry = entries_.at(name);
  for (const at::Tensor& alias : entry.aliases) {
    at::Tensor& second = alias.mutable_grad();
    if (!second.defined()) continue;
    at::Tensor& first = entry.leaf.mutable_grad();
    if (!first.defined()) first = at::zeros_like(second);
    first.add_(second);
    second.zero_();
  }
}

void ParameterStore::add_alias_gradients() {
  for (const auto& [name, entry] : entries_) add_alias_gradients(name);
}

// A sum of integers and one rounding: no library function whose last bit differs by platform.
void fill_normal(const at::Tensor& tensor, std::uint64_t seed, std::string_view name,
                 double deviation) {
  PLAIT_CHECK(tensor.is_contiguous() && tensor.scalar_type() == at::kFloat,
              "fill_normal is for contiguous float32");
  // A uniform number of 0 … 65535 has the variance (65536² - 1) / 12; eight add up.
  constexpr std::int64_t kMean = std::int64_t{4} * 65535;
  const double scale = deviation / std::sqrt(8.0 * (65536.0 * 65536.0 - 1.0) / 12.0);
  const std::uint64_t key = mix_bits(seed ^ mix_bits(fnv1a(name)));
  if (!tensor.is_cpu()) return fill_on_device(tensor.detach().view({-1}), key, scale);
  auto* data = static_cast<float*>(tensor.data_ptr());
  std::uint64_t counter = key;
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    const std::uint64_t first = mix_bits(counter += kSplitMixStep),
                        second = mix_bits(counter += kSplitMixStep);
    const std::int64_t sum = sum_of_quarters(first) + sum_of_quarters(second) - kMean;
    data[i] = static_cast<float>(static_cast<double>(sum) * scale);
  }
}

}  // namespace plait
