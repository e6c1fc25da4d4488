#include "plait/ir/dialect.h"

#include <algorithm>

namespace plait {
namespace {

template <typename Is>
bool holds(const Schedule& schedule, Is is) {
  return std::any_of(schedule.ranks.begin(), schedule.ranks.end(), [&](const auto& list) {
    return std::any_of(list.begin(), list.end(),
                       [&](const Action& action) { return is(action.type); });
  });
}

}  // namespace

bool has_waits(const Schedule& schedule) { return holds(schedule, is_wait); }

std::optional<Dialect> dialect_of(const Schedule& schedule) {
  if (has_waits(schedule)) return Dialect::kTorch215;
  if (holds(schedule, is_send) || holds(schedule, is_reduction)) return Dialect::kTorch213;
  return std::nullopt;
}

}  // namespace plait
