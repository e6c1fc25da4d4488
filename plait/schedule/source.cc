#include "plait/schedule/source.h"

#include <filesystem>

#include "plait/base/read_file.h"
#include "plait/ir/forms/text_forms.h"

namespace plait {

Expected<const GeneratorInfo*> find_schedule(const std::string& name) {
  if (name == kStandardInput) return nullptr;
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(name, error);
  const bool absent = status.type() == std::filesystem::file_type::not_found;
  const bool folder = std::filesystem::is_directory(status);
  if (!absent && !folder) return nullptr;
  const GeneratorInfo* generator = find_generator(name);
  if (generator != nullptr) return generator;
  if (folder) {
    return fail(ErrorCode::kInvalidInput, "is a folder, needed a file that holds a schedule", name);
  }
  return fail(ErrorCode::kInvalidInput, describe_unknown_schedule(name));
}

Expected<Schedule> schedule_by_name_or_file(const std::string& name, const ScheduleShape& shape,
                                            const CsvShape& of_file,
                                            std::vector<std::string>* notes) {
  PLAIT_TRY(const GeneratorInfo* const generator, find_schedule(name));
  if (generator != nullptr) return generate(generator->name, shape);
  PLAIT_TRY(const std::string text, read_file(name, "schedule"));
  return read_schedule(text, name, of_file, notes);
}

}  // namespace plait
