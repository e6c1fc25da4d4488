#include "viewer/view_page.h"

#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>

#include "plait/base/check.h"
#include "plait/ir/action_text.h"
#include "viewer/page.h"

namespace plait::viewer {
namespace {

/// A JSON string in which no `<` stands: it cannot end the script element that it lies in.
std::string quoted(const std::string& text) {
  using Json = nlohmann::json;
  const std::string plain = Json(text).dump(-1, ' ', true, Json::error_handler_t::replace);
  std::string safe;
  for (const char c : plain) {
    if (c == '<') {
      safe += "\\u003c";
    } else {
      safe += c;
    }
  }
  return safe;
}

template <typename Value>
void append_column(std::string& json, std::string_view name, const Timeline& timeline,
                   Value&& value) {
  json += fmt::format(",\n\"{}\":[", name);
  bool first = true;
  for (const TimelineEvent& event : timeline.events) {
    if (!first) json += ',';
    first = false;
    json += fmt::format("{}", value(event));
  }
  json += ']';
}

void append_file(std::string& json, const ViewedFile& file) {
  const Timeline& timeline = file.timeline;
  Nanoseconds origin = std::numeric_limits<Nanoseconds>::max();
  bool braided = false;
  for (const TimelineEvent& event : timeline.events) {
    origin = std::min(origin, event.begin);
    braided = braided || event.braided;
  }
  using Event = const TimelineEvent&;
  const auto column = [&](std::string_view name, auto value) {
    append_column(json, name, timeline, value);
  };
  json += fmt::format("{{\"name\":{},\"kind\":\"{}\",\"unit\":\"{}\",\"ranks\":{},\"pairs\":\"{}\"",
                      quoted(file.name), file.schedule ? "schedule" : "timeline",
                      file.schedule ? "units" : "ns", timeline.ranks,
                      braided ? "braided" : "in sequence");
  column("rank", [](Event event) { return event.rank; });
  column("lane", [](Event event) { return static_cast<int>(event.lane); });
  column("instruction", [](Event event) { return event.instruction; });
  column("type", [](Event event) { return static_cast<int>(event.action.type); });
  column("stage", [](Event event) { return event.action.stage; });
  column("microbatch", [](Event event) { return event.action.microbatch; });
  column("part", [](Event event) { return event.part; });
  column("pair", [](Event event) { return event.pair; });
  column("awaited_rank", [](Event event) { return event.awaited_rank; });
  column("awaited_instruction", [](Event event) { return event.awaited_instruction; });
  column("begin", [&](Event event) { return event.begin - origin; });
  column("duration", [](Event event) { return event.end - event.begin; });
  json += '}';
}

}  // namespace

std::string print_view_page(std::span<const ViewedFile> files) {
  std::string json = "{\"types\":[";
  for (std::size_t type = 0; type < kActionTypes; ++type)
    json += fmt::format("{}\"{}\"", type > 0 ? "," : "", type_name(static_cast<ActionType>(type)));
  json += "],\n\"files\":[";
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (i > 0) json += ",\n";
    append_file(json, files[i]);
  }
  json += "]}";
  const std::string_view page = viewer::page();
  const std::size_t at = page.find(kDataMark);
  PLAIT_CHECK(at != std::string_view::npos, "the page has a place for its data");
  return std::string(page.substr(0, at)) + json + std::string(page.substr(at + kDataMark.size()));
}

}  // namespace plait::viewer
