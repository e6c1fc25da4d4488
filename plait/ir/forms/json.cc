#include "plait/ir/forms/json.h"

#include <fmt/core.h>

#include <array>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "plait/base/json_node.h"
#include "plait/base/key_reader.h"
#include "plait/ir/action_text.h"
#include "plait/ir/forms/text_header.h"
#include "plait/ir/text_placement.h"

namespace plait {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxMembers = 65535;
constexpr int kMaxDepth = 8;
/// The number of entries that a value becomes in a rank's list: a pair is its header and its
/// members. Pairs that nest too deep are refused later.
std::size_t count_entries_of(const Json& value, int depth = 0) {
  std::size_t entries = 1;
  if (!value.is_array() || depth > kMaxDepth) return entries;
  for (const Json& member : value) entries += count_entries_of(member, depth + 1);
  return entries;
}

class JsonReader {
 public:
  explicit JsonReader(const std::string& file) : file_(file) {}

  /// The header's keys are read by base/key_reader.h. The lists are not: they may hold 100 million
  /// actions, and an action knows its path only once it is wrong.
  Expected<Schedule> read(const Json& document) {
    if (!document.is_object())
      return error("", fmt::format("found {}, needed an object", shown_json(document)));
    FirstError wrong;
    auto keys = KeyReader<JsonNode<Json>>::by_path(JsonNode(document), file_, "", wrong);
    int version = 0;
    keys.require("plait", version);
    if (wrong.ok() && version != kTextVersion) {
      return error("/plait", fmt::format("the format's version is {}, this program reads {}",
                                         version, kTextVersion));
    }
    Schedule schedule;
    schedule.name = file_;
    std::array<int, std::size(kHeaderNumbers)> numbers{};
    for (std::size_t i = 0; i < numbers.size(); ++i)
      keys.require(kHeaderNumbers[i].name, numbers[i], 1, kHeaderNumbers[i].limit);
    keys.read("forward_only", schedule.forward_only);
    for (const char* key : {"placement", "actions"}) {
      if (const auto node = keys.find(key); !node.exists())
        keys.wrong(key, node, "needed an array");
    }
    keys.refuse_others();
    PLAIT_TRY_VOID(wrong.result());
    schedule.microbatches = numbers[2];
    PLAIT_TRY(schedule.placement, read_placement(document["placement"], numbers[0], numbers[1]));
    PLAIT_TRY_VOID(read_lists(document["actions"], schedule));
    return schedule;
  }

 private:
  tl::unexpected<Error> error(std::string_view pointer, std::string message) const {
    return fail(ErrorCode::kInvalidInput, std::move(message),
                ErrorPlace{.file = file_, .key = std::string(pointer)});
  }

  /// Writes the placement as our text form has it and reads that, so that both forms accept the
  /// same.
  Expected<Placement> read_placement(const Json& value, int ranks, int stages) const {
    std::string text;
    bool readable = value.is_string() || (value.is_array() && !value.empty());
    if (value.is_string()) {
      text = value.get_ref<const std::string&>();
      readable = text.find_first_of("0123456789/") == std::string::npos;
    } else if (readable && value.front().is_array()) {
      readable = value.size() <= 2;
      for (const Json& copy : value) {
        if (!text.empty()) text += " /";
        readable = readable && append_table(copy, text);
      }
    } else if (readable) {
      readable = append_table(value, text);
    }
    if (!readable) {
      return error("/placement",
                   fmt::format("found {}, needed a name, an array with the rank of every stage, or "
                               "two such arrays",
                               shown_json(value)));
    }
    auto placement = parse_placement(text, ranks, stages);
    if (!placement) return error("/placement", placement.error().message);
    return placement;
  }

  static bool append_table(const Json& table, std::string& text) {
    if (!table.is_array()) return false;
    for (const Json& rank : table) {
      if (!rank.is_number_integer()) return false;
      text += ' ' + rank.dump();
    }
    return true;
  }

  Expected<void> read_lists(const Json& actions, Schedule& schedule) {
    const auto ranks = static_cast<std::size_t>(schedule.placement.ranks);
    if (!actions.is_array() || actions.size() != ranks) {
      return error("/actions",
                   fmt::format("found {}, needed an array with one array for each of {} ranks",
                               actions.is_array() ? fmt::format("{} entries", actions.size())
                                                  : shown_json(actions),
                               ranks));
    }
    schedule.ranks.resize(ranks);
    for (std::size_t rank = 0; rank < ranks; ++rank) {
      const Json& row = actions[rank];
      const std::string pointer = fmt::format("/actions/{}", rank);
      if (!row.is_array())
        return error(pointer, fmt::format("found {}, needed an array of actions", shown_json(row)));
      schedule.ranks[rank].reserve(count_entries_of(row) - 1);
      for (std::size_t i = 0; i < row.size(); ++i) {
        pointer_.clear();
        if (row[i].is_null()) {
          schedule.ranks[rank].push_back({});
        } else if (!read_action(row[i], schedule.ranks[rank], 0)) {
          return error(fmt::format("{}/{}{}", pointer, i, pointer_), message_);
        }
      }
    }
    return {};
  }

