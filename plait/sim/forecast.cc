#include "plait/sim/forecast.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "plait/base/check.h"

namespace plait {
namespace {

/// Whether the bytes of an instruction leave over its rank's link.
bool sends(const Instruction& instruction) { return instruction.opcode != Opcode::kRecv; }

}  // namespace

InstructionCosts::Name InstructionCosts::name_of(const Instruction& instruction) {
  const auto group = static_cast<int>(instruction.group);
  // Messages are all of one size.
  if (instruction.opcode == Opcode::kSend || instruction.opcode == Opcode::kRecv)
    return {static_cast<int>(Opcode::kRecv), -1, -1, 0, instruction.braided};
  return {static_cast<int>(instruction.opcode), instruction.action.stage, instruction.part, group,
          instruction.braided};
}

const RunningMean* InstructionCosts::find(Name name) const {
  auto found = times_.find(name);
  if (found == times_.end()) {
    std::get<4>(name) = !std::get<4>(name);
    found = times_.find(name);
  }
  return found == times_.end() ? nullptr : &found->second;
}

const Instruction& InstructionCosts::instruction_of(const TimelineEvent& event) const {
  const RankProgram& program = programs_[static_cast<std::size_t>(grid_.pipeline_of(event.rank))];
  return program.instructions[static_cast<std::size_t>(event.instruction)];
}

void InstructionCosts::add(const Timeline& timeline) {
  add_transfers(timeline);
  std::vector<const TimelineEvent*> before(static_cast<std::size_t>(timeline.ranks), nullptr);
  for (const TimelineEvent& event : timeline.events) {
    const Instruction& instruction = instruction_of(event);
    const TimelineEvent* awaited =
        instruction.wait == kNoWait ? nullptr
                                    : &timeline.events[who_.event_of(event.rank, instruction.wait)];
    if (event.lane == Lane::kCommunication) {
      if (awaited != nullptr && awaited->lane == Lane::kCompute)
        to_issue_.add(event.begin - awaited->end);
      continue;
    }
    times_[name_of(instruction)].add(event.end - event.begin);
    const TimelineEvent* last = std::exchange(before[static_cast<std::size_t>(event.rank)], &event);
    if (awaited != nullptr && (last == nullptr || awaited->end > last->end)) {
      after_transfer_.add(event.begin - awaited->end);
    } else if (last != nullptr) {
      after_compute_.add(event.begin - last->end);
    }
  }
}

/// What leaves over one link ends in the order in which it was issued.
void InstructionCosts::add_transfers(const Timeline& timeline) {
  std::vector<std::vector<std::size_t>> parties(static_cast<std::size_t>(who_.meeting_count()));
  for (std::size_t i = 0; i < timeline.events.size(); ++i) {
    if (who_.meetings()[i] >= 0) parties[static_cast<std::size_t>(who_.meetings()[i])].push_back(i);
  }
  const auto end_of = [&](const std::vector<std::size_t>& meeting) {
    Nanoseconds end = 0;
    for (const std::size_t party : meeting) end = std::max(end, timeline.events[party].end);
    return end;
  };
  std::stable_sort(parties.begin(), parties.end(),
                   [&](const auto& one, const auto& other) { return end_of(one) < end_of(other); });
  std::vector<Nanoseconds> link_free(static_cast<std::size_t>(timeline.ranks), 0);
  for (const std::vector<std::size_t>& meeting : parties) {
    Nanoseconds start = 0;
    for (const std::size_t party : meeting) {
      const TimelineEvent& event = timeline.events[party];
      Nanoseconds& link = link_free[static_cast<std::size_t>(event.rank)];
      const bool over_link = sends(instruction_of(event));
      if (over_link) link = std::max(link, event.begin);
      start = std::max(start, over_link ? link : event.begin);
    }
    const Nanoseconds takes = std::max<Nanoseconds>(end_of(meeting) - start, 0);
    for (const std::size_t party : meeting) {
      const TimelineEvent& event = timeline.events[party];
      const Instruction& instruction = instruction_of(event);
      if (sends(instruction)) link_free[static_cast<std::size_t>(event.rank)] += takes;
      if (instruction.opcode != Opcode::kSend)
        times_[name_of(instruction)].add(std::max<Nanoseconds>(event.end - start, 0));
    }
  }
}

double InstructionCosts::interference() const {
  Nanoseconds braided = 0, alone = 0;
  for (const auto& [name, mean] : times_) {
    const auto opcode = static_cast<Opcode>(std::get<0>(name));
    if (!std::get<4>(name) || opcode == Opcode::kRecv || is_collective(opcode)) continue;
    Name other = name;
    std::get<4>(other) = false;
    const auto outside = times_.find(other);
    if (outside == times_.end()) continue;
    braided += mean.value();
    alone += outside->second.value();
  }
  return alone == 0 ? 0 : static_cast<double>(braided) / static_cast<double>(alone) - 1;
}

/// Runs every lane up to its first instruction whose wait has no end time yet, until all have
/// ended.
class Forecast {
 public:
  Forecast(const std::vector<RankProgram>& programs, const Grid& grid,
           const InstructionCosts& costs)
      : programs_(programs), grid_(grid), costs_(costs), who_(programs, grid) {
    parties_.resize(static_cast<std::size_t>(who_.meeting_count()));
    for (std::size_t i = 0; i < who_.meetings().size(); ++i) {
      if (who_.meetings()[i] >= 0) ++parties_[static_cast<std::size_t>(who_.meetings()[i])];
    }
  }

