#include "plait/timeline/timeline_file.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/files.h"

namespace plait {
namespace {

using Json = nlohmann::ordered_json;

TimelineEvent event_of(int rank, Lane lane, Action action, Nanoseconds begin, Nanoseconds end) {
  TimelineEvent event;
  event.rank = rank;
  event.lane = lane;
  event.action = action;
  event.begin = begin;
  event.end = end;
  return event;
}

/// Every field that a file holds, at its ends and in the middle.
Timeline every_field() {
  Timeline timeline{3,
                    {event_of(0, Lane::kCompute, {0, 0, ActionType::kForward, 0}, 0, 7),
                     event_of(2, Lane::kCommunication, {5, 11, ActionType::kSendB, 0}, 3, 1234567),
                     event_of(1, Lane::kCompute, {4, 2, ActionType::kBackward, 0}, 1001, 1001),
                     event_of(1, Lane::kCommunication, {4, -1, ActionType::kReduceGrad, 0}, 1500,
                              kMaxTimelineNanoseconds)},
                    117};
  timeline.events[0].pair = 0;
  timeline.clocks = {{0, 0}, {-1234567890123, 45000}, {7, 1}};
  timeline.events[1].instruction = 81;
  timeline.events[1].waits_ns = 1234564;
  timeline.events[1].part = 3;
  timeline.events[1].pair = 12;
  timeline.events[1].braided = true;
  timeline.events[2].awaited_rank = 0;
  timeline.events[2].awaited_instruction = 4;
  timeline.events[3].instruction = -1;
  return timeline;
}

auto fields_of(const TimelineEvent& event) {
  return std::tie(event.rank, event.lane, event.instruction, event.action, event.part, event.pair,
                  event.braided, event.awaited_rank, event.awaited_instruction, event.begin,
                  event.end, event.waits_ns);
}

std::string error_of(const std::string& text) {
  const auto read = read_timeline(text, "t.json");
  EXPECT_FALSE(read) << text;
  return read ? "" : read.error().text();
}

/// What is said of a good trace in which the value at `pointer` is another one, or missing.
std::string error_with(const std::string& pointer, const Json& value) {
  Json trace = Json::parse(print_chrome_trace(every_field()));
  trace[Json::json_pointer(pointer)] = value;
  return error_of(trace.dump());
}
std::string error_without(const std::string& object, const std::string& key) {
  Json trace = Json::parse(print_chrome_trace(every_field()));
  trace[Json::json_pointer(object)].erase(key);
  return error_of(trace.dump());
}

// The trace has 3 * 3 names before its events.
constexpr const char* kFirst = "/traceEvents/9";

TEST(TimelineFile, ReadsWhatIsPrinted) {
  const Timeline timeline = every_field();
  const auto read = read_timeline(print_chrome_trace(timeline), "t.json");
  ASSERT_TRUE(read) << read.error().text();
  EXPECT_EQ(read->ranks, 3);
  EXPECT_EQ(read->step, 117);
  ASSERT_EQ(read->clocks.size(), 3U);
  EXPECT_EQ(read->clocks[1].offset, -1234567890123);
  EXPECT_EQ(read->clocks[1].error, 45000);
  ASSERT_EQ(read->events.size(), timeline.events.size());
  for (std::size_t i = 0; i < read->events.size(); ++i) {
    const TimelineEvent& a = read->events[i];
    const TimelineEvent& b = timeline.events[i];
    EXPECT_EQ(fields_of(a), fields_of(b));
  }
}

TEST(TimelineFile, TheGoldenPrintsAsItIs) {
  const std::string golden = testing::read_golden("timeline.json");
  const auto read = read_timeline(golden, "timeline.json");
  ASSERT_TRUE(read) << read.error().text();
  EXPECT_EQ(read->ranks, 2);
  // Two ranks, two micro-batches, F and B of each: 8 events, the last ends at 3 * (2 + 1) = 9 ns.
  EXPECT_EQ(read->events.size(), 8U);
  EXPECT_EQ(measure(*read).span_ns, 9);
  EXPECT_EQ(print_chrome_trace(*read), golden);
}

TEST(TimelineFile, EventsOfOtherPhasesAreLeftAlone) {
  Json trace = Json::parse(print_chrome_trace(every_field()));
  for (const char* phase : {"s", "f", "C", "another"})
    trace["traceEvents"].insert(trace["traceEvents"].begin(),
                                Json{{"ph", phase}, {"pid", -7}, {"ts", "soon"}});
  trace["traceEvents"].push_back({{"ph", "M"}, {"name", "process_labels"}, {"pid", 99}});
  trace["otherData"] = {{"deep", {1, {2, {3}}}}};
  const auto read = read_timeline(trace.dump(), "t.json");
  ASSERT_TRUE(read) << read.error().text();
  EXPECT_EQ(print_chrome_trace(*read), print_chrome_trace(every_field()));
}

TEST(TimelineFile, WhatIsNoTimelineOfOursIsAnError) {
  const std::string needed =
      "needed a timeline of plait (plait simulate --timeline, plait train --record)";
  EXPECT_NE(error_of("").find("t.json:1:1: not JSON: "), std::string::npos);
  EXPECT_NE(error_of("{\n\"plait\": NaN}").find("t.json:2:1"), std::string::npos);
  EXPECT_EQ(error_of("[]"), "t.json: found an array, " + needed);
  EXPECT_EQ(error_of("{\"traceEvents\": []}"),
            "t.json: found JSON without the key plait, " + needed);
  EXPECT_NE(error_of("{\"plait\": 1, \"ranks\": 2}").find("t.json:/plait: found 1"),
            std::string::npos);
  EXPECT_NE(error_with("/plait/format", "metrics").find("needed the header"), std::string::npos);
  EXPECT_EQ(error_with("/plait/version", 2),
            "t.json:/plait/version: the timeline's version is 2, this program reads 1");
  EXPECT_NE(error_without("/plait", "version").find("version is missing"), std::string::npos);
  EXPECT_EQ(error_with("/plait/step", 0),
            "t.json:/plait/step: found 0, needed an integer of 1 or more");
  EXPECT_EQ(error_without("", "traceEvents"),
            "t.json:/traceEvents: found nothing, needed an array of events");
  EXPECT_NE(error_with("/traceEvents", Json::object({{"a", 1}})).find("found an object"),
            std::string::npos);
  EXPECT_EQ(
      error_with("/traceEvents", Json::array()),
      "t.json:/traceEvents: found 0 entries and no event (\"ph\": \"X\") among them, needed one");
  EXPECT_EQ(
      error_of(
          R"({"traceEvents": [], "plait": {"format": "timeline", "version": 1}, "traceEvents": []})"),
      "t.json: the key traceEvents stands here twice, needed once");
}

TEST(TimelineFile, WrongTimesAreErrorsThatSayWhere) {
  const std::string event = kFirst;
  EXPECT_EQ(error_with(event + "/args/begin_ns", -1),
            "t.json:/traceEvents/9/args/begin_ns: found -1, needed an integer from 0 to "
            "9007199254740991");
  EXPECT_EQ(error_with(event + "/args/end_ns", 9007199254740992),
            "t.json:/traceEvents/9/args/end_ns: found 9007199254740992, must be 0 to "
            "9007199254740991");
  EXPECT_EQ(error_with("/traceEvents/11/args/end_ns", 1000),
            "t.json:/traceEvents/11/args/end_ns: found 1000, needed an integer from 1001 to "
            "9007199254740991");
  for (const Json& value :
       {Json(1.5), Json("5"), Json(nullptr), Json(1e300), Json(18446744073709551615U)}) {
    EXPECT_NE(error_with(event + "/args/begin_ns", value).find("needed an integer"),
              std::string::npos)
        << value;
  }
  EXPECT_EQ(error_with(event + "/ts", 3),
            "t.json:/traceEvents/9/ts: found 3, needed 0 microseconds, as begin_ns and end_ns say");
  EXPECT_EQ(error_with(event + "/dur", nullptr),
            "t.json:/traceEvents/9/dur: found null, needed 0.007 microseconds, as begin_ns and "
            "end_ns say");
  EXPECT_NE(error_of(R"({"traceEvents": [{"ts": 1e999}]})").find("not JSON: "), std::string::npos);
}

TEST(TimelineFile, WrongClocksAreErrorsThatSayWhere) {
  const std::string clocks = "/plait/clocks";
  EXPECT_EQ(error_with(clocks, 3),
            "t.json:/plait/clocks: found 3, needed offset_ns and error_ns, whole numbers, for each "
            "of 3 ranks");
  EXPECT_NE(error_with(clocks, Json::array()).find("found an array"), std::string::npos);
  EXPECT_NE(error_with(clocks + "/1/offset_ns", 0.5).find("whole numbers"), std::string::npos);
  EXPECT_NE(error_with(clocks + "/2", "<b>").find("whole numbers"), std::string::npos);
  EXPECT_NE(error_with("/traceEvents/10/args/waits_ns", 1234565)
                .find("waits_ns: found 1234565, must be 0 to 1234564"),
            std::string::npos);
}

TEST(TimelineFile, WrongPlacesAreErrorsThatSayWhere) {
  const std::string event = kFirst;
  EXPECT_EQ(
      error_with(event + "/pid", 3),
      "t.json:/traceEvents/9/pid: found rank 3, needed one of the 3 that have a process_name");
  EXPECT_NE(error_with(event + "/pid", -1).find("found -1, needed an integer of 0 or more"),
            std::string::npos);
  EXPECT_EQ(error_with(event + "/tid", 2), "t.json:/traceEvents/9/tid: found 2, must be 0 to 1");
  EXPECT_EQ(error_with("/traceEvents/0/pid", 1),
            "t.json:/traceEvents/3/pid: found a second rank 1, needed one process_name for each of "
            "3 ranks");
  EXPECT_EQ(error_with("/traceEvents/6/pid", 4),
            "t.json:/traceEvents/6/pid: found a name of rank 4, needed one process_name for each "
            "of 3 ranks");
  EXPECT_NE(error_with(event + "/args/instruction", -2).find("needed an integer of -1 or more"),
            std::string::npos);
  EXPECT_NE(error_with(event + "/args/part", -2).find("args/part: found -2"), std::string::npos);
  EXPECT_EQ(error_with("/traceEvents/11/args/awaited/rank", 3),
            "t.json:/traceEvents/11/args/awaited/rank: found rank 3, needed one of the 3 that have "
            "a process_name");
  EXPECT_NE(error_with("/traceEvents/11/args/awaited/instruction", -1)
                .find("args/awaited/instruction: found -1"),
            std::string::npos);
  EXPECT_NE(error_with("/traceEvents/11/args/awaited", 4).find("args/awaited: found 4"),
            std::string::npos);
  EXPECT_EQ(error_without(event, "args"),
            "t.json:/traceEvents/9/args: found nothing, needed an object");
  EXPECT_EQ(error_with(event, 7),
            "t.json:/traceEvents/9: found 7, needed an event, which is an object");
}

TEST(TimelineFile, WrongNamesAreErrorsThatSayWhere) {
  const std::string event = kFirst;
  EXPECT_NE(error_with(event + "/name", "<script>")
                .find("t.json:/traceEvents/9/name: in \"<script>\" at 1: "),
            std::string::npos);
  EXPECT_EQ(error_with(event + "/name", 3),
            "t.json:/traceEvents/9/name: found 3, needed an action");
  EXPECT_EQ(error_with(event + "/name", "(0F0;1B0)OVERLAP_F_B"),
            "t.json:/traceEvents/9/name: found \"(0F0;1B0)OVERLAP_F_B\", needed one action");
  for (const Json& pair :
       {Json("2"), Json("-1, braided"), Json(", braided"), Json("2, woven"), Json(2)}) {
    EXPECT_NE(error_with(event + "/args/pair", pair).find("needed a pair's number"),
              std::string::npos)
        << pair;
  }
}

TEST(TimelineFile, TracesAreToldFromSchedules) {
  EXPECT_TRUE(looks_like_trace(print_chrome_trace(every_field())));
  EXPECT_TRUE(looks_like_trace(" \n[{\"ph\": \"X\"}]"));
  EXPECT_FALSE(looks_like_trace("{\"plait\": 1, \"ranks\": 2}"));
  EXPECT_FALSE(looks_like_trace("0F0,0B0\n"));
  EXPECT_FALSE(looks_like_trace(""));
}

}  // namespace
}  // namespace plait
