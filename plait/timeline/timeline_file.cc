#include "plait/timeline/timeline_file.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "plait/base/json_node.h"
#include "plait/base/key_reader.h"
#include "plait/ir/action_text.h"

namespace plait {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kNeeded =
    "a timeline of plait (plait simulate --timeline, plait train --record)";

using Keys = KeyReader<JsonNode<Json>>;

/// The number that a pair's label, "3, braided" or "3, in sequence", begins with.
std::optional<int> read_pair(std::string_view label, bool& braided) {
  int pair = -1;
  const auto [end, problem] = std::from_chars(label.data(), label.data() + label.size(), pair);
  const std::string_view kind(end, static_cast<std::size_t>(label.data() + label.size() - end));
  braided = kind == ", braided";
  if (problem != std::errc{} || pair < 0 || (!braided && kind != ", in sequence")) return {};
  return pair;
}

/// Takes the events of a trace one by one, in the order of the file.
class EventReader {
 public:
  explicit EventReader(const std::string& name) : name_(name) {}

  /// Once an event is wrong, those after it are left alone.
  void add(const Json& event) {
    const std::size_t entry = count_++;
    if (!error_.ok()) return;
    Keys keys = reader_of(JsonNode(event), entry);
    if (!event.is_object()) {
      return keys.fail(
          fmt::format("found {}, needed an event, which is an object", keys.table().shown()),
          keys.table());
    }
    const std::string phase = text_of(keys.find("ph"));
    if (phase == "X") {
      add_complete(keys, entry);
    } else if (phase == "M" && text_of(keys.find("name")) == "process_name") {
      int rank = 0;
      if (keys.require("pid", rank, 0)) named_.emplace_back(rank, entry);
    }
  }

  /// Counts the ranks and holds every event's against them.
  Expected<Timeline> finish() {
    if (error_.ok()) check_ranks();
    if (timeline_.events.empty()) {
      wrong("/traceEvents",
            fmt::format("found {} entries and no event (\"ph\": \"X\") among them, needed one",
                        count_));
    }
    PLAIT_TRY_VOID(error_.result());
    return std::move(timeline_);
  }

 private:
  Keys reader_of(JsonNode<Json> event, std::size_t entry) {
    return Keys::by_path(event, name_, fmt::format("/traceEvents/{}", entry), error_);
  }
  void wrong(const std::string& path, std::string message) {
    error_.set(
        fail(ErrorCode::kInvalidInput, std::move(message), ErrorPlace{.file = name_, .key = path})
            .value());
  }
  static std::string text_of(const JsonNode<Json>& node) { return node.text().value_or(""); }

  void add_complete(Keys& event, std::size_t entry) {
    TimelineEvent read;
    Keys args = event.inner("args");
    int lane = 0;
    event.require("pid", read.rank, 0);
    event.require("tid", lane, 0, std::int64_t{kLaneNames.size()} - 1);
    read.lane = static_cast<Lane>(lane);
    args.require("instruction", read.instruction, -1);
    args.read("part", read.part, 0);
    args.require("begin_ns", read.begin, 0, kMaxTimelineNanoseconds);
    args.require("end_ns", read.end, read.begin, kMaxTimelineNanoseconds);
    const Nanoseconds length = read.end - read.begin;
    args.read("waits_ns", read.waits_ns, 0, length);
    check_microseconds(event, "ts", read.begin);
    check_microseconds(event, "dur", length);
    read_action(event, read.action);
    if (const auto pair = args.find("pair"); pair.exists()) {
      const std::optional<int> number = read_pair(text_of(pair), read.braided);
      if (!number) {
        args.wrong("pair", pair, "needed a pair's number with \", braided\" or \", in sequence\"");
      }
      read.pair = number.value_or(-1);
    }
    if (args.find("awaited").exists()) {
      Keys awaited = args.inner("awaited");
      awaited.require("rank", read.awaited_rank, 0);
      awaited.require("instruction", read.awaited_instruction, 0);
    }
    if (!error_.ok()) return;
    timeline_.events.push_back(read);
    entries_.push_back(entry);
  }

  /// What Perfetto shows must be what we show, but for rounding.
  static void check_microseconds(Keys& event, std::string_view key, Nanoseconds needed) {
    const JsonNode<Json> value = event.find(key);
    const auto wanted = static_cast<double>(needed);
    const double found = value.number().value_or(-1) * 1000;
    if (value.number() && std::abs(found - wanted) <= 1 + wanted * 1e-9) return;
    event.wrong(key, value,
                fmt::format("needed {} microseconds, as begin_ns and end_ns say", wanted / 1000));
  }

  static void read_action(Keys& event, Action& action) {
    const JsonNode<Json> name = event.find("name");
    const std::optional<std::string> text = name.text();
    if (!text) return event.wrong("name", name, "needed an action");
    std::vector<Action> actions;
    if (const auto parsed = parse_action(*text, actions); !parsed) {
      event.fail_at("name", fmt::format("in {} at {}: {}", name.shown(), parsed.error().offset + 1,
                                        parsed.error().message));
    } else if (actions.size() != 1) {
      event.wrong("name", name, "needed one action");
    } else {
      action = actions.front();
    }
  }

  void check_ranks() {
    timeline_.ranks = static_cast<int>(named_.size());
    std::vector<bool> seen(named_.size());
    for (const auto& [rank, entry] : named_) {
      const auto index = static_cast<std::size_t>(rank);
      if (index >= seen.size() || seen[index]) {
        return wrong(fmt::format("/traceEvents/{}/pid", entry),
                     fmt::format("found a {} rank {}, needed one process_name for each of {} ranks",
                                 index < seen.size() ? "second" : "name of", rank, seen.size()));
      }
      seen[index] = true;
    }
    for (std::size_t i = 0; i < timeline_.events.size() && error_.ok(); ++i) {
      const TimelineEvent& event = timeline_.events[i];
      check_rank(event.rank, entries_[i], "pid");
      check_rank(event.awaited_rank, entries_[i], "args/awaited/rank");
    }
  }

