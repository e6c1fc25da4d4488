#include "plait/ir/action_text.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

namespace plait {
namespace {

struct TypeInfo {
  ActionType type;
  std::string_view name;
  bool has_microbatch;
};

constexpr std::array kTypes = {
    TypeInfo{ActionType::kForward, "F", true},
    TypeInfo{ActionType::kBackwardInput, "I", true},
    TypeInfo{ActionType::kBackwardWeight, "W", true},
    TypeInfo{ActionType::kBackward, "B", true},
    TypeInfo{ActionType::kOverlapFB, "OVERLAP_F_B", false},
    TypeInfo{ActionType::kSendF, "SEND_F", true},
    TypeInfo{ActionType::kRecvF, "RECV_F", true},
    TypeInfo{ActionType::kSendB, "SEND_B", true},
    TypeInfo{ActionType::kRecvB, "RECV_B", true},
    TypeInfo{ActionType::kUnshard, "UNSHARD", false},
    TypeInfo{ActionType::kReshard, "RESHARD", false},
    TypeInfo{ActionType::kReduceGrad, "REDUCE_GRAD", false},
    TypeInfo{ActionType::kWaitSendF, "WAIT_SEND_F", true},
    TypeInfo{ActionType::kWaitSendB, "WAIT_SEND_B", true},
    TypeInfo{ActionType::kWaitReduceGrad, "WAIT_REDUCE_GRAD", false},
};
static_assert(kTypes.back().type == ActionType::kWaitReduceGrad &&
              kTypes.size() + 1 == kActionTypes);  // in its order
constexpr int kMaxStage = 1 << 20;
constexpr int kMaxMicrobatch = 1 << 30;
constexpr std::size_t kMaxMembers = 65535;
constexpr int kMaxDepth = 8;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_type_letter(char c) { return (c >= 'A' && c <= 'Z') || c == '_'; }

const TypeInfo* find_type(std::string_view name) {
  for (const TypeInfo& info : kTypes) {
    if (info.name == name) return &info;
  }
  return nullptr;
}

/// Reads one action from the start of a text; its error is made only when there is one.
class ActionParser {
 public:
  ActionParser(std::string_view text, std::vector<Action>& list) : text_(text), list_(list) {}

  /// False after an error; then nothing is left in the list.
  bool parse() {
    const std::size_t size = list_.size();
    if (parse_one(0)) return true;
    list_.resize(size);
    return false;
  }

  std::size_t offset() const { return offset_; }
  ActionTextError take_error() { return std::move(error_); }

 private:
  bool set_error(std::size_t offset, std::string message) {
    error_ = {offset, std::move(message)};
    return false;
  }

  bool next_is(char c) const { return offset_ < text_.size() && text_[offset_] == c; }

  bool parse_one(int depth) { return next_is('(') ? parse_pair(depth) : parse_plain(); }

  bool parse_number(std::string_view what, int limit, std::int32_t& number) {
    const std::size_t begin = offset_;
    std::int64_t value = 0;
    for (; offset_ < text_.size() && is_digit(text_[offset_]); ++offset_)
      value = std::min<std::int64_t>(value * 10 + (text_[offset_] - '0'), limit);
    if (offset_ == begin)
      return set_error(begin, fmt::format("found {}, needed {}", found_at(text_, begin), what));
    if (value == limit) {
      return set_error(begin,
                       fmt::format("{} is {}, needs to be below {}", what,
                                   text_.substr(begin, std::min(offset_ - begin, kShown)), limit));
    }
    number = static_cast<std::int32_t>(value);
    return true;
  }

  bool parse_type(const TypeInfo*& info) {
    const std::size_t begin = offset_;
    while (offset_ < text_.size() && is_type_letter(text_[offset_])) ++offset_;
    const std::string_view name = text_.substr(begin, offset_ - begin);
    info = find_type(name);
    return info != nullptr || type_error(begin, name);
  }

  bool type_error(std::size_t begin, std::string_view name) {
    if (!name.empty()) {
      return set_error(begin, fmt::format("'{}' is not an action type (F, I, W, B, SEND_F, RECV_F, "
                                          "SEND_B, RECV_B, UNSHARD, RESHARD, REDUCE_GRAD, "
                                          "WAIT_SEND_F, WAIT_SEND_B, WAIT_REDUCE_GRAD)",
                                          name.substr(0, kShown)));
    }
    const bool lower = begin < text_.size() && text_[begin] >= 'a' && text_[begin] <= 'z';
    return set_error(begin, fmt::format("found {}, needed an action type such as F or SEND_F{}",
                                        found_at(text_, begin), lower ? ", in capitals" : ""));
  }

  bool parse_plain() {
    Action action;
    const TypeInfo* info = nullptr;
    if (!parse_number("a stage", kMaxStage, action.stage)) return false;
    const std::size_t type_offset = offset_;
    if (!parse_type(info)) return false;
    if (info->type == ActionType::kOverlapFB) {
      return set_error(type_offset,
                       "OVERLAP_F_B has members, as in (0F7;7B3)OVERLAP_F_B, and no stage");
    }
    action.type = info->type;
    if (info->has_microbatch && !parse_number("a micro-batch", kMaxMicrobatch, action.microbatch))
      return false;
    list_.push_back(action);
    return true;
  }

