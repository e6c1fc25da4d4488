#include "plait/timeline/timeline_file.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "plait/ir/action_text.h"

namespace plait {
namespace {

using Json = nlohmann::json;

constexpr int kMost = std::numeric_limits<int>::max();
constexpr std::string_view kNeeded =
    "a timeline of plait (plait simulate --timeline, plait train --record)";

/// A value as it is shown in a message.
std::string shown(const Json& value) {
  if (value.is_array()) return "an array";
  if (value.is_object()) return "an object";
  return value.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 40);
}

/// "syntax error …" of the library's "[json.exception.parse_error.101] parse error at …: syntax …".
std::string reason_of(const Json::exception& error) {
  const std::string what = error.what();
  const std::size_t colon = what.find(": ");
  return colon == std::string::npos ? what : what.substr(colon + 2);
}

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
  /// Once an event is wrong, those after it are left alone.
  void add(const Json& event) {
    const std::size_t place = count_++;
    if (!ok()) return;
    pointer_ = fmt::format("/traceEvents/{}", place);
    if (!event.is_object()) {
      wrong("", event, "an event, which is an object");
      return;
    }
    const Json& phase = member(event, "ph");
    if (phase == "X") {
      add_complete(event);
    } else if (phase == "M" && member(event, "name") == "process_name") {
      const int rank = number<int>(event, "/pid", 0, kMost);
      if (ok()) named_.emplace_back(rank, pointer_);
    }
  }

  /// Counts the ranks and holds every event's against them.
  Expected<Timeline> finish(const std::string& name) {
    if (ok()) check_ranks();
    if (ok() && timeline_.events.empty()) {
      pointer_ = "/traceEvents";
      message_ = fmt::format("found {} entries and no event (\"ph\": \"X\") among them, needed one",
                             count_);
    }
    if (!ok())
      return fail(ErrorCode::kInvalidInput, message_, fmt::format("{}:{}", name, pointer_));
    return std::move(timeline_);
  }

 private:
  bool ok() const { return message_.empty(); }

  void wrong(std::string_view key, const Json& found, std::string_view needed) {
    if (!ok()) return;
    message_ =
        fmt::format("found {}, needed {}", found.is_discarded() ? "nothing" : shown(found), needed);
    pointer_ += key;
  }

  static const Json& member(const Json& object, const char* key) {
    static const Json nothing = Json(Json::value_t::discarded);
    if (!object.is_object()) return nothing;
    const auto found = object.find(key);
    return found == object.end() ? nothing : *found;
  }

  /// The whole number at "/key" of `object`, which lies at `prefix` of the event.
  template <typename Number>
  Number number(const Json& object, std::string_view key, Number least, Number most,
                std::string_view prefix = {}) {
    const Json& value = member(object, std::string(key.substr(1)).c_str());
    const bool too_big =
        value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(most);
    if (value.is_number_integer() && !too_big && value.get<Nanoseconds>() >= least)
      return value.get<Number>();
    wrong(fmt::format("{}{}", prefix, key), value,
          fmt::format("a whole number from {} to {}", least, most));
    return least;
  }

  void add_complete(const Json& event) {
    TimelineEvent read;
    const Json& args = member(event, "args");
    if (!args.is_object()) wrong("/args", args, "an object");
    read.rank = number<int>(event, "/pid", 0, kMost);
    read.lane =
        static_cast<Lane>(number<int>(event, "/tid", 0, static_cast<int>(kLaneNames.size()) - 1));
    read.instruction = number<int>(args, "/instruction", -1, kMost, "/args");
    if (args.contains("part")) read.part = number<int>(args, "/part", 0, kMost, "/args");
    read.begin = number<Nanoseconds>(args, "/begin_ns", 0, kMaxTimelineNanoseconds, "/args");
    read.end = number<Nanoseconds>(args, "/end_ns", read.begin, kMaxTimelineNanoseconds, "/args");
    if (args.contains("waits_ns")) {
      read.waits_ns = number<Nanoseconds>(args, "/waits_ns", 0, read.end - read.begin, "/args");
    }
    check_microseconds(event, "ts", read.begin);
    check_microseconds(event, "dur", read.end - read.begin);
    read_action(member(event, "name"), read.action);
    if (const Json& pair = member(args, "pair"); !pair.is_discarded()) {
      const auto pair_number = pair.is_string()
                                   ? read_pair(pair.get_ref<const std::string&>(), read.braided)
                                   : std::nullopt;
      if (!pair_number)
        wrong("/args/pair", pair, "a pair's number with \", braided\" or \", in sequence\"");
      read.pair = pair_number.value_or(-1);
    }
    read_awaited(member(args, "awaited"), read);
    if (ok()) {
      timeline_.events.push_back(read);
      places_.push_back(count_ - 1);
    }
  }

  void read_awaited(const Json& awaited, TimelineEvent& read) {
    if (awaited.is_discarded()) return;
    if (!awaited.is_object()) return wrong("/args/awaited", awaited, "an object");
    read.awaited_rank = number<int>(awaited, "/rank", 0, kMost, "/args/awaited");
    read.awaited_instruction = number<int>(awaited, "/instruction", 0, kMost, "/args/awaited");
  }

