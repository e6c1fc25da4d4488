#include "plait/ir/dialect.h"

namespace plait {

bool has_waits(const Schedule& schedule) { return holds(schedule, is_wait); }

std::optional<Dialect> dialect_of(const Schedule& schedule) {
  if (has_waits(schedule)) return Dialect::kTorch215;
  if (holds(schedule, is_send) || holds(schedule, is_reduction)) return Dialect::kTorch213;
  return std::nullopt;
}

}  // namespace plait
