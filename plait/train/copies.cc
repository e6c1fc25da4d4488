#include "plait/train/copies.h"

#include <fmt/core.h>

#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "plait/base/fnv1a.h"

namespace plait {
namespace {

std::uint64_t hash_of(const at::Tensor& tensor) {
  const at::Tensor whole = tensor.detach().cpu().contiguous();
  return fnv1a({static_cast<const std::byte*>(whole.const_data_ptr()), whole.nbytes()});
}

}  // namespace

std::vector<TensorCopy> hash_copies(const ParameterStore& store, int column, int expert) {
  std::vector<TensorCopy> copies;
  for (const Parameter& one : store.tensors()) {
    const int place = one.holders == Group::kData ? column % expert : -1;
    copies.push_back({fmt::format("{} {}", place, one.name), hash_of(one.tensor), column});
  }
  return copies;
}

Expected<void> compare_copies(Exchange& exchange, const std::vector<TensorCopy>& mine) {
  nlohmann::json list = nlohmann::json::array();
  for (const TensorCopy& copy : mine) list.push_back({copy.key, copy.hash, copy.column});
  PLAIT_TRY(const std::vector<std::string> lists, exchange.all_gather(list.dump()));
  std::map<std::string, std::pair<std::uint64_t, int>> found;  // hash, and the first column
  for (const std::string& of_rank : lists) {
    for (const nlohmann::json& one : nlohmann::json::parse(of_rank)) {
      const auto key = one[0].get<std::string>();
      const auto [entry, added] =
          found.emplace(key, std::pair(one[1].get<std::uint64_t>(), one[2].get<int>()));
      if (added || entry->second.first == one[1].get<std::uint64_t>()) continue;
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("columns {} and {} begin with different numbers, needed the same in "
                              "all that hold it",
                              entry->second.second, one[2].get<int>()),
                  key.substr(key.find(' ') + 1));
    }
  }
  return {};
}

}  // namespace plait
