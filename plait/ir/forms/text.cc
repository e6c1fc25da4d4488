#include "plait/ir/forms/text.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <utility>

#include "plait/ir/action_text.h"
#include "plait/ir/forms/text_header.h"
#include "plait/ir/text_placement.h"

namespace plait {
namespace {

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r'; }

class TextReader {
 public:
  TextReader(std::string_view text, const std::string& file) : text_(text), file_(file) {}

  Expected<Schedule> read() {
    schedule_.name = file_;
    for (std::size_t begin = 0; begin < text_.size();) {
      const std::size_t end = std::min(text_.find('\n', begin), text_.size());
      const std::size_t length = std::min(text_.substr(begin, end - begin).find('#'), end - begin);
      at_ = begin;
      end_ = begin + length;
      if (!at_end()) PLAIT_TRY_VOID(read_line());
      begin = end + 1;
    }
    at_ = end_ = text_.size();
    if (!version_seen_) return error(at_, "the file is empty, needed 'plait 1' as its first line");
    if (!header_done_) PLAIT_TRY_VOID(end_header());
    for (std::size_t rank = 0; rank < rank_seen_.size(); ++rank) {
      if (!rank_seen_[rank]) {
        return error(at_, fmt::format("rank {} has no line, needed one for each of {} ranks", rank,
                                      rank_seen_.size()));
      }
    }
    return std::move(schedule_);
  }

 private:
  tl::unexpected<Error> error(std::size_t offset, std::string message) const {
    return fail(ErrorCode::kInvalidInput, std::move(message), place_of_byte(file_, text_, offset));
  }

  std::string_view line() const { return text_.substr(0, end_); }

  /// Skips blanks; true if the line holds nothing more.
  bool at_end() {
    while (at_ < end_ && is_space(text_[at_])) ++at_;
    return at_ == end_;
  }

  /// The word at the cursor, which moves behind it; empty at the end of the line.
  std::string_view take_word() {
    if (at_end()) return {};
    const std::size_t begin = at_;
    while (at_ < end_ && !is_space(text_[at_]) && text_[at_] != ':') ++at_;
    return text_.substr(begin, at_ - begin);
  }

  Expected<void> need_end() {
    if (at_end()) return {};
    return error(at_, fmt::format("found {}, needed the end of the line", found_at(line(), at_)));
  }

  /// A number from `least` to `most`.
  Expected<int> take_number(std::string_view what, int least, int most) {
    const bool none = at_end();
    const std::size_t begin = at_;
    const std::string_view word = take_word();
    int number = 0;
    const auto parsed = std::from_chars(word.data(), word.data() + word.size(), number);
    if (none || parsed.ec == std::errc::invalid_argument ||
        parsed.ptr != word.data() + word.size()) {
      return error(begin,
                   fmt::format("found {}, needed a number, {}",
                               none ? "the end" : fmt::format("'{}'", word.substr(0, 40)), what));
    }
    if (parsed.ec != std::errc{} || number < least || number > most) {
      return error(begin, fmt::format("{} is {}, needs to be from {} to {}", what,
                                      word.substr(0, 40), least, most));
    }
    return number;
  }

  Expected<void> read_line() {
    const std::size_t begin = at_;
    const std::string_view word = take_word();
    if (!version_seen_) return read_version(begin, word);
    if (word == "rank") {
      if (!header_done_) PLAIT_TRY_VOID(end_header());
      return read_rank(begin);
    }
    if (header_done_) {
      return error(begin, fmt::format("found {}, needed a line such as 'rank 0: 0F0 . 0B0'",
                                      found_at(line(), begin)));
    }
    return read_header(begin, word);
  }

  Expected<void> read_version(std::size_t begin, std::string_view word) {
    if (word != "plait") {
      return error(begin, fmt::format("found '{}', needed 'plait {}' as the first line",
                                      word.substr(0, 40), kTextVersion));
    }
    at_end();
    const std::size_t number_begin = at_;
    PLAIT_TRY(const int version, take_number("the format's version", 0, 1 << 30));
    if (version != kTextVersion) {
      return error(number_begin, fmt::format("the format's version is {}, this program reads {}",
                                             version, kTextVersion));
    }
    version_seen_ = true;
    return need_end();
  }

