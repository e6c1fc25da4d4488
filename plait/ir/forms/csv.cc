#include "plait/ir/forms/csv.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "plait/ir/action_text.h"
#include "plait/ir/forms/csv_infer.h"

namespace plait {
namespace {

std::size_t skip_blanks(std::string_view row, std::size_t at) {
  while (at < row.size() && (row[at] == ' ' || row[at] == '\t')) ++at;
  return at;
}

/// The error in the cell that begins at `begin` of a row.
tl::unexpected<Error> cell_error(std::string_view row, std::size_t begin,
                                 const ActionTextError& error, const std::string& place) {
  const std::string_view cell = row.substr(begin, row.find(',', begin) - begin);
  const std::size_t last = cell.find_last_not_of(" \t");
  return fail(ErrorCode::kInvalidInput,
              fmt::format("in '{}': {}", cell.substr(0, std::min<std::size_t>(last + 1, 60)),
                          error.message),
              fmt::format("{}:{}", place, begin + error.offset + 1));
}

/// `place` is file:line.
Expected<std::vector<Action>> read_row(std::string_view row, const std::string& place) {
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

}  // namespace

Expected<Schedule> read_csv(std::string_view text, const std::string& file, const CsvShape& shape) {
  Schedule schedule;
  schedule.name = file;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view row = text.substr(begin, end - begin);
    if (!row.empty() && row.back() == '\r') row.remove_suffix(1);
    PLAIT_TRY(std::vector<Action> list,
              read_row(row, fmt::format("{}:{}", file, schedule.ranks.size() + 1)));
    schedule.ranks.push_back(std::move(list));
    begin = end + 1;
  }
  if (schedule.ranks.empty())
    return fail(ErrorCode::kInvalidInput, "the file is empty, needed one row per rank", file);
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
