#include <algorithm>
#include <map>
#include <tuple>

#include "plait/base/check.h"
#include "plait/ir/action_text.h"
#include "plait/runtime/program.h"

namespace plait {
namespace {

enum class ValueKind : std::uint8_t { kActivation, kGradient, kSaved, kSavedForWeight };

/// A value is named by its kind, the stage that reads it and the micro-batch.
using ValueName = std::tuple<ValueKind, int, int>;

/// A slot that has been read, and where.
struct FreeSlot {
  std::int32_t slot;
  Lane lane;
  std::int32_t position;  // of the reader, in its lane
};

class Lowering {
 public:
  Lowering(const VerifiedSchedule& schedule, int rank)
      : schedule_(schedule), placement_(schedule.placement()) {
    program_.rank = rank;
    program_.forward_only = schedule.schedule().forward_only;
  }

  RankProgram run() {
    const std::vector<Action>& list =
        schedule_.schedule().ranks[static_cast<std::size_t>(program_.rank)];
    std::size_t pair_end = 0;
    std::int32_t pair = -1;
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (list[i].type == ActionType::kOverlapFB) {
        ++pair;
        pair_end = i + list[i].members + 1;
      } else if (is_compute(list[i].type) || is_communication(list[i].type)) {
        add(list[i], i < pair_end ? pair : -1);
      }
    }
    program_.slots = slots_;
    return std::move(program_);
  }

 private:
  void add(const Action& action, std::int32_t pair) {
    Instruction instruction;
    instruction.action = action;
    instruction.pair = pair;
    instruction.lane = is_communication(action.type) ? Lane::kCommunication : Lane::kCompute;
    index_ = static_cast<std::int32_t>(program_.instructions.size());
    auto& lane = program_.lanes[static_cast<std::size_t>(instruction.lane)];
    position_ = static_cast<std::int32_t>(lane.size());
    switch (action.type) {
      case ActionType::kForward:
        forward(instruction);
        break;
      case ActionType::kBackwardInput:
      case ActionType::kBackward:
        backward(instruction);
        break;
      case ActionType::kBackwardWeight:
        instruction.opcode = Opcode::kBackwardWeight;
        instruction.in[0] = read(instruction, ValueKind::kSavedForWeight, action.stage);
        break;
      default:
        message(instruction);
    }
    lane.push_back(index_);
    program_.instructions.push_back(instruction);
  }

  int last_stage() const { return placement_.stages() - 1; }

  void forward(Instruction& instruction) {
    const int stage = instruction.action.stage;
    instruction.opcode = Opcode::kForward;
    if (stage > 0) instruction.in[0] = read(instruction, ValueKind::kActivation, stage);
    if (stage < last_stage())
      instruction.out[0] = write(instruction, ValueKind::kActivation, stage + 1);
    if (!program_.forward_only) instruction.out[1] = write(instruction, ValueKind::kSaved, stage);
  }

  void backward(Instruction& instruction) {
    const int stage = instruction.action.stage;
    const bool split = instruction.action.type == ActionType::kBackwardInput;
    instruction.opcode = split ? Opcode::kBackwardInput : Opcode::kBackward;
    if (stage < last_stage()) instruction.in[1] = read(instruction, ValueKind::kGradient, stage);
    instruction.in[0] = read(instruction, ValueKind::kSaved, stage);
    if (stage > 0) instruction.out[0] = write(instruction, ValueKind::kGradient, stage - 1);
    if (split) instruction.out[1] = write(instruction, ValueKind::kSavedForWeight, stage);
  }

  void message(Instruction& instruction) {
    const Action& action = instruction.action;
    const bool forward = action.type == ActionType::kSendF || action.type == ActionType::kRecvF;
    const ValueKind kind = forward ? ValueKind::kActivation : ValueKind::kGradient;
    if (is_send(action.type)) {
      const int reader = action.stage + (forward ? 1 : -1);
      instruction.opcode = Opcode::kSend;
      instruction.peer = schedule_.schedule().rank_of(reader, action.microbatch);
      instruction.in[0] = read(instruction, kind, reader);
    } else {
      instruction.opcode = Opcode::kRecv;
      instruction.peer =
          schedule_.schedule().rank_of(action.stage + (forward ? -1 : 1), action.microbatch);
      instruction.out[0] = write(instruction, kind, action.stage);
    }
  }

  std::int32_t read(Instruction& instruction, ValueKind kind, int stage) {
    const auto found = live_.find({kind, stage, instruction.action.microbatch});
    PLAIT_CHECK(found != live_.end(), "a verified schedule reads what was written");
    const auto [slot, writer] = found->second;
    live_.erase(found);
    const Instruction& written_by = program_.instructions[static_cast<std::size_t>(writer)];
    if (written_by.lane != instruction.lane) {
      PLAIT_CHECK(instruction.wait == kNoWait, "an instruction waits for at most one other");
      instruction.wait = writer;
      std::int32_t& known = known_[static_cast<std::size_t>(instruction.lane)];
      known = std::max(known, lane_position_[static_cast<std::size_t>(writer)]);
    }
    free_.push_back({slot, instruction.lane, position_});
    return slot;
  }

