#include "plait/ir/forms/csv.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "plait/ir/action_text.h"
#include "plait/ir/forms/csv_infer.h"
#include "plait/ir/forms/csv_sheet.h"

namespace plait {
namespace {

std::size_t skip_blanks(std::string_view row, std::size_t at) {
  while (at < row.size() && (row[at] == ' ' || row[at] == '\t')) ++at;
  return at;
}

/// The error in the cell that begins at `begin` of a row.
tl::unexpected<Error> cell_error(std::string_view row, std::size_t begin,
                                 const ActionTextError& error, ErrorPlace place) {
  const std::string_view cell = row.substr(begin, row.find(',', begin) - begin);
  const std::size_t last = cell.find_last_not_of(" \t");
  place.column = static_cast<int>(begin + error.offset + 1);
  return fail(ErrorCode::kInvalidInput,
              fmt::format("in '{}': {}", cell.substr(0, std::min<std::size_t>(last + 1, 60)),
                          error.message),
              std::move(place));
}

/// `place`: file, line and rank.
Expected<std::vector<Action>> read_row(std::string_view row, ErrorPlace place) {
  if (row.empty()) {
    return fail(ErrorCode::kInvalidInput,
                "the row is empty, needed a rank's actions, as in 0F0,0F1,0B0", place);
  }
  std::vector<Action> list;
  list.reserve(
      count_entries(row, static_cast<std::size_t>(std::count(row.begin(), row.end(), ',')) + 1));
  std::size_t at = 0;
  while (true) {
    at = skip_blanks(row, at);
    if (at == row.size() || row[at] == ',') {
      list.push_back({});
    } else {
      const std::size_t begin = at;
      place.position = static_cast<int>(list.size());
      const auto taken = parse_action_prefix(row.substr(at), list);
      if (!taken) return cell_error(row, begin, taken.error(), place);
      at = skip_blanks(row, at + *taken);
      if (at < row.size() && row[at] != ',')
        return cell_error(row, begin, junk_after_action(row.substr(begin), at - begin), place);
    }
    if (at == row.size()) return list;
    ++at;
  }
}

/// Of the row that is read next.
ErrorPlace place_of_row(const std::string& file, int line, const Schedule& schedule) {
  return {.file = file, .line = line, .rank = static_cast<int>(schedule.ranks.size())};
}

/// Reads the file as torch writes it: each line is a rank's row.
Expected<void> read_plain(std::string_view text, const std::string& file, Schedule& schedule) {
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view row = text.substr(begin, end - begin);
    if (!row.empty() && row.back() == '\r') row.remove_suffix(1);
    PLAIT_TRY(
        std::vector<Action> list,
        read_row(row, place_of_row(file, static_cast<int>(schedule.ranks.size()) + 1, schedule)));
    schedule.ranks.push_back(std::move(list));
    begin = end + 1;
  }
  if (schedule.ranks.empty())
    return fail(ErrorCode::kInvalidInput, "the file is empty, needed one row per rank",
                ErrorPlace{.file = file});
  return {};
}

/// Reads a file that read_plain() refused with `plain_error`, without what spreadsheets add.
Expected<void> read_sheet(std::string_view text, const std::string& file, Error plain_error,
                          Schedule& schedule, std::vector<std::string>* notes) {
  PLAIT_TRY(CsvSheet sheet, read_csv_sheet(text, file));
  if (sheet.plain) return tl::unexpected<Error>(std::move(plain_error));
  schedule.ranks.clear();
  for (const CsvRow& row : sheet.rows) {
    auto list = read_row(row.text, place_of_row(file, row.line, schedule));
    if (!list) {
      // The row has lost its quotes and labels: its columns are not those of the file.
      list.error().place.column = 0;
      return fail(list.error().code, list.error().message, list.error().place);
    }
    schedule.ranks.push_back(*std::move(list));
  }
  if (schedule.ranks.empty())
    return fail(ErrorCode::kInvalidInput, "the file is empty, needed one row per rank",
                ErrorPlace{.file = file});
  if (notes != nullptr) *notes = std::move(sheet.notes);
  return {};
}

/// True if a cell such as 0BW3 is there, torch 2.5's name of a whole backward.
bool holds_whole_backward_of_torch_2_5(std::string_view text) {
  for (std::size_t at = text.find("BW"); at != std::string_view::npos;
       at = text.find("BW", at + 2)) {
    const auto is_digit = [&](std::size_t i) {
      return i < text.size() && text[i] >= '0' && text[i] <= '9';
    };
    if (at > 0 && is_digit(at - 1) && is_digit(at + 2)) return true;
  }
  return false;
}

}  // namespace

Expected<Schedule> read_csv(std::string_view text, const std::string& file, const CsvShape& shape,
                            std::vector<std::string>* notes) {
  Schedule schedule;
  schedule.name = file;
  Expected<void> read = read_plain(text, file, schedule);
  if (!read) {
    if (holds_whole_backward_of_torch_2_5(text)) return letters_of_torch_2_5(file);
    read = read_sheet(text, file, std::move(read).error(), schedule, notes);
  }
  PLAIT_TRY_VOID(std::move(read));
  PLAIT_TRY_VOID(infer_shape(schedule, file, shape));
  return schedule;
}

std::string print_csv(const Schedule& schedule) {
  std::string text;
  for (const std::vector<Action>& list : schedule.ranks) {
    for (std::size_t i = 0; i < list.size(); i += 1U + list[i].members) {
      if (i > 0) text += ',';
      append_action_at(text, list, i);
    }
    if (list.size() == 1 && list.front().type == ActionType::kIdle) text += ' ';  // no empty row
    text += '\n';
  }
  return text;
}

}  // namespace plait
