#include "plait/schedule/source.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <iterator>

namespace plait {

Expected<Schedule> schedule_by_name_or_file(const std::string& name, const ScheduleShape& shape,
                                            const CsvShape& of_file) {
  std::error_code ignored;
  if (!std::filesystem::exists(name, ignored)) return generate(name, shape);
  if (std::filesystem::is_directory(name, ignored)) {
    return fail(ErrorCode::kInvalidInput, "is a folder, needed a schedule as CSV", name);
  }
  std::ifstream file(name, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file) return fail(ErrorCode::kIo, "the file cannot be read", name);
  return read_csv(text, name, of_file);
}

}  // namespace plait