  std::int32_t write(const Instruction& instruction, ValueKind kind, int stage) {
    std::int32_t slot = kNoSlot;
    for (auto candidate = free_.begin(); candidate != free_.end(); ++candidate) {
      const bool before =
          candidate->lane == instruction.lane
              ? true
              : candidate->position <= known_[static_cast<std::size_t>(instruction.lane)];
      if (!before) continue;
      slot = candidate->slot;
      free_.erase(candidate);
      break;
    }
    if (slot == kNoSlot) slot = slots_++;
    live_[{kind, stage, instruction.action.microbatch}] = {slot, index_};
    if (lane_position_.size() <= static_cast<std::size_t>(index_))
      lane_position_.resize(static_cast<std::size_t>(index_) + 1);
    lane_position_[static_cast<std::size_t>(index_)] = position_;
    return slot;
  }

  const VerifiedSchedule& schedule_;
  const Placement& placement_;
  RankProgram program_;
  std::int32_t slots_ = 0;
  std::int32_t index_ = 0;     // of the instruction being added
  std::int32_t position_ = 0;  // of it in its lane
  std::map<ValueName, std::pair<std::int32_t, std::int32_t>> live_;  // slot and writer
  std::vector<std::int32_t> lane_position_;                          // of writers, by instruction
  std::vector<FreeSlot> free_;
  // By lane: the last position of the other lane that its waits so far prove to be over. For the
  // communication lane that is completed compute; for the compute lane it is what was issued, since
  // messages are issued in order and a send gives up its slot when it is issued.
  std::array<std::int32_t, 2> known_{-1, -1};
};

}  // namespace

Message message_of(const RankProgram& program, const Instruction& instruction) {
  const Action& action = instruction.action;
  const bool send = is_send(action.type);
  const bool forward = action.type == ActionType::kSendF || action.type == ActionType::kRecvF;
  Message message;
  message.source = send ? program.rank : instruction.peer;
  message.destination = send ? instruction.peer : program.rank;
  message.direction = forward ? Direction::kForward : Direction::kBackward;
  message.sender_stage = send ? action.stage : action.stage + (forward ? -1 : 1);
  message.microbatch = action.microbatch;
  return message;
}

std::string describe(const Instruction& instruction) {
  std::string text = print_action(instruction.action);
  if (instruction.opcode == Opcode::kSend) text += " to rank " + std::to_string(instruction.peer);
  if (instruction.opcode == Opcode::kRecv) text += " from rank " + std::to_string(instruction.peer);
  return text;
}

RankProgram lower(const VerifiedSchedule& schedule, int rank) {
  PLAIT_CHECK(schedule.lowered(), "a program needs a schedule with its communication");
  return Lowering(schedule, rank).run();
}

Timeline make_timeline(const std::vector<RankProgram>& programs,
                       const std::vector<std::vector<std::array<Nanoseconds, 2>>>& times) {
  Timeline timeline;
  timeline.ranks = static_cast<int>(programs.size());
  std::map<std::tuple<bool, int, int>, std::pair<int, int>> makers;  // of values that are sent
  for (const RankProgram& program : programs) {
    for (const Instruction& instruction : program.instructions) {
      if (instruction.opcode != Opcode::kSend) continue;
      const Message message = message_of(program, instruction);
      makers[{message.direction == Direction::kForward, message.sender_stage, message.microbatch}] =
          {program.rank, instruction.wait};
    }
  }
  for (std::size_t rank = 0; rank < programs.size(); ++rank) {
    const RankProgram& program = programs[rank];
    for (std::size_t i = 0; i < program.instructions.size(); ++i) {
      const Instruction& instruction = program.instructions[i];
      TimelineEvent event{program.rank,
                          instruction.lane,
                          static_cast<int>(i),
                          instruction.action,
                          instruction.pair,
                          -1,
                          -1,
                          times[rank][i][0],
                          times[rank][i][1]};
      if (instruction.lane == Lane::kCompute && instruction.wait != kNoWait) {
        const Message message =
            message_of(program, program.instructions[static_cast<std::size_t>(instruction.wait)]);
        std::tie(event.awaited_rank, event.awaited_instruction) = makers.at(
            {message.direction == Direction::kForward, message.sender_stage, message.microbatch});
      }
      timeline.events.push_back(event);
    }
  }
  return timeline;
}

}  // namespace plait
