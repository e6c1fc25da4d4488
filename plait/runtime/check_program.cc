#include "plait/runtime/check_program.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <tuple>

namespace plait {
namespace {

/// What lies in a slot: which value, and who wrote it.
struct Content {
  std::string value;
  int writer = -1;
};

struct SlotState {
  std::optional<Content> content;
  int last_reader = -1;
};

class ProgramChecker {
 public:
  ProgramChecker(const VerifiedSchedule& schedule, const RankProgram& program,
                 std::vector<ProgramViolation>& found)
      : schedule_(schedule),
        program_(program),
        found_(found),
        slots_(static_cast<std::size_t>(std::max(program.slots, 0))) {}

  void run() {
    if (!check_lanes() || !check_actions()) return;
    for (std::size_t i = 0; i < program_.instructions.size(); ++i) {
      index_ = static_cast<int>(i);
      learn();
      check_operands(program_.instructions[i]);
    }
    for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
      if (!slots_[slot].content) continue;
      index_ = slots_[slot].content->writer;
      complain(fmt::format("{} is left in slot {} at the end of the step",
                           slots_[slot].content->value, slot));
    }
  }

 private:
  void complain(std::string message) {
    found_.push_back({program_.rank, index_, std::move(message)});
  }

  const Instruction& at(int index) const {
    return program_.instructions[static_cast<std::size_t>(index)];
  }

  /// Lanes list every instruction once, in order.
  bool check_lanes() {
    std::array<std::vector<std::int32_t>, 2> lanes;
    place_.resize(program_.instructions.size());
    for (std::size_t i = 0; i < program_.instructions.size(); ++i) {
      const Instruction& instruction = program_.instructions[i];
      const bool message =
          instruction.opcode == Opcode::kSend || instruction.opcode == Opcode::kRecv;
      if (message != (instruction.lane == Lane::kCommunication)) {
        index_ = static_cast<int>(i);
        complain("stands on the wrong lane");
        return false;
      }
      auto& lane = lanes[static_cast<std::size_t>(instruction.lane)];
      place_[i] = static_cast<int>(lane.size());
      lane.push_back(static_cast<std::int32_t>(i));
    }
    if (lanes == program_.lanes) return true;
    complain("a lane's order is not that of the instructions");
    return false;
  }

  /// The schedule's actions in the schedule's order, with the opcodes and peers they need.
  bool check_actions() {
    std::size_t next = 0;
    for (const Action& action :
         schedule_.schedule().ranks[static_cast<std::size_t>(program_.rank)]) {
      if (!is_compute(action.type) && !is_communication(action.type)) continue;
      index_ = static_cast<int>(next);
      if (next == program_.instructions.size() || program_.instructions[next].action != action) {
        complain("the actions are not those of the schedule, in its order");
        return false;
      }
      check_shape(program_.instructions[next++], action);
    }
    if (next == program_.instructions.size()) return true;
    complain("there are more instructions than actions");
    return false;
  }

  void check_shape(const Instruction& instruction, const Action& action) {
    static const std::map<ActionType, Opcode> opcodes = {
        {ActionType::kForward, Opcode::kForward},
        {ActionType::kBackward, Opcode::kBackward},
        {ActionType::kBackwardInput, Opcode::kBackwardInput},
        {ActionType::kBackwardWeight, Opcode::kBackwardWeight},
        {ActionType::kSendF, Opcode::kSend},
        {ActionType::kSendB, Opcode::kSend},
        {ActionType::kRecvF, Opcode::kRecv},
        {ActionType::kRecvB, Opcode::kRecv}};
    if (opcodes.at(action.type) != instruction.opcode) complain("the opcode is not the action's");
    if (!is_communication(action.type)) return;
    const bool up = action.type == ActionType::kSendF || action.type == ActionType::kRecvB;
    const int peer = schedule_.schedule().rank_of(action.stage + (up ? 1 : -1), action.microbatch);
    if (peer != instruction.peer)
      complain(fmt::format("the peer is rank {}, needed rank {}", instruction.peer, peer));
  }

  /// What each lane knows of the other one grows with its waits.
  void learn() {
    const Instruction& instruction = at(index_);
    if (instruction.wait == kNoWait) return;
    if (instruction.wait < 0 || instruction.wait >= index_ ||
        at(instruction.wait).lane == instruction.lane) {
      complain("waits for an instruction that is not an earlier one of the other lane");
      return;
    }
    int& known = known_[static_cast<std::size_t>(instruction.lane)];
    known = std::max(known, place_[static_cast<std::size_t>(instruction.wait)]);
  }

  /// True if `earlier` is over, as far as the lane of the present instruction can know. A message
  /// is over for this when it was issued.
  bool is_before(int earlier) const {
    const Instruction& instruction = at(index_);
    if (at(earlier).lane == instruction.lane)
      return place_[static_cast<std::size_t>(earlier)] <= place_[static_cast<std::size_t>(index_)];
    return place_[static_cast<std::size_t>(earlier)] <=
           known_[static_cast<std::size_t>(instruction.lane)];
  }