  /// What Perfetto shows must be what we show, but for rounding.
  void check_microseconds(const Json& event, const char* key, Nanoseconds needed) {
    const Json& value = member(event, key);
    if (value.is_number()) {
      const double found = value.get<double>() * 1000;
      const auto wanted = static_cast<double>(needed);
      if (std::abs(found - wanted) <= 1 + wanted * 1e-9) return;
    }
    wrong(fmt::format("/{}", key), value,
          fmt::format("{} microseconds, as begin_ns and end_ns say",
                      static_cast<double>(needed) / 1000));
  }

  void read_action(const Json& name, Action& action) {
    std::vector<Action> actions;
    if (!name.is_string()) {
      wrong("/name", name, "an action");
    } else if (const auto parsed = parse_action(name.get_ref<const std::string&>(), actions);
               !parsed) {
      if (!ok()) return;
      message_ = fmt::format("in {} at {}: {}", shown(name), parsed.error().offset + 1,
                             parsed.error().message);
      pointer_ += "/name";
    } else if (actions.size() != 1) {
      wrong("/name", name, "one action");
    } else {
      action = actions.front();
    }
  }

  void check_ranks() {
    timeline_.ranks = static_cast<int>(named_.size());
    std::vector<bool> seen(named_.size());
    for (const auto& [rank, pointer] : named_) {
      const auto index = static_cast<std::size_t>(rank);
      if (index >= seen.size() || seen[index]) {
        pointer_ = pointer + "/pid";
        message_ = fmt::format("found a {} rank {}, needed one process_name for each of {} ranks",
                               index < seen.size() ? "second" : "name of", rank, seen.size());
        return;
      }
      seen[index] = true;
    }
    for (std::size_t i = 0; i < timeline_.events.size() && ok(); ++i) {
      const TimelineEvent& event = timeline_.events[i];
      pointer_ = fmt::format("/traceEvents/{}", places_[i]);
      check_rank("/pid", event.rank);
      check_rank("/args/awaited/rank", event.awaited_rank);
    }
  }

  void check_rank(const char* key, int rank) {
    if (rank < timeline_.ranks || !ok()) return;
    message_ = fmt::format("found rank {}, needed one of the {} that have a process_name", rank,
                           timeline_.ranks);
    pointer_ += key;
  }

  Timeline timeline_;
  std::vector<std::size_t> places_;  // of the timeline's events in the file
  std::vector<std::pair<int, std::string>> named_;
  std::size_t count_ = 0;
  std::string pointer_;
  std::string message_;
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
                    shown(*list), ranks),
        name + ":/plait/clocks");
  }
  for (const Json& one : *list)
    clocks.push_back({one["offset_ns"].get<Nanoseconds>(), one["error_ns"].get<Nanoseconds>()});
  return clocks;
}

/// The step, if the rest of the document is that of a timeline of ours.
Expected<int> read_header(const Json& document, const std::string& name) {
  const auto error = [&](const char* pointer, std::string message) {
    return fail(ErrorCode::kInvalidInput, std::move(message), name + pointer);
  };
  if (!document.is_object())
    return error("", fmt::format("found {}, needed {}", shown(document), kNeeded));
  const auto header = document.find("plait");
  if (header == document.end())
    return error("", fmt::format("found JSON without the key plait, needed {}", kNeeded));
  if (!header->is_object() || !header->contains("format") || (*header)["format"] != "timeline")
    return error(":/plait",
                 fmt::format("found {}, needed the header of {}", shown(*header), kNeeded));
  if (!header->contains("version") || (*header)["version"] != kTimelineVersion) {
    return error(":/plait/version",
                 fmt::format("the timeline's version is {}, this program reads {}",
                             header->contains("version") ? shown((*header)["version"]) : "missing",
                             kTimelineVersion));
  }
  const auto events = document.find("traceEvents");
  if (events == document.end() || !events->is_array()) {
    return error(":/traceEvents",
                 fmt::format("found {}, needed an array of events",
                             events == document.end() ? "nothing" : shown(*events)));
  }
  const auto step = header->find("step");
  if (step == header->end()) return 0;
  if (!step->is_number_unsigned() || *step < 1U || *step > static_cast<unsigned>(kMost)) {
    return error(":/plait/step",
                 fmt::format("found {}, needed a whole number from 1 to {}", shown(*step), kMost));
  }
  return step->get<int>();
}

}  // namespace

bool looks_like_trace(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return false;
  return text[first] == '[' ||
         (text[first] == '{' && text.find("\"traceEvents\"") != std::string_view::npos);
}

Expected<Timeline> read_timeline(std::string_view text, const std::string& name) {
  EventReader reader;
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
                  name);
    PLAIT_TRY(Timeline timeline, reader.finish(name));
    timeline.step = step;
    PLAIT_TRY(timeline.clocks, read_clocks(document["plait"], timeline.ranks, name));
    return timeline;
  } catch (const Json::parse_error& error) {
    const std::size_t offset = error.byte > 0 ? error.byte - 1 : 0;
    return fail(ErrorCode::kInvalidInput, fmt::format("not JSON: {}", reason_of(error)),
                fmt::format("{}:{}", name, line_and_column(text, offset)));
  } catch (const Json::exception& error) {
    return fail(ErrorCode::kInvalidInput, fmt::format("not JSON: {}", reason_of(error)), name);
  }
}

}  // namespace plait
