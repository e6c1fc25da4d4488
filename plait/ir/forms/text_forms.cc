#include "plait/ir/forms/text_forms.h"

#include <fmt/core.h>

#include "plait/ir/forms/csv_sheet.h"
#include "plait/ir/text_placement.h"

namespace plait {
namespace {

constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

/// The text from its first character that is neither blank nor in a comment.
std::string_view first_text(std::string_view text) {
  bool in_comment = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\n') in_comment = false;
    if (c == '#') in_comment = true;
    if (!in_comment && c != ' ' && c != '\t' && c != '\r' && c != '\n') return text.substr(i);
  }
  return {};
}

/// True if the first line holds the cells of a table: labels, or a header. A line of our own text,
/// even without `plait 1` before it, has no commas, and semicolons only in pairs.
bool has_cells(std::string_view text) {
  const std::string_view line = text.substr(0, text.find_first_of("#\n"));
  if (line.starts_with("plait")) return false;
  return line.find_first_of(",\t") != std::string_view::npos ||
         (line.find(';') != std::string_view::npos && line.find('(') == std::string_view::npos);
}

Expected<void> check_number(std::string_view what, int found, std::optional<int> needed,
                            const std::string& file) {
  if (!needed || found == *needed) return {};
  return fail(ErrorCode::kInvalidInput,
              fmt::format("the file says {} {}, --{} says {}", what, found, what, *needed),
              ErrorPlace{.file = file});
}

/// Compares the schedule that a file describes with what the caller knows of it.
Expected<void> check_shape(const Schedule& schedule, const std::string& file,
                           const CsvShape& shape) {
  const Placement& placement = schedule.placement;
  PLAIT_TRY_VOID(check_number("ranks", placement.ranks, shape.ranks, file));
  PLAIT_TRY_VOID(check_number("stages", placement.stages(), shape.stages, file));
  PLAIT_TRY_VOID(check_number("microbatches", schedule.microbatches, shape.microbatches, file));
  if (!shape.placement) return {};
  const auto needed = parse_placement(*shape.placement, placement.ranks, placement.stages());
  if (!needed)
    return fail(ErrorCode::kInvalidInput, needed.error().message,
                ErrorPlace{.argument = "placement"});
  if (needed->copies == placement.copies && needed->rank_of_stage == placement.rank_of_stage)
    return {};
  return fail(ErrorCode::kInvalidInput,
              fmt::format("the file says placement {}, --placement says {}",
                          print_placement(placement), *shape.placement),
              ErrorPlace{.file = file});
}

}  // namespace

Expected<Schedule> read_schedule(std::string_view text, const std::string& file,
                                 const CsvShape& shape, std::vector<std::string>* notes) {
  if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff"))
    return fail(ErrorCode::kInvalidInput, "found UTF-16, needed UTF-8",
                ErrorPlace{.file = file, .line = 1, .column = 1});
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  const std::string_view begin = first_text(text);
  const char first = begin.empty() ? '\0' : begin.front();
  const bool is_word = (first >= 'a' && first <= 'z') || (first >= 'A' && first <= 'Z');
  if (first != '{' && (!is_word || has_cells(begin))) {
    PLAIT_TRY(Schedule of_csv, read_csv(text, file, shape, notes));
    if (has_letters_of_torch_2_5(of_csv)) return letters_of_torch_2_5(file);
    return of_csv;
  }
  PLAIT_TRY(Schedule schedule, is_word ? read_text(text, file) : read_json(text, file));
  PLAIT_TRY_VOID(check_shape(schedule, file, shape));
  return schedule;
}

}  // namespace plait