  void read(int slot, const std::string& value) {
    if (slot < 0 || slot >= program_.slots) {
      complain(fmt::format("reads {} from slot {}, which is none", value, slot));
      return;
    }
    SlotState& state = slots_[static_cast<std::size_t>(slot)];
    if (!state.content || state.content->value != value) {
      complain(fmt::format("reads {} from slot {}, which holds {}", value, slot,
                           state.content ? state.content->value : "nothing"));
      return;
    }
    const int writer = state.content->writer;
    const bool arrives = at(writer).opcode == Opcode::kRecv;
    if (arrives ? at(index_).wait != writer : !is_before(writer)) {
      complain(fmt::format("reads {} without a wait for its writer", value));
    }
    state.content.reset();
    state.last_reader = index_;
  }

  void write(int slot, const std::string& value) {
    if (slot < 0 || slot >= program_.slots) {
      complain(fmt::format("writes {} to slot {}, which is none", value, slot));
      return;
    }
    SlotState& state = slots_[static_cast<std::size_t>(slot)];
    if (state.content)
      complain(fmt::format("writes {} over {} in slot {}", value, state.content->value, slot));
    if (state.last_reader >= 0 && !is_before(state.last_reader)) {
      complain(fmt::format("writes {} to slot {} while it may still be read", value, slot));
    }
    state.content = Content{value, index_};
  }

  void need_none(int slot, const char* what) {
    if (slot != kNoSlot) complain(fmt::format("has a slot for {}, of which there is none", what));
  }

  void check_operands(const Instruction& instruction) {
    const Action& action = instruction.action;
    const int stage = action.stage;
    const int last = schedule_.placement().stages() - 1;
    const auto activation = [&](int reader) {
      return fmt::format("activation for stage {} micro-batch {}", reader, action.microbatch);
    };
    const auto gradient = [&](int reader) {
      return fmt::format("gradient for stage {} micro-batch {}", reader, action.microbatch);
    };
    const auto saved = fmt::format("saved of stage {} micro-batch {}", stage, action.microbatch);
    const auto for_weight =
        fmt::format("saved for W of stage {} micro-batch {}", stage, action.microbatch);
    switch (instruction.opcode) {
      case Opcode::kForward:
        stage > 0 ? read(instruction.in[0], activation(stage))
                  : need_none(instruction.in[0], "an input");
        stage < last ? write(instruction.out[0], activation(stage + 1))
                     : need_none(instruction.out[0], "an output");
        program_.forward_only ? need_none(instruction.out[1], "a backward")
                              : write(instruction.out[1], saved);
        break;
      case Opcode::kBackwardInput:
      case Opcode::kBackward:
        read(instruction.in[0], saved);
        stage < last ? read(instruction.in[1], gradient(stage))
                     : need_none(instruction.in[1], "an output's gradient");
        stage > 0 ? write(instruction.out[0], gradient(stage - 1))
                  : need_none(instruction.out[0], "an input's gradient");
        instruction.opcode == Opcode::kBackwardInput ? write(instruction.out[1], for_weight)
                                                     : need_none(instruction.out[1], "W");
        break;
      case Opcode::kBackwardWeight:
        read(instruction.in[0], for_weight);
        break;
      case Opcode::kSend:
        read(instruction.in[0],
             action.type == ActionType::kSendF ? activation(stage + 1) : gradient(stage - 1));
        break;
      case Opcode::kRecv:
        write(instruction.out[0],
              action.type == ActionType::kRecvF ? activation(stage) : gradient(stage));
        break;
    }
  }

  const VerifiedSchedule& schedule_;
  const RankProgram& program_;
  std::vector<ProgramViolation>& found_;
  std::vector<SlotState> slots_;
  std::vector<int> place_;  // of an instruction in its lane
  std::array<int, 2> known_{-1, -1};
  int index_ = -1;
};

}  // namespace

std::vector<ProgramViolation> check_programs(const VerifiedSchedule& schedule,
                                             const std::vector<RankProgram>& programs) {
  std::vector<ProgramViolation> found;
  if (programs.size() != schedule.schedule().ranks.size()) {
    found.push_back({-1, -1,
                     fmt::format("there are {} programs for {} ranks", programs.size(),
                                 schedule.schedule().ranks.size())});
    return found;
  }
  std::map<std::tuple<int, int, int>, int> messages;  // sends less receives
  for (const RankProgram& program : programs) {
    ProgramChecker(schedule, program, found).run();
    for (const Instruction& instruction : program.instructions) {
      if (instruction.lane != Lane::kCommunication) continue;
      const Message message = message_of(program, instruction);
      const std::tuple key(static_cast<int>(message.direction), message.sender_stage,
                           message.microbatch);
      messages[key] += instruction.opcode == Opcode::kSend ? 1 : -1;
    }
  }
  for (const auto& [key, balance] : messages) {
    if (balance == 0) continue;
    found.push_back({-1, -1,
                     fmt::format("the message of stage {} micro-batch {} has no other end",
                                 std::get<1>(key), std::get<2>(key))});
  }
  return found;
}

}  // namespace plait
