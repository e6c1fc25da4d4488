#include "plait/ir/action_text.h"

#include <fmt/format.h>

#include <array>
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
};
constexpr int kMaxStage = 1 << 20;
constexpr int kMaxMicrobatch = 1 << 30;
constexpr std::size_t kMaxMembers = 65535;
constexpr int kMaxDepth = 8;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_type_letter(char c) { return (c >= 'A' && c <= 'Z') || c == '_'; }

/// "'x'" or "the end".
std::string found_at(std::string_view text, std::size_t offset) {
  return offset < text.size() ? fmt::format("'{}'", text.substr(offset, 1)) : "the end";
}

class ActionParser {
 public:
  ActionParser(std::string_view text, std::vector<Action>& list) : text_(text), list_(list) {}

  tl::expected<void, ActionTextError> parse() {
    const std::size_t size = list_.size();
    if (parse_one(0) && offset_ < text_.size()) {
      set_error(offset_,
                fmt::format("found {}, needed the end of the action", found_at(text_, offset_)));
    }
    if (error_.message.empty()) return {};
    list_.resize(size);
    return tl::unexpected<ActionTextError>(std::move(error_));
  }

 private:
  bool set_error(std::size_t offset, std::string message) {
    if (error_.message.empty()) error_ = {offset, std::move(message)};
    return false;
  }

  bool parse_one(int depth) {
    return offset_ < text_.size() && text_[offset_] == '(' ? parse_pair(depth) : parse_plain();
  }

  bool parse_number(std::string_view what, int limit, std::int32_t& number) {
    const std::size_t begin = offset_;
    std::int64_t value = 0;
    while (offset_ < text_.size() && is_digit(text_[offset_])) {
      value = value * 10 + (text_[offset_++] - '0');
      if (value >= limit) {
        return set_error(begin,
                         fmt::format("{} is {} or more, needs to be below {}", what, value, limit));
      }
    }
    if (offset_ == begin) {
      return set_error(begin, fmt::format("found {}, needed {}", found_at(text_, begin), what));
    }
    number = static_cast<std::int32_t>(value);
    return true;
  }

  bool parse_type(const TypeInfo*& info) {
    const std::size_t begin = offset_;
    while (offset_ < text_.size() && is_type_letter(text_[offset_])) ++offset_;
    const std::string_view name = text_.substr(begin, offset_ - begin);
    for (const TypeInfo& candidate : kTypes) {
      if (candidate.name == name) {
        info = &candidate;
        return true;
      }
    }
    return set_error(
        begin,
        name.empty()
            ? fmt::format("found {}, needed an action type such as F or SEND_F",
                          found_at(text_, begin))
            : fmt::format("'{}' is not an action type (F, I, W, B, SEND_F, RECV_F, SEND_B, RECV_B, "
                          "UNSHARD, RESHARD, REDUCE_GRAD)",
                          name));
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
    ++offset_;
    const std::size_t header = list_.size();
    list_.push_back({});
    while (true) {
      if (!parse_one(depth + 1)) return false;
      if (offset_ < text_.size() && text_[offset_] == ';') {
        ++offset_;
        continue;
      }
      break;
    }
    if (offset_ >= text_.size() || text_[offset_] != ')') {
      return set_error(offset_,
                       fmt::format("found {}, needed ';' or ')'", found_at(text_, offset_)));
    }
    ++offset_;
    const std::size_t type_offset = offset_;
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

  std::string_view text_;
  std::vector<Action>& list_;
  std::size_t offset_ = 0;
  ActionTextError error_;
};

}  // namespace

std::string_view type_name(ActionType type) {
  for (const TypeInfo& info : kTypes) {
    if (info.type == type) return info.name;
  }
  return "";
}

std::string print_action(const Action& action) {
  std::string text;
  if (action.stage >= 0) text += std::to_string(action.stage);
  text += type_name(action.type);
  if (action.microbatch >= 0) text += std::to_string(action.microbatch);
  return text;
}

std::string print_action_at(std::span<const Action> list, std::size_t position) {
  const Action& action = list[position];
  if (action.type != ActionType::kOverlapFB) return print_action(action);
  std::string text = "(";
  for (std::size_t i = position + 1; i <= position + action.members; i += 1 + list[i].members) {
    if (i > position + 1) text += ';';
    text += print_action_at(list, i);
  }
  return text + ")OVERLAP_F_B";
}

tl::expected<void, ActionTextError> parse_action(std::string_view text, std::vector<Action>& list) {
  return ActionParser(text, list).parse();
}

}  // namespace plait
