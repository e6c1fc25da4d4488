#include "plait/program/measured_timeline.h"

#include <algorithm>
#include <limits>
#include <map>
#include <tuple>
#include <utility>

namespace plait {
namespace {

/// A message of the pipeline, in any column.
using MessageName = std::tuple<bool, int, int>;
MessageName name_of(const Message& message) {
  return {message.direction == Direction::kForward, message.sender_stage, message.microbatch};
}

/// Equal for all events of one message or one collective, and for no others.
using Meeting = std::tuple<int, int, int, int, int, int>;
Meeting meeting_of(const RankProgram& program, const Instruction& instruction, const Grid& grid,
                   int rank) {
  if (!is_collective(instruction.opcode)) {
    const auto [forward, sender_stage, microbatch] = name_of(message_of(program, instruction));
    return {-1, grid.column_of(rank), forward ? 1 : 0, sender_stage, 0, microbatch};
  }
  return {static_cast<int>(instruction.opcode),
          grid.members(instruction.group, rank).front(),
          static_cast<int>(instruction.group),
          instruction.action.stage,
          instruction.part,
          instruction.action.microbatch};
}

/// The compute instruction whose result the communication instruction `wait` passes on, kNoWait if
/// there is none. Example: combine 0 waits for mlp 0; dispatch 0 for counts 0, which waits for attn
/// 0.
std::int32_t made_by(const RankProgram& program, std::int32_t wait) {
  while (wait != kNoWait &&
         program.instructions[static_cast<std::size_t>(wait)].lane == Lane::kCommunication)
    wait = program.instructions[static_cast<std::size_t>(wait)].wait;
  return wait;
}

}  // namespace

MeasuredTimeline::MeasuredTimeline(const std::vector<RankProgram>& programs, const Grid& grid) {
  untimed_.ranks = grid.ranks();
  for (int rank = 0; rank < grid.ranks(); ++rank) {
    first_event_.push_back(untimed_.events.size());
    int index = 0;
    for (const Instruction& instruction :
         programs[static_cast<std::size_t>(grid.pipeline_of(rank))].instructions) {
      TimelineEvent event;
      event.rank = rank;
      event.lane = instruction.lane;
      event.instruction = index++;
      event.action = instruction.action;
      event.part = instruction.part;
      event.pair = instruction.pair;
      event.braided = instruction.braided;
      untimed_.events.push_back(event);
    }
  }
  add_meetings(programs, grid);
  add_makers(programs, grid);
}

void MeasuredTimeline::add_meetings(const std::vector<RankProgram>& programs, const Grid& grid) {
  std::map<Meeting, int> known;
  for (const TimelineEvent& event : untimed_.events) {
    const RankProgram& program = programs[static_cast<std::size_t>(grid.pipeline_of(event.rank))];
    const Instruction& instruction =
        program.instructions[static_cast<std::size_t>(event.instruction)];
    meeting_of_.push_back(-1);
    if (event.lane != Lane::kCommunication || instruction.opcode == Opcode::kWaitSend) continue;
    const Meeting meeting = meeting_of(program, instruction, grid, event.rank);
    meeting_of_.back() = known.try_emplace(meeting, static_cast<int>(known.size())).first->second;
  }
  meetings_ = static_cast<int>(known.size());
}

void MeasuredTimeline::add_makers(const std::vector<RankProgram>& programs, const Grid& grid) {
  std::map<MessageName, std::pair<int, int>> senders;  // pipeline rank and the maker's instruction
  for (const RankProgram& program : programs) {
    for (const Instruction& instruction : program.instructions) {
      if (instruction.opcode == Opcode::kSend)
        senders[name_of(message_of(program, instruction))] = {program.rank, instruction.wait};
    }
  }
  for (std::size_t i = 0; i < untimed_.events.size(); ++i) {
    TimelineEvent& event = untimed_.events[i];
    const RankProgram& program = programs[static_cast<std::size_t>(grid.pipeline_of(event.rank))];
    const std::int32_t wait =
        program.instructions[static_cast<std::size_t>(event.instruction)].wait;
    if (event.lane != Lane::kCompute || wait == kNoWait) continue;
    const Instruction& awaited = program.instructions[static_cast<std::size_t>(wait)];
    if (awaited.opcode == Opcode::kRecv) {
      const auto& [maker, made] = senders.at(name_of(message_of(program, awaited)));
      event.awaited_rank = grid.rank_of(maker, grid.column_of(event.rank));
      event.awaited_instruction = made;
      continue;
    }
    event.awaited_instruction = made_by(program, wait);
    if (event.awaited_instruction == kNoWait) continue;
    event.awaited_rank = event.rank;
    if (!is_collective(awaited.opcode)) continue;
    // The members of a group run one program.
    exchanged_.push_back({i, {}});
    for (const int member : grid.members(awaited.group, event.rank)) {
      exchanged_.back().makers.push_back(first_event_[static_cast<std::size_t>(member)] +
                                         static_cast<std::size_t>(event.awaited_instruction));
    }
  }
}

Timeline MeasuredTimeline::make(const std::vector<InstructionTimes>& times,
                                const std::vector<ClockOffset>& clocks) const {
  Timeline timeline = untimed_;
  timeline.clocks = clocks;
  std::vector<Nanoseconds> all_posted(static_cast<std::size_t>(meetings_),
                                      std::numeric_limits<Nanoseconds>::min());
  for (std::size_t i = 0; i < timeline.events.size(); ++i) {
    TimelineEvent& event = timeline.events[i];
    const auto rank = static_cast<std::size_t>(event.rank);
    const Nanoseconds ahead = clocks.empty() ? 0 : clocks[rank].offset;
    const auto& [begin, end] = times[rank][static_cast<std::size_t>(event.instruction)];
    event.begin = begin - ahead;
    event.end = end - ahead;
    if (meeting_of_[i] < 0) continue;
    Nanoseconds& posted = all_posted[static_cast<std::size_t>(meeting_of_[i])];
    posted = std::max(posted, event.begin);
  }
  for (std::size_t i = 0; i < timeline.events.size(); ++i) {
    TimelineEvent& event = timeline.events[i];
    if (meeting_of_[i] < 0) continue;
    const Nanoseconds posted = all_posted[static_cast<std::size_t>(meeting_of_[i])];
    event.waits_ns = std::clamp<Nanoseconds>(posted - event.begin, 0, event.end - event.begin);
  }
  for (const Exchanged& one : exchanged_) {
    const std::size_t last = *std::max_element(
        one.makers.begin(), one.makers.end(), [&](std::size_t left, std::size_t right) {
          return timeline.events[left].end < timeline.events[right].end;
        });
    timeline.events[one.event].awaited_rank = timeline.events[last].rank;
  }
  return timeline;
}

void MeasuredTimeline::add_memory(const std::vector<std::vector<EventMemory>>& memory,
                                  Timeline& timeline) const {
  timeline.memory.clear();
  for (const TimelineEvent& event : timeline.events) {
    timeline.memory.push_back(
        memory[static_cast<std::size_t>(event.rank)][static_cast<std::size_t>(event.instruction)]);
  }
}

}  // namespace plait
