#include "plait/schedule/names.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <vector>

#include "plait/base/nearest_name.h"

namespace plait {
namespace {

bool equal_but_for_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    return std::tolower(static_cast<unsigned char>(x)) ==
           std::tolower(static_cast<unsigned char>(y));
  });
}

/// Schedules that leave V open; all others have their default alone.
constexpr std::array<std::string_view, 6> kOpenChunks{
    "interleaved-1f1b",    "looped-bfs", "interleaved-zero-bubble",
    "interleaved-grouped", "hanayo",     "forward-only"};

}  // namespace

const GeneratorInfo* find_generator(std::string_view name) {
  for (const TorchName& known : kTorchNames) {
    if (!equal_but_for_case(known.torch, name)) continue;
    name = known.name;
    break;
  }
  const auto* const found = std::find_if(kGenerators.begin(), kGenerators.end(),
                                         [&](const auto& info) { return info.name == name; });
  return found == kGenerators.end() ? nullptr : found;
}

std::string describe_unknown_schedule(std::string_view name) {
  std::string known;
  std::vector<std::string_view> names;
  for (const GeneratorInfo& info : kGenerators) {
    known += fmt::format("{}{}", known.empty() ? "" : ", ", info.name);
    names.push_back(info.name);
  }
  const std::string nearest = nearest_name(name, names);
  constexpr std::size_t kSlip = 3;
  const bool is_slip = edit_distance(name, nearest) <= kSlip;
  return fmt::format("'{}' is neither a file nor a schedule's name, {}needed one of: {}", name,
                     is_slip ? fmt::format("did you mean {}? ", nearest) : "", known);
}

bool has_fixed_chunks(const GeneratorInfo& info) {
  return std::find(kOpenChunks.begin(), kOpenChunks.end(), info.name) == kOpenChunks.end();
}

}  // namespace plait