  Expected<void> read_header(std::size_t begin, std::string_view word) {
    for (std::size_t i = 0; i < numbers_.size(); ++i) {
      if (word != kHeaderNumbers[i].name) continue;
      if (numbers_[i]) return twice(begin, word);
      PLAIT_TRY(numbers_[i], take_number(word, 1, kHeaderNumbers[i].limit));
      return need_end();
    }
    if (word == "placement") {
      if (!placement_.empty()) return twice(begin, word);
      if (at_end()) return error(at_, "found the end, needed a placement, as in v or 0 1 1 0");
      placement_ = text_.substr(at_, end_ - at_);
      while (is_space(placement_.back())) placement_.remove_suffix(1);
      return {};
    }
    if (word == "forward-only") {
      if (schedule_.forward_only) return twice(begin, word);
      schedule_.forward_only = true;
      return need_end();
    }
    return error(begin, fmt::format("'{}' is not a line of the header, needed ranks, stages, "
                                    "microbatches, placement or forward-only",
                                    word.substr(0, 40)));
  }

  tl::unexpected<Error> twice(std::size_t begin, std::string_view word) const {
    return error(begin, fmt::format("{} stands here a second time, needed once", word));
  }

  Expected<void> end_header() {
    header_done_ = true;
    std::string missing;
    for (std::size_t i = 0; i < numbers_.size(); ++i) {
      if (!numbers_[i]) missing += fmt::format(" {},", kHeaderNumbers[i].name);
    }
    if (placement_.empty()) missing += " placement,";
    if (!missing.empty()) {
      missing.pop_back();
      return error(at_, fmt::format("the header lacks{}, needed ranks, stages, microbatches and "
                                    "placement before the first rank",
                                    missing));
    }
    schedule_.microbatches = *numbers_[2];
    auto placement = parse_placement(placement_, *numbers_[0], *numbers_[1]);
    if (!placement) {
      return error(static_cast<std::size_t>(placement_.data() - text_.data()),
                   placement.error().message);
    }
    schedule_.placement = *std::move(placement);
    schedule_.ranks.resize(static_cast<std::size_t>(*numbers_[0]));
    rank_seen_.resize(schedule_.ranks.size());
    return {};
  }

  Expected<void> read_rank(std::size_t begin) {
    PLAIT_TRY(const int number, take_number("the rank", 0, schedule_.placement.ranks - 1));
    const auto rank = static_cast<std::size_t>(number);
    if (rank_seen_[rank]) return twice(begin, fmt::format("rank {}", rank));
    rank_seen_[rank] = true;
    if (at_end() || text_[at_] != ':')
      return error(at_, fmt::format("found {}, needed ':'", found_at(line(), at_)));
    ++at_;
    return read_list(schedule_.ranks[rank]);
  }

  Expected<void> read_list(std::vector<Action>& list) {
    const std::string_view row = text_.substr(at_, end_ - at_);
    std::size_t words = 0;
    for (std::size_t i = 0; i < row.size(); ++i)
      words += !is_space(row[i]) && (i == 0 || is_space(row[i - 1])) ? 1U : 0U;
    list.reserve(count_entries(row, words));
    while (!at_end()) {
      const std::size_t begin = at_;
      if (text_[at_] == '.') {
        list.push_back({});
        ++at_;
      } else {
        const auto taken = parse_action_prefix(line().substr(at_), list);
        if (!taken) return error(begin + taken.error().offset, taken.error().message);
        at_ += *taken;
      }
      if (at_ < end_ && !is_space(text_[at_])) {
        const ActionTextError junk = junk_after_action(line().substr(begin), at_ - begin);
        return error(at_, junk.message);
      }
    }
    return {};
  }

  std::string_view text_;
  const std::string& file_;
  std::size_t at_ = 0;   // the cursor, in the whole text
  std::size_t end_ = 0;  // of the line, without its comment
  bool version_seen_ = false;
  bool header_done_ = false;
  std::array<std::optional<int>, std::size(kHeaderNumbers)> numbers_;
  std::string_view placement_;
  std::vector<bool> rank_seen_;
  Schedule schedule_;
};

}  // namespace

Expected<Schedule> read_text(std::string_view text, const std::string& file) {
  return TextReader(text, file).read();
}

std::string print_text(const Schedule& schedule) {
  std::string text = fmt::format(
      "plait {}\nranks {}\nstages {}\nmicrobatches {}\nplacement {}\n{}", kTextVersion,
      schedule.placement.ranks, schedule.placement.stages(), schedule.microbatches,
      print_placement(schedule.placement), schedule.forward_only ? "forward-only\n" : "");
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    const std::vector<Action>& list = schedule.ranks[rank];
    text += fmt::format("rank {}:", rank);
    for (std::size_t i = 0; i < list.size(); i += 1U + list[i].members) {
      text += ' ';
      if (list[i].type == ActionType::kIdle) {
        text += '.';
      } else {
        append_action_at(text, list, i);
      }
    }
    text += '\n';
  }
  return text;
}

}  // namespace plait
