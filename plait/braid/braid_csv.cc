#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>

#include "plait/base/nearest_name.h"
#include "plait/braid/braid_text.h"
#include "plait/ir/action_text.h"

namespace plait {
namespace {

using Cells = std::vector<std::string_view>;  // of one row

constexpr std::string_view kFixedColumns[] = {"segment", "lane", "depends_on"};
constexpr std::string_view kPrevious = "previous layer's ";

std::string_view trim(std::string_view text) {
  const auto is_space = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

Cells split(std::string_view text, char separator) {
  Cells cells;
  while (true) {
    const std::size_t end = text.find(separator);
    cells.push_back(trim(text.substr(0, end)));
    if (end == std::string_view::npos) return cells;
    text.remove_prefix(end + 1);
  }
}

/// Milliseconds with at most six digits behind the point: whole nanoseconds.
std::optional<Nanoseconds> parse_milliseconds(std::string_view text) {
  constexpr std::size_t kDigits = 6;
  const std::size_t point = std::min(text.find('.'), text.size());
  std::string digits(text.substr(0, point));
  std::string fraction(text.substr(std::min(point + 1, text.size())));
  if (digits.empty() || fraction.size() > kDigits || (point < text.size() && fraction.empty()))
    return std::nullopt;
  fraction.resize(kDigits, '0');
  digits += fraction;
  for (const char digit : digits)
    if (digit < '0' || digit > '9') return std::nullopt;
  Nanoseconds value = 0;
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (parsed.ec != std::errc{} || value > kMostSegmentCost) return std::nullopt;
  return value;
}

class TableReader {
 public:
  TableReader(std::string_view text, const std::string& file) : text_(text), file_(file) {}

  Expected<LayerBraid> read() {
    for (std::size_t begin = 0; begin < text_.size();) {
      const std::size_t end = std::min(text_.find('\n', begin), text_.size());
      const std::string_view line = trim(text_.substr(begin, end - begin));
      begin = end + 1;
      if (line.empty() || line.front() == '#') continue;
      PLAIT_TRY_VOID(columns_ == 0 ? read_header(line) : read_row(split(line, ',')));
    }
    if (rows_.empty()) return error(text_.substr(text_.size()), "there is no segment, needed one");
    for (std::size_t s = 0; s < rows_.size(); ++s) PLAIT_TRY_VOID(read_needs(s));
    braid_.lanes = lanes_as_listed(braid_.segments);
    return std::move(braid_);
  }

 private:
  /// `at`: a piece of the text.
  tl::unexpected<Error> error(std::string_view at, std::string message) const {
    return fail(ErrorCode::kInvalidInput, std::move(message),
                place_of_byte(file_, text_, static_cast<std::size_t>(at.data() - text_.data())));
  }

  Expected<void> read_header(std::string_view line) {
    const Cells cells = split(line, ',');
    bool right = cells.size() > std::size(kFixedColumns) &&
                 cells.size() - std::size(kFixedColumns) <= std::size_t{kMostLayers};
    for (std::size_t i = 0; right && i < cells.size(); ++i) {
      right = i < std::size(kFixedColumns)
                  ? cells[i] == kFixedColumns[i]
                  : cells[i] == fmt::format("layer{}", i - std::size(kFixedColumns));
    }
    if (!right) {
      return error(line, fmt::format("found '{}', needed the columns segment,lane,depends_on,"
                                     "layer0,layer1,…",
                                     line.substr(0, 60)));
    }
    columns_ = cells.size();
    braid_.layers = static_cast<int>(columns_ - std::size(kFixedColumns));
    return {};
  }

  Expected<void> read_row(const Cells& cells) {
    if (cells.size() != columns_) {
      return error(cells[0],
                   fmt::format("the row has {} cells, needed {}", cells.size(), columns_));
    }
    const auto word = parse_word(cells[0]);
    if (!word) {
      return error(cells[0], fmt::format("found '{}', needed a segment's word such as attn.F, "
                                         "mlp.B or mlp.W",
                                         cells[0].substr(0, 40)));
    }
    if (rows_.size() == std::size_t{kMostLayerSegments})
      return error(cells[0], fmt::format("there are more than {} segments", kMostLayerSegments));
    if (!index_.try_emplace(cells[0], static_cast<int>(rows_.size())).second)
      return error(cells[0], fmt::format("there are two segments {}", cells[0]));
    LayerSegment segment{*word};
    if (cells[1] != "compute" && cells[1] != "comm") {
      return error(cells[1],
                   fmt::format("found '{}', needed compute or comm", cells[1].substr(0, 40)));
    }
    segment.lane = cells[1] == "compute" ? Lane::kCompute : Lane::kCommunication;
    for (std::size_t i = std::size(kFixedColumns); i < cells.size(); ++i) {
      const auto cost = parse_milliseconds(cells[i]);
      if (!cost) {
        return error(cells[i],
                     fmt::format("found '{}', needed milliseconds from 0 to {}, with at most six "
                                 "digits behind the point",
                                 cells[i].substr(0, 40), kMostSegmentCost / 1'000'000));
      }
      segment.costs.push_back(*cost);
    }
    braid_.segments.push_back(std::move(segment));
    rows_.push_back(cells[2]);
    return {};
  }

  Expected<void> read_needs(std::size_t segment) {
    if (rows_[segment].empty()) return {};
    for (const std::string_view cell : split(rows_[segment], ';')) {
      const bool previous = cell.starts_with(kPrevious);
      const std::string_view name = previous ? cell.substr(kPrevious.size()) : cell;
      const auto found = index_.find(name);
      if (found == index_.end()) {
        std::vector<std::string_view> names;
        for (const auto& [known, number] : index_) names.push_back(known);
        return error(cell, fmt::format("'{}' is no segment, did you mean '{}'?", name.substr(0, 40),
                                       nearest_name(name.substr(0, 40), names)));
      }
      LayerSegment& reader = braid_.segments[segment];
      (previous ? reader.needs_of_layer_before : reader.needs).push_back(found->second);
    }
    return {};
  }

  std::string_view text_;
  const std::string& file_;
  std::size_t columns_ = 0;
  Cells rows_;  // what each segment depends on
  std::map<std::string_view, int> index_;
  LayerBraid braid_;
};

}  // namespace

Expected<LayerBraid> read_braid_csv(std::string_view text, const std::string& file) {
  return TableReader(text, file).read();
}

}  // namespace plait