  bool parse_pair(int depth) {
    if (depth == kMaxDepth)
      return set_error(offset_, fmt::format("pairs nest more than {} deep", kMaxDepth));
    const std::size_t header = list_.size();
    list_.push_back({});
    do {
      ++offset_;  // '(' or ';'
      if (!parse_one(depth + 1)) return false;
    } while (next_is(';'));
    if (!next_is(')')) {
      return set_error(offset_,
                       fmt::format("found {}, needed ';' or ')'", found_at(text_, offset_)));
    }
    const std::size_t type_offset = ++offset_;
    if (offset_ >= text_.size() || !is_type_letter(text_[offset_])) {
      return set_error(offset_, fmt::format("found {}, needed OVERLAP_F_B behind the pair's ')'",
                                            found_at(text_, offset_)));
    }
    const TypeInfo* info = nullptr;
    if (!parse_type(info)) return false;
    if (info->type != ActionType::kOverlapFB) {
      return set_error(type_offset,
                       fmt::format("a pair ends in OVERLAP_F_B, found {}", info->name));
    }
    const std::size_t members = list_.size() - header - 1;
    if (members > kMaxMembers) return set_error(type_offset, "a pair has more than 65535 members");
    list_[header].type = ActionType::kOverlapFB;
    list_[header].members = static_cast<std::uint16_t>(members);
    return true;
  }

  static constexpr std::size_t kShown = 40;  // of a text that is too long to be repeated

  std::string_view text_;
  std::vector<Action>& list_;
  std::size_t offset_ = 0;
  ActionTextError error_;
};

/// Writes one action without its members at `out` and returns the end: 39 characters at most.
char* write_action(char* out, const Action& action) {
  constexpr std::ptrdiff_t kDigits = 11;
  if (action.stage >= 0) out = std::to_chars(out, out + kDigits, action.stage).ptr;
  const std::string_view name = type_name(action.type);
  out = std::copy(name.begin(), name.end(), out);
  if (action.microbatch >= 0) out = std::to_chars(out, out + kDigits, action.microbatch).ptr;
  return out;
}

constexpr std::size_t kLongestAction = 39;

}  // namespace

std::string found_at(std::string_view text, std::size_t offset) {
  if (offset >= text.size()) return "the end";
  const char c = text[offset];
  if (c >= ' ' && c <= '~') return fmt::format("'{}'", c);
  return fmt::format("'\\x{:02x}'", static_cast<unsigned char>(c));
}

ErrorPlace place_of_byte(const std::string& file, std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, offset);
  const std::size_t line_end = before.rfind('\n');
  const std::size_t column =
      line_end == std::string_view::npos ? before.size() : before.size() - line_end - 1;
  return {.file = file,
          .line = static_cast<int>(std::count(before.begin(), before.end(), '\n') + 1),
          .column = static_cast<int>(column + 1)};
}

std::string_view type_name(ActionType type) {
  const auto index = static_cast<std::size_t>(type);
  return index == 0 || index > kTypes.size() ? std::string_view{} : kTypes[index - 1].name;
}

std::string print_action(const Action& action) {
  std::array<char, kLongestAction> buffer;
  return {buffer.data(), write_action(buffer.data(), action)};
}

void append_action_at(std::string& text, std::span<const Action> list, std::size_t position) {
  const Action& action = list[position];
  if (action.type != ActionType::kOverlapFB) {
    std::array<char, kLongestAction> buffer;
    const char* const end = write_action(buffer.data(), action);
    text.append(buffer.data(), static_cast<std::size_t>(end - buffer.data()));
    return;
  }
  text += '(';
  for (std::size_t i = position + 1; i <= position + action.members; i += 1U + list[i].members) {
    if (i > position + 1) text += ';';
    append_action_at(text, list, i);
  }
  text += ")OVERLAP_F_B";
}

std::string print_action_at(std::span<const Action> list, std::size_t position) {
  std::string text;
  append_action_at(text, list, position);
  return text;
}

tl::expected<std::size_t, ActionTextError> parse_action_prefix(std::string_view text,
                                                               std::vector<Action>& list) {
  ActionParser parser(text, list);
  if (!parser.parse()) return tl::unexpected<ActionTextError>(parser.take_error());
  return parser.offset();
}

tl::expected<void, ActionTextError> parse_action(std::string_view text, std::vector<Action>& list) {
  const std::size_t size = list.size();
  const auto end = parse_action_prefix(text, list);
  if (!end) return tl::unexpected<ActionTextError>(end.error());
  if (*end == text.size()) return {};
  list.resize(size);
  return tl::unexpected<ActionTextError>(junk_after_action(text, *end));
}

ActionTextError junk_after_action(std::string_view text, std::size_t offset) {
  std::string message =
      fmt::format("found {}, needed the end of the action", found_at(text, offset));
  if (offset < text.size() && text[offset] == ';')
    message += "; ';' stands between the members of a pair only, as in (0F7;7B3)OVERLAP_F_B";
  return {offset, std::move(message)};
}

std::size_t count_entries(std::string_view row, std::size_t cells) {
  return cells + static_cast<std::size_t>(std::count(row.begin(), row.end(), '(') +
                                          std::count(row.begin(), row.end(), ';'));
}

}  // namespace plait
