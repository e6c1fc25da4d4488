#include "plait/schedule/source.h"

#include <fmt/core.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "plait/ir/forms/text_forms.h"

namespace plait {
namespace {

/// In one piece: a schedule of 10^8 actions has half a gigabyte of text.
Expected<std::string> read_whole(const std::string& name) {
  std::ifstream file(name, std::ios::binary | std::ios::ate);
  const std::streamoff size = file.tellg();
  std::string text;
  if (size > 0) {
    text.resize(static_cast<std::size_t>(size));
    file.seekg(0).read(text.data(), size);
  } else if (file) {  // a pipe has no size
    text.assign(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  if (!file) return fail(ErrorCode::kIo, "the file cannot be read", name);
  return text;
}

}  // namespace

Expected<Schedule> schedule_by_name_or_file(const std::string& name, const ScheduleShape& shape,
                                            const CsvShape& of_file) {
  std::error_code ignored;
  if (!std::filesystem::exists(name, ignored)) return generate(name, shape);
  if (std::filesystem::is_directory(name, ignored)) {
    return fail(ErrorCode::kInvalidInput, "is a folder, needed a file that holds a schedule", name);
  }
  PLAIT_TRY(const std::string text, read_whole(name));
  return read_schedule(text, name, of_file);
}

}  // namespace plait