  Expected<Timeline> run() {
    const auto ranks = static_cast<std::size_t>(grid_.ranks());
    times_.clear();
    for (int rank = 0; rank < grid_.ranks(); ++rank)
      times_.push_back(InstructionTimes(program_of(rank).instructions.size()));
    done_.assign(who_.untimed().events.size(), false);
    meetings_.assign(parties_.size(), {});
    lanes_.assign(ranks, {});
    link_free_.assign(ranks, 0);
    for (bool progress = true; progress;) {
      progress = false;
      for (int rank = 0; rank < grid_.ranks(); ++rank) {
        for (const Lane lane : {Lane::kCommunication, Lane::kCompute}) {
          PLAIT_TRY(const bool moved, advance(rank, lane));
          progress = progress || moved;
        }
      }
    }
    for (const bool done : done_) PLAIT_CHECK(done, "every lane of checked programs ends");
    return who_.make(times_);
  }

 private:
  /// A message or collective: its parties so far, and when the last of them could start.
  struct Meeting {
    int posted = 0;
    Nanoseconds start = 0;
    std::vector<std::size_t> events;
  };
  struct LaneState {
    std::size_t next = 0;
    Nanoseconds free = 0;
  };

  const RankProgram& program_of(int rank) const {
    return programs_[static_cast<std::size_t>(grid_.pipeline_of(rank))];
  }

  Expected<Nanoseconds> cost(int rank, const Instruction& instruction) const {
    if (const auto* mean = costs_.find(InstructionCosts::name_of(instruction)))
      return mean->value();
    if (has_nothing_to_do(instruction.opcode)) return Nanoseconds{0};
    if (instruction.opcode == Opcode::kBackward) {
      Instruction half = instruction;
      half.opcode = Opcode::kBackwardInput;
      PLAIT_TRY(const Nanoseconds input, cost(rank, half));
      half.opcode = Opcode::kBackwardWeight;
      PLAIT_TRY(const Nanoseconds weight, cost(rank, half));
      return input + weight;
    }
    return fail(ErrorCode::kInvalidInput,
                fmt::format("the profile never saw {}, needed a run with it",
                            describe(program_of(rank), instruction,
                                     {grid_.columns(), grid_.column_of(rank)})));
  }

