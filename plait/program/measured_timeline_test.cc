#include "plait/program/measured_timeline.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "plait/passes/insert_comm.h"
#include "plait/schedule/generators.h"

namespace plait {
namespace {

std::vector<RankProgram> programs_of(const std::string& name, int ranks,
                                     const LowerOptions& options = {}) {
  const auto verified = verify(*insert_comm(*generate(name, {ranks, 1})));
  EXPECT_TRUE(verified);
  std::vector<RankProgram> programs;
  for (int rank = 0; rank < ranks; ++rank) programs.push_back(*lower(*verified, rank, options));
  return programs;
}

/// The instruction of a rank that an action's part was lowered to.
std::size_t find(const RankProgram& program, ActionType type, int part = 0) {
  for (std::size_t i = 0; i < program.instructions.size(); ++i) {
    const Instruction& one = program.instructions[i];
    if (one.action.type == type && one.part == part) return i;
  }
  ADD_FAILURE() << "no such instruction";
  return 0;
}

const TimelineEvent& event_at(const Timeline& timeline, int rank, std::size_t instruction) {
  for (const TimelineEvent& event : timeline.events) {
    if (event.rank == rank && event.instruction == static_cast<int>(instruction)) return event;
  }
  ADD_FAILURE() << "no such event";
  return timeline.events.front();
}

TEST(MeasuredTimeline, TimesAreOnTheFirstRanksClockAndMessagesSayHowLongTheyWaited) {
  const std::vector<RankProgram> programs = programs_of("gpipe", 2);
  std::vector<InstructionTimes> times;
  for (const RankProgram& program : programs) times.emplace_back(program.instructions.size());
  const std::size_t forward = find(programs[0], ActionType::kForward);
  const std::size_t send = find(programs[0], ActionType::kSendF);
  const std::size_t receive = find(programs[1], ActionType::kRecvF);
  const std::size_t reader = find(programs[1], ActionType::kForward);
  times[0][forward] = {100, 200};
  times[0][send] = {200, 260};
  times[1][receive] = {5050, 5250};  // by a clock that is 5000 ahead: 50 to 250
  times[1][reader] = {5250, 5300};
  const Timeline timeline = MeasuredTimeline(programs, {2, 1, 1}).make(times, {{0, 0}, {5000, 7}});
  EXPECT_EQ(event_at(timeline, 1, receive).begin, 50);
  EXPECT_EQ(event_at(timeline, 1, receive).end, 250);
  EXPECT_EQ(event_at(timeline, 1, receive).waits_ns, 150);
  EXPECT_EQ(event_at(timeline, 0, send).waits_ns, 0);
  EXPECT_EQ(event_at(timeline, 1, reader).awaited_rank, 0);
  EXPECT_EQ(event_at(timeline, 1, reader).awaited_instruction, static_cast<int>(forward));
  ASSERT_EQ(timeline.clocks.size(), 2U);
  EXPECT_EQ(timeline.clocks[1].error, 7);
}

TEST(MeasuredTimeline, AnExchangesResultWasMadeByTheLastOfItsGroup) {
  LowerOptions options;
  options.shapes = {{{Lane::kCompute, "attn", 0, true},
                     {Lane::kCommunication, "dispatch", 0, true},
                     {Lane::kCompute, "tail", -1, true}}};
  const std::vector<RankProgram> programs = programs_of("gpipe", 1, options);
  const RankProgram& program = programs.front();
  const std::size_t attn = find(program, ActionType::kForward, 0);
  const std::size_t dispatch = find(program, ActionType::kForward, 1);
  const std::size_t tail = find(program, ActionType::kForward, 2);
  std::vector<InstructionTimes> times(3, InstructionTimes(program.instructions.size()));
  for (const auto& [rank, made] : {std::pair<std::size_t, Nanoseconds>{0, 80}, {1, 130}, {2, 90}}) {
    times[rank][attn] = {0, made};
    times[rank][dispatch] = {made, 150};
    times[rank][tail] = {150, 160};
  }
  const Timeline timeline = MeasuredTimeline(programs, {1, 1, 3}).make(times);
  for (const int rank : {0, 1, 2}) {
    EXPECT_EQ(event_at(timeline, rank, tail).awaited_rank, 1);
    EXPECT_EQ(event_at(timeline, rank, tail).awaited_instruction, static_cast<int>(attn));
  }
  EXPECT_EQ(event_at(timeline, 0, dispatch).waits_ns, 50);
  EXPECT_EQ(event_at(timeline, 1, dispatch).waits_ns, 0);
  EXPECT_EQ(event_at(timeline, 2, dispatch).waits_ns, 40);
  const StepMetrics metrics = measure(timeline);
  EXPECT_EQ(metrics.ranks[0].peer_wait_ns, 50);
  EXPECT_EQ(metrics.ranks[0].exposed_comm_ns, 20);
  EXPECT_EQ(metrics.ranks[1].peer_wait_ns, 0);
}

}  // namespace
}  // namespace plait
