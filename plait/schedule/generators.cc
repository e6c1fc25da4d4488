#include "plait/schedule/generators.h"

#include "plait/schedule/names.h"

namespace plait {

Expected<Schedule> generate(std::string_view name, const ScheduleShape& shape) {
  const GeneratorInfo* info = find_generator(name);
  if (info == nullptr) return fail(ErrorCode::kInvalidInput, describe_unknown_schedule(name));
  ScheduleShape full = shape;
  if (full.chunks == 0) full.chunks = info->default_chunks;
  return info->generate(full);
}

}  // namespace plait
