#include "plait/ir/forms/csv_sheet.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "plait/ir/action.h"
#include "plait/ir/action_text.h"

namespace plait {
namespace {

struct SheetRow {
  std::vector<std::string> cells;
  int line = 0;
};

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

std::string_view trim(std::string_view cell) {
  while (!cell.empty() && is_blank(cell.front())) cell.remove_prefix(1);
  while (!cell.empty() && is_blank(cell.back())) cell.remove_suffix(1);
  return cell;
}

/// The file's separator: the first comma, tab or semicolon outside of quotes and pairs.
char find_separator(std::string_view text) {
  std::int64_t commas = 0, tabs = 0, semicolons = 0;
  bool quoted = false;
  int depth = 0;
  for (const char c : text) {
    if (c == '"') quoted = !quoted;
    if (quoted) continue;
    depth += c == '(' ? 1 : c == ')' ? -1 : 0;
    commas += c == ',' ? 1 : 0;
    tabs += c == '\t' ? 1 : 0;
    semicolons += c == ';' && depth == 0 ? 1 : 0;
  }
  if (commas > 0) return ',';
  if (tabs > 0) return '\t';
  return semicolons > 0 ? ';' : ',';
}

/// The cells of a line without their quotes; "" inside of quotes is one quote. Empty if a quote is
/// not closed.
std::optional<std::vector<std::string>> split(std::string_view line, char separator) {
  std::vector<std::string> cells(1);
  bool quoted = false;
  int depth = 0;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (c == '"') {
      const bool doubled = quoted && i + 1 < line.size() && line[i + 1] == '"';
      if (doubled) cells.back() += line[i++];
      if (!doubled) quoted = !quoted;
      continue;
    }
    if (!quoted && separator == ';') depth += c == '(' ? 1 : c == ')' ? -1 : 0;
    if (c == separator && !quoted && depth == 0) {
      cells.emplace_back();
    } else {
      cells.back() += c;
    }
  }
  if (quoted) return {};
  for (std::string& cell : cells) cell = std::string(trim(cell));
  return cells;
}

bool is_action(std::string_view cell) {
  std::vector<Action> list;
  return parse_action(cell, list).has_value();
}

bool holds_action(const SheetRow& row) {
  return std::any_of(row.cells.begin(), row.cells.end(),
                     [](const std::string& cell) { return is_action(cell); });
}

bool is_blank_row(const SheetRow& row) {
  return std::all_of(row.cells.begin(), row.cells.end(),
                     [](const std::string& cell) { return cell.empty(); });
}

/// The text and the number of a label: "rank3" is "rank" and 3.
std::pair<std::string_view, std::optional<int>> split_label(std::string_view label) {
  const std::size_t last = label.find_last_not_of("0123456789");
  const std::size_t begin = last == std::string_view::npos ? 0 : last + 1;
  int number = 0;
  const auto parsed = std::from_chars(label.data() + begin, label.data() + label.size(), number);
  if (parsed.ec != std::errc()) return {label, {}};
  return {label.substr(0, begin), number};
}

class SheetReader {
 public:
  SheetReader(std::string_view text, const std::string& file) : text_(text), file_(file) {}

  Expected<CsvSheet> read() {
    PLAIT_TRY_VOID(read_rows());
    drop_blank_end();
    drop_header();
    PLAIT_TRY_VOID(drop_labels());
    for (const SheetRow& row : rows_) {
      CsvRow plain{{}, row.line};
      for (std::size_t i = 0; i < row.cells.size(); ++i)
        plain.text += (i > 0 ? "," : "") + row.cells[i];
      sheet_.rows.push_back(std::move(plain));
    }
    return std::move(sheet_);
  }

 private:
  void note(std::string what) {
    sheet_.plain = false;
    sheet_.notes.push_back(std::move(what));
  }

  Expected<void> read_rows() {
    const char separator = find_separator(text_);
    if (separator != ',')
      note(fmt::format("cells are separated by {}", separator == ';' ? "semicolons" : "tabs"));
    if (text_.find('"') != std::string_view::npos) sheet_.plain = false;
    int line = 0;
    for (std::size_t begin = 0; begin < text_.size();) {
      const std::size_t end = std::min(text_.find('\n', begin), text_.size());
      auto cells = split(text_.substr(begin, end - begin), separator);
      ++line;
      if (!cells) {
        return fail(ErrorCode::kInvalidInput, "a quote is not closed, needed another on its line",
                    ErrorPlace{.file = file_, .line = line});
      }
      rows_.push_back({*std::move(cells), line});
      begin = end + 1;
    }
    return {};
  }