  void check_rank(int rank, std::size_t entry, std::string_view key) {
    if (rank < timeline_.ranks) return;
    wrong(fmt::format("/traceEvents/{}/{}", entry, key),
          fmt::format("found rank {}, needed one of the {} that have a process_name", rank,
                      timeline_.ranks));
  }

  const std::string& name_;
  FirstError error_;
  Timeline timeline_;
  std::vector<std::size_t> entries_;                // of the timeline's events in the file
  std::vector<std::pair<int, std::size_t>> named_;  // ranks, and the entries that name them
  std::size_t count_ = 0;
};

/// The clocks of a header, which may name none.
Expected<std::vector<ClockOffset>> read_clocks(const Json& header, int ranks,
                                               const std::string& name) {
  std::vector<ClockOffset> clocks;
  const auto list = header.find("clocks");
  if (list == header.end()) return clocks;
  const auto whole = [](const Json& clock, const char* key) {
    return clock.is_object() && clock.contains(key) && clock[key].is_number_integer();
  };
  const bool one_each = list->is_array() && list->size() == static_cast<std::size_t>(ranks);
  const bool all_whole = one_each && std::all_of(list->begin(), list->end(), [&](const Json& one) {
                           return whole(one, "offset_ns") && whole(one, "error_ns");
                         });
  if (!all_whole) {
    return fail(
        ErrorCode::kInvalidInput,
        fmt::format("found {}, needed offset_ns and error_ns, whole numbers, for each of {} "
                    "ranks",
                    shown_json(*list), ranks),
        ErrorPlace{.file = name, .key = "/plait/clocks"});
  }
  for (const Json& one : *list)
    clocks.push_back({one["offset_ns"].get<Nanoseconds>(), one["error_ns"].get<Nanoseconds>()});
  return clocks;
}

/// The step, if the rest of the document is that of a timeline of ours.
Expected<int> read_header(const Json& document, const std::string& name) {
  const auto error = [&](const char* pointer, std::string message) {
    return fail(ErrorCode::kInvalidInput, std::move(message),
                ErrorPlace{.file = name, .key = pointer});
  };
  if (!document.is_object())
    return error("", fmt::format("found {}, needed {}", shown_json(document), kNeeded));
  const auto header = document.find("plait");
  if (header == document.end())
    return error("", fmt::format("found JSON without the key plait, needed {}", kNeeded));
  if (!header->is_object() || !header->contains("format") || (*header)["format"] != "timeline")
    return error("/plait",
                 fmt::format("found {}, needed the header of {}", shown_json(*header), kNeeded));
  if (!header->contains("version") || (*header)["version"] != kTimelineVersion) {
    return error(
        "/plait/version",
        fmt::format("the timeline's version is {}, this program reads {}",
                    header->contains("version") ? shown_json((*header)["version"]) : "missing",
                    kTimelineVersion));
  }
  const auto events = document.find("traceEvents");
  if (events == document.end() || !events->is_array()) {
    return error("/traceEvents",
                 fmt::format("found {}, needed an array of events",
                             events == document.end() ? "nothing" : shown_json(*events)));
  }
  int step = 0;
  FirstError wrong;
  Keys::by_path(JsonNode(*header), name, "/plait", wrong).read("step", step, 1);
  PLAIT_TRY_VOID(wrong.result());
  return step;
}

}  // namespace

bool looks_like_trace(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return false;
  return text[first] == '[' ||
         (text[first] == '{' && text.find("\"traceEvents\"") != std::string_view::npos);
}

Expected<Timeline> read_timeline(std::string_view text, const std::string& name) {
  EventReader reader(name);
  bool in_events = false;
  bool twice = false;
  bool seen = false;
  // Events are taken as they come and dropped: as a document they would need 2 KB each.
  const auto take = [&](int depth, Json::parse_event_t what, Json& value) {
    if (depth == 1 && what == Json::parse_event_t::key) {
      in_events = value == "traceEvents";
      twice = twice || (in_events && seen);
      seen = seen || in_events;
    }
    const bool ends = what == Json::parse_event_t::object_end ||
                      what == Json::parse_event_t::array_end || what == Json::parse_event_t::value;
    if (depth != 2 || !in_events || !ends) return true;
    reader.add(value);
    return false;
  };
  try {
    const Json document = Json::parse(text.begin(), text.end(), take);
    PLAIT_TRY(const int step, read_header(document, name));
    if (twice)
      return fail(ErrorCode::kInvalidInput, "the key traceEvents stands here twice, needed once",
                  ErrorPlace{.file = name});
    PLAIT_TRY(Timeline timeline, reader.finish());
    timeline.step = step;
    PLAIT_TRY(timeline.clocks, read_clocks(document["plait"], timeline.ranks, name));
    return timeline;
  } catch (const Json::parse_error& error) {
    const std::size_t offset = error.byte > 0 ? error.byte - 1 : 0;
    return fail(ErrorCode::kInvalidInput, fmt::format("not JSON: {}", reason_of(error)),
                place_of_byte(name, text, offset));
  } catch (const Json::exception& error) {
    return fail(ErrorCode::kInvalidInput, fmt::format("not JSON: {}", reason_of(error)),
                ErrorPlace{.file = name});
  }
}

}  // namespace plait
