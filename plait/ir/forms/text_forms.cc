#include "plait/ir/forms/text_forms.h"

#include <fmt/core.h>

#include "plait/ir/text_placement.h"

namespace plait {
namespace {

constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

/// The first character that is neither blank nor in a comment, or 0.
char first_character(std::string_view text) {
  bool in_comment = false;
  for (const char c : text) {
    if (c == '\n') in_comment = false;
    if (c == '#') in_comment = true;
    if (!in_comment && c != ' ' && c != '\t' && c != '\r' && c != '\n') return c;
  }
  return '\0';
}

Expected<void> check_number(std::string_view what, int found, std::optional<int> needed,
                            const std::string& file) {
  if (!needed || found == *needed) return {};
  return fail(ErrorCode::kInvalidInput,
              fmt::format("the file says {} {}, --{} says {}", what, found, what, *needed), file);
}

/// What the file says of itself against what it is known to hold.
Expected<void> check_shape(const Schedule& schedule, const std::string& file,
                           const CsvShape& shape) {
  const Placement& placement = schedule.placement;
  PLAIT_TRY_VOID(check_number("ranks", placement.ranks, shape.ranks, file));
  PLAIT_TRY_VOID(check_number("stages", placement.stages(), shape.stages, file));
  PLAIT_TRY_VOID(check_number("microbatches", schedule.microbatches, shape.microbatches, file));
  if (!shape.placement) return {};
  const auto needed = parse_placement(*shape.placement, placement.ranks, placement.stages());
  if (!needed) return fail(ErrorCode::kInvalidInput, needed.error().message, "--placement");
  if (needed->copies == placement.copies && needed->rank_of_stage == placement.rank_of_stage)
    return {};
  return fail(ErrorCode::kInvalidInput,
              fmt::format("the file says placement {}, --placement says {}",
                          print_placement(placement), *shape.placement),
              file);
}

}  // namespace

Expected<Schedule> read_schedule(std::string_view text, const std::string& file,
                                 const CsvShape& shape) {
  if (text.starts_with(kByteOrderMark)) {
    return fail(ErrorCode::kInvalidInput,
                "found a byte-order mark, needed plain text (save the file as UTF-8 without it)",
                file + ":1:1");
  }
  const char first = first_character(text);
  const bool is_text = (first >= 'a' && first <= 'z') || (first >= 'A' && first <= 'Z');
  if (first != '{' && !is_text) return read_csv(text, file, shape);
  PLAIT_TRY(Schedule schedule, is_text ? read_text(text, file) : read_json(text, file));
  PLAIT_TRY_VOID(check_shape(schedule, file, shape));
  return schedule;
}

}  // namespace plait
