#include "plait/schedule/generators.h"

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

}  // namespace

const GeneratorInfo* find_generator(std::string_view name) {
  if (name.empty()) return nullptr;
  const auto* const found =
      std::find_if(kGenerators.begin(), kGenerators.end(), [&](const GeneratorInfo& info) {
        return info.name == name || equal_but_for_case(info.torch_name, name);
      });
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

Expected<Schedule> generate(std::string_view name, const ScheduleShape& shape) {
  const GeneratorInfo* info = find_generator(name);
  if (info == nullptr) return fail(ErrorCode::kInvalidInput, describe_unknown_schedule(name));
  ScheduleShape full = shape;
  if (full.chunks == 0) full.chunks = info->default_chunks;
  return info->generate(full);
}

}  // namespace plait
