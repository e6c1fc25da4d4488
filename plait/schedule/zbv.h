/// zbv under other names.
#pragma once

#include <string_view>

#include "plait/base/error.h"
#include "plait/schedule/generators.h"

namespace plait {

/// zbv for any M under another name: the order of schedules with pairs below the M that pairs need.
Expected<Schedule> zbv_of_any_m(std::string_view name, const ScheduleShape& shape);

}  // namespace plait