  void drop_blank_end() {
    while (!rows_.empty() && is_blank_row(rows_.back())) {
      note(fmt::format("line {} is blank and left out", rows_.back().line));
      rows_.pop_back();
    }
  }

  void drop_header() {
    if (rows_.size() < 2 || is_blank_row(rows_[0]) || holds_action(rows_[0]) ||
        !holds_action(rows_[1]))
      return;
    note(fmt::format("line {} is taken for a header: {}", rows_[0].line, shown(rows_[0].cells)));
    rows_.erase(rows_.begin());
  }

  /// The first column, if no row has an action there and each has one behind it.
  Expected<void> drop_labels() {
    std::vector<std::string> labels;
    for (const SheetRow& row : rows_) {
      const std::string& label = row.cells.front();
      if (label.empty() || is_action(label) || !holds_action(row)) return {};
      labels.push_back(label);
    }
    if (labels.empty()) return {};
    const auto first = split_label(labels.front());
    for (std::size_t i = 0; i < labels.size(); ++i) {
      const auto [prefix, number] = split_label(labels[i]);
      if (number && first.second && *first.second <= 1 && prefix == first.first &&
          *number == *first.second + static_cast<int>(i))
        continue;
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("the rows' labels are {}, needed the ranks in ascending order, as in "
                              "rank0, rank1",
                              shown(labels)),
                  ErrorPlace{.file = file_, .line = rows_[i].line});
    }
    note(fmt::format("the first column is taken for labels: {}", shown(labels)));
    for (SheetRow& row : rows_) row.cells.erase(row.cells.begin());
    return {};
  }

  static std::string shown(const std::vector<std::string>& cells) {
    constexpr std::size_t kMost = 4, kLongest = 20;
    std::string text;
    for (std::size_t i = 0; i < std::min(cells.size(), kMost); ++i)
      text += fmt::format("{}'{}'", i > 0 ? ", " : "", cells[i].substr(0, kLongest));
    return cells.size() > kMost ? text + ", …" : text;
  }

  std::string_view text_;
  const std::string& file_;
  std::vector<SheetRow> rows_;
  CsvSheet sheet_;
};

}  // namespace

Expected<CsvSheet> read_csv_sheet(std::string_view text, const std::string& file) {
  return SheetReader(text, file).read();
}

bool has_letters_of_torch_2_5(const Schedule& schedule) {
  using Cell = std::pair<std::int32_t, std::int32_t>;
  std::vector<Cell> weights, backwards;
  const auto visit_all = [&](auto visit) {
    for (const std::vector<Action>& list : schedule.ranks) {
      for (const Action& action : list) visit(action);
    }
  };
  bool any_input = false, any_weight = false;
  visit_all([&](const Action& action) {
    any_input = any_input || action.type == ActionType::kBackwardInput;
    any_weight = any_weight || action.type == ActionType::kBackwardWeight;
  });
  if (any_input || !any_weight) return false;
  visit_all([&](const Action& action) {
    if (action.type == ActionType::kBackwardWeight)
      weights.emplace_back(action.stage, action.microbatch);
    if (action.type == ActionType::kBackward)
      backwards.emplace_back(action.stage, action.microbatch);
  });
  std::sort(weights.begin(), weights.end());
  std::sort(backwards.begin(), backwards.end());
  return std::includes(backwards.begin(), backwards.end(), weights.begin(), weights.end());
}

tl::unexpected<Error> letters_of_torch_2_5(const std::string& file) {
  return fail(
      ErrorCode::kInvalidInput,
      "the letters are those of torch 2.5, where B is the backward for inputs (now I) and BW "
      "the whole one (now B); sed -E 's/([0-9])B([0-9])/\\1I\\2/g; s/BW/B/g' translates them",
      ErrorPlace{.file = file});
}

}  // namespace plait