  /// Runs the lane up to its first instruction whose wait has no end time yet. True if any ran.
  Expected<bool> advance(int rank, Lane lane) {
    LaneState& state = lanes_[static_cast<std::size_t>(rank)][static_cast<std::size_t>(lane)];
    const std::vector<std::int32_t>& order = program_of(rank).lane(lane);
    bool moved = false;
    for (; state.next < order.size(); ++state.next, moved = true) {
      const std::int32_t index = order[state.next];
      const Instruction& instruction =
          program_of(rank).instructions[static_cast<std::size_t>(index)];
      Nanoseconds ready = state.free;
      if (instruction.wait != kNoWait) {
        if (!done_[who_.event_of(rank, instruction.wait)]) break;
        ready = std::max(ready, end_of(rank, instruction.wait) + gap(rank, instruction));
      }
      PLAIT_TRY_VOID(lane == Lane::kCompute ? compute(rank, index, ready, state)
                                            : post(rank, index, ready, state));
    }
    return moved;
  }

  Nanoseconds end_of(int rank, std::int32_t instruction) const {
    return times_[static_cast<std::size_t>(rank)][static_cast<std::size_t>(instruction)][1];
  }
  Nanoseconds gap(int rank, const Instruction& instruction) const {
    const Instruction& awaited =
        program_of(rank).instructions[static_cast<std::size_t>(instruction.wait)];
    if (awaited.lane == Lane::kCommunication) return costs_.after_transfer_.value();
    return instruction.lane == Lane::kCommunication ? costs_.to_issue_.value() : 0;
  }

  Expected<void> compute(int rank, std::int32_t index, Nanoseconds ready, LaneState& state) {
    const std::size_t event = who_.event_of(rank, index);
    const Instruction& instruction = program_of(rank).instructions[static_cast<std::size_t>(index)];
    PLAIT_TRY(const Nanoseconds takes, cost(rank, instruction));
    times_[static_cast<std::size_t>(rank)][static_cast<std::size_t>(index)] = {ready,
                                                                               ready + takes};
    done_[event] = true;
    state.free = ready + takes + costs_.after_compute_.value();
    return {};
  }

  Expected<void> post(int rank, std::int32_t index, Nanoseconds ready, LaneState& state) {
    const std::size_t event = who_.event_of(rank, index);
    const Instruction& instruction = program_of(rank).instructions[static_cast<std::size_t>(index)];
    state.free = ready;
    auto& times = times_[static_cast<std::size_t>(rank)][static_cast<std::size_t>(index)];
    times[0] = ready;
    if (instruction.opcode == Opcode::kWaitSend) {
      times[1] = ready;
      done_[event] = true;
      return {};
    }
    PLAIT_TRY(const Nanoseconds takes, cost(rank, instruction));
    Nanoseconds start = ready;
    if (sends(instruction)) {
      Nanoseconds& link = link_free_[static_cast<std::size_t>(rank)];
      start = std::max(start, link);
      link = start + takes;
    }
    const auto number = static_cast<std::size_t>(who_.meetings()[event]);
    Meeting& meeting = meetings_[number];
    meeting.start = std::max(meeting.start, start);
    meeting.events.push_back(event);
    if (++meeting.posted < parties_[number]) return {};
    for (const std::size_t party : meeting.events) {
      const TimelineEvent& event_of_party = who_.untimed().events[party];
      times_[static_cast<std::size_t>(event_of_party.rank)]
            [static_cast<std::size_t>(event_of_party.instruction)][1] = meeting.start + takes;
      done_[party] = true;
    }
    return {};
  }

  const std::vector<RankProgram>& programs_;
  const Grid& grid_;
  const InstructionCosts& costs_;
  MeasuredTimeline who_;
  std::vector<int> parties_;  // by meeting
  std::vector<InstructionTimes> times_;
  std::vector<bool> done_;
  std::vector<Meeting> meetings_;
  std::vector<std::array<LaneState, 2>> lanes_;
  std::vector<Nanoseconds> link_free_;
};

Expected<Timeline> forecast(const std::vector<RankProgram>& programs, const Grid& grid,
                            const InstructionCosts& costs) {
  return Forecast(programs, grid, costs).run();
}

}  // namespace plait