  /// On an error sets message_, and pointer_ to the path from the list's entry to the wrong value.
  bool read_action(const Json& value, std::vector<Action>& list, int depth) {
    if (value.is_array()) return read_pair(value, list, depth);
    if (!value.is_string()) {
      message_ = fmt::format("found {}, needed an action as a string, or an array as a pair{}",
                             shown_json(value), depth == 0 ? ", or null as an idle slot" : "");
      return false;
    }
    const std::string& text = value.get_ref<const std::string&>();
    if (!text.empty() && text.front() == '(') {
      message_ =
          fmt::format("found {}, needed a pair as an array of its members", shown_json(value));
      return false;
    }
    if (auto parsed = parse_action(text, list); !parsed) {
      message_ = fmt::format("in {} at {}: {}", shown_json(value), parsed.error().offset + 1,
                             parsed.error().message);
      return false;
    }
    return true;
  }

  bool read_pair(const Json& value, std::vector<Action>& list, int depth) {
    if (value.empty() || depth == kMaxDepth) {
      message_ = value.empty() ? "the pair is empty, needed its members"
                               : fmt::format("pairs nest more than {} deep", kMaxDepth);
      return false;
    }
    const std::size_t header = list.size();
    list.push_back({-1, -1, ActionType::kOverlapFB, 0});
    for (std::size_t i = 0; i < value.size(); ++i) {
      if (read_action(value[i], list, depth + 1)) continue;
      pointer_ = fmt::format("/{}{}", i, pointer_);
      return false;
    }
    const std::size_t members = list.size() - header - 1;
    if (members > kMaxMembers) {
      message_ = fmt::format("a pair has more than {} members", kMaxMembers);
      return false;
    }
    list[header].members = static_cast<std::uint16_t>(members);
    return true;
  }

  const std::string& file_;
  std::string pointer_;
  std::string message_;
};

void append_json(std::string& text, std::span<const Action> list, std::size_t position) {
  const Action& action = list[position];
  if (action.type == ActionType::kIdle) {
    text += "null";
  } else if (action.type != ActionType::kOverlapFB) {
    text += '"';
    append_action_at(text, list, position);
    text += '"';
  } else {
    for (std::size_t i = position + 1; i <= position + action.members; i += 1U + list[i].members) {
      text += i == position + 1 ? "[" : ", ";
      append_json(text, list, i);
    }
    text += ']';
  }
}

std::string placement_as_json(const Placement& placement) {
  const std::string text = print_placement(placement);
  if (text == placement.name) return fmt::format("\"{}\"", text);
  std::string json = placement.copies > 1 ? "[[" : "[";
  for (int copy = 0; copy < placement.copies; ++copy) {
    if (copy > 0) json += "], [";
    for (int stage = 0; stage < placement.stages(); ++stage)
      json += fmt::format("{}{}", stage > 0 ? ", " : "", placement.rank_of(stage, copy));
  }
  return json + (placement.copies > 1 ? "]]" : "]");
}

}  // namespace

Expected<Schedule> read_json(std::string_view text, const std::string& file) {
  // The library keeps the last of two equal keys; a file with two is a mistake.
  std::set<std::string> keys;
  std::string twice;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    if (depth != 1 || event != Json::parse_event_t::key) return true;
    const auto& key = value.get_ref<const std::string&>();
    if (!keys.insert(key).second) twice = key;
    return true;
  };
  try {
    const Json document = Json::parse(text.begin(), text.end(), watch);
    if (!twice.empty()) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("the key {} stands here twice, needed once", shown_json(Json(twice))),
                  ErrorPlace{.file = file});
    }
    return JsonReader(file).read(document);
  } catch (const Json::parse_error& error) {
    const std::size_t offset = error.byte > 0 ? error.byte - 1 : 0;
    return fail(ErrorCode::kInvalidInput, fmt::format("not JSON: {}", reason_of(error)),
                place_of_byte(file, text, offset));
  } catch (const Json::exception& error) {
    return fail(ErrorCode::kInvalidInput, fmt::format("not JSON: {}", reason_of(error)),
                ErrorPlace{.file = file});
  }
}

std::string print_json(const Schedule& schedule) {
  std::string text = fmt::format(
      "{{\"plait\": {}, \"ranks\": {}, \"stages\": {}, \"microbatches\": {}, \"placement\": {}, "
      "\"forward_only\": {},\n \"actions\": [",
      kTextVersion, schedule.placement.ranks, schedule.placement.stages(), schedule.microbatches,
      placement_as_json(schedule.placement), schedule.forward_only);
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    const std::vector<Action>& list = schedule.ranks[rank];
    text += rank > 0 ? ",\n  [" : "\n  [";
    for (std::size_t i = 0; i < list.size(); i += 1U + list[i].members) {
      if (i > 0) text += ", ";
      append_json(text, list, i);
    }
    text += ']';
  }
  return text + "\n]}\n";
}

}  // namespace plait
