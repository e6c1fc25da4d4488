/// The checks of a schedule's shape that generators share.
#pragma once

#include <string_view>

#include "plait/base/error.h"
#include "plait/schedule/generators.h"

namespace plait {

/// Errors: P, M or V below 1; V not `needed_chunks` (0: any); S or M beyond what a schedule's text
/// can hold.
Expected<void> check_shape(std::string_view name, const ScheduleShape& shape, int needed_chunks);

/// "name: microbatches is M, <needs>" as an error, or nothing if `holds`.
Expected<void> check_microbatches(std::string_view name, const ScheduleShape& shape, bool holds,
                                  std::string_view needs);

}  // namespace plait
