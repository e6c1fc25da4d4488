#include "plait/program/check_program.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <tuple>

#include "plait/ir/action_text.h"
#include "plait/ir/direction.h"
#include "plait/program/pair_messages.h"

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

bool communicates(Opcode opcode) {
  return opcode == Opcode::kSend || opcode == Opcode::kRecv || opcode == Opcode::kWaitSend ||
         is_collective(opcode);
}

class ProgramChecker {
 public:
  ProgramChecker(const VerifiedSchedule& schedule, const RankProgram& program,
                 std::vector<ProgramViolation>& found)
      : schedule_(schedule),
        program_(program),
        found_(found),
        slots_(static_cast<std::size_t>(std::max(program.slots, 0))) {}

  void run() {
    if (!check_lanes() || !check_counts() || !check_actions()) return;
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
      if (communicates(instruction.opcode) != (instruction.lane == Lane::kCommunication)) {
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

  /// Every action of the list as often as instructions carry it out, whatever its type. An action
  /// is carried out as often as its most frequent instruction: F of a stage of three parts has
  /// three instructions, of which each stands once. UNSHARDs of one stage may differ.
  bool check_counts() {
    std::map<std::tuple<int, int, ActionType>, int> expected, found;
    const auto key = [](const Action& action) {
      return std::tuple(action.stage, action.microbatch, action.type);
    };
    for (const Action& action :
         schedule_.schedule().ranks[static_cast<std::size_t>(program_.rank)]) {
      if (action.type != ActionType::kIdle && action.type != ActionType::kOverlapFB)
        ++expected[key(action)];
    }
    std::map<std::tuple<int, int, ActionType, Opcode, int, Group>, int> of_each;
    for (const Instruction& one : program_.instructions) {
      const Action& action = one.action;
      if (is_sharding(action.type)) {
        found[key(action)] += carries_out_sharding(one) ? 1 : 0;
        continue;
      }
      const int count = ++of_each[{action.stage, action.microbatch, action.type, one.opcode,
                                   one.part, one.group}];
      int& most = found[key(action)];
      most = std::max(most, count);
    }
    std::map<std::tuple<int, int, ActionType>, int> all = expected;
    all.insert(found.begin(), found.end());
    bool same = true;
    for (const auto& [action, count] : all) {
      if (expected[action] == found[action]) continue;
      const auto& [stage, microbatch, type] = action;
      complain(fmt::format("{} is {} times in the schedule and {} times in the program",
                           print_action({stage, microbatch, type, 0}), expected[action],
                           found[action]));
      same = false;
    }
    return same;
  }

  /// The schedule's actions with the opcodes, parts and peers they need, in the schedule's order;
  /// inside a braided pair the parts of each member in theirs, and the sends of what they make.
  bool check_actions() {
    const std::vector<Action>& list =
        schedule_.schedule().ranks[static_cast<std::size_t>(program_.rank)];
    std::set<std::size_t> sent;
    for (std::size_t i = 0; i < list.size(); ++i) {
      index_ = static_cast<int>(next_);
      bool same = true;
      if (list[i].type == ActionType::kOverlapFB) {
        skip_unshard_ends();
        index_ = static_cast<int>(next_);
        if (next_ >= program_.instructions.size() || !at(index_).braided) continue;
        same = check_braid(list, i, sent);
        i += list[i].members;
      } else if (is_communication(list[i].type)) {
        same = sent.contains(i) || check_next(list[i], message_opcode(list[i].type), 0, false);
      } else if (is_compute(list[i].type)) {
        for (const PartCall& call : calls_of(list[i], false))
          same = same && check_next(list[i], call.opcode, call.part, false);
      } else if (list[i].type == ActionType::kReduceGrad) {
        same = is_reduced(list[i]) ? check_reduction(list[i], Opcode::kReduceScatter, 0)
                                   : check_next(list[i], Opcode::kReduceNothing, 0, false);
      } else if (is_sharding(list[i].type)) {
        same = check_sharding(list[i]);
      } else if (is_send_wait(list[i].type)) {
        same = sent.contains(i) || check_next(list[i], Opcode::kWaitSend, 0, false);
      } else if (list[i].type == ActionType::kWaitReduceGrad) {
        same = is_reduced(list[i]) ? check_ends({list[i]})
                                   : check_next(list[i], Opcode::kReduceNothing, 0, false);
      }
      if (same) continue;
      complain("the actions are not those of the schedule, in its order");
      return false;
    }
    skip_unshard_ends();
    if (!check_ends(reductions_without_wait(list))) {
      complain("what ends the reductions is not what the schedule needs");
      return false;
    }
    if (next_ == program_.instructions.size()) return true;
    complain("there are more instructions than actions");
    return false;
  }

  bool is_reduced(const Action& action) const {
    return !program_.reduced.empty() &&
           !program_.reduced[static_cast<std::size_t>(action.stage)].empty();
  }

  bool check_reduction(const Action& action, Opcode opcode, int phase) {
    if (program_.reduced.empty()) return true;
    for (const Group group : program_.reduced[static_cast<std::size_t>(action.stage)]) {
      if (!check_next(action, opcode, phase, false) || at(index_).group != group) return false;
    }
    return true;
  }

  const std::vector<Group>& sharded_groups(int stage) const {
    static const std::vector<Group> none;
    return program_.sharded.empty() ? none : program_.sharded[static_cast<std::size_t>(stage)];
  }
  /// Whether a RESHARD of the stage frees anything.
  bool frees(int stage) const {
    return program_.shard == ShardMode::kParameters && !sharded_groups(stage).empty();
  }

  /// One instruction of each UNSHARD and RESHARD: of gathers that of the stage's first group.
  bool carries_out_sharding(const Instruction& one) const {
    if (one.opcode == Opcode::kUnshardEnd) return false;
    const std::vector<Group>& groups = sharded_groups(one.action.stage);
    return one.opcode != Opcode::kUnshardGather || groups.empty() || one.group == groups.front();
  }

  /// An UNSHARD gathers over each group if the mode asks for it, a RESHARD frees once.
  bool check_sharding(const Action& action) {
    const bool unshards = action.type == ActionType::kUnshard;
    const int number = numbers_[{action.stage, action.type}]++;
    if (!unshards) {
      return frees(action.stage) ? check_next(action, Opcode::kReshardFree, number, false)
                                 : check_next(action, Opcode::kReshard, 0, false);
    }
    const std::vector<Group>& groups = sharded_groups(action.stage);
    const bool each = program_.shard == ShardMode::kParameters;
    const bool once = program_.shard != ShardMode::kNone && number == 0;
    if (groups.empty() || !(each || once)) return check_next(action, Opcode::kUnshard, 0, false);
    for (const Group group : groups) {
      if (!check_next(action, Opcode::kUnshardGather, number, false) || at(index_).group != group)
        return false;
    }
    return true;
  }

  /// Ends of gathers may stand before any action: operands and check_whole() say where they must.
  void skip_unshard_ends() {
    while (next_ < program_.instructions.size() &&
           program_.instructions[next_].opcode == Opcode::kUnshardEnd)
      ++next_;
  }

  static std::vector<Action> reductions_without_wait(const std::vector<Action>& list) {
    std::vector<Action> reductions;
    for (const Action& action : list) {
      if (action.type == ActionType::kReduceGrad) reductions.push_back(action);
      if (action.type != ActionType::kWaitReduceGrad) continue;
      std::erase_if(reductions, [&](const Action& one) { return one.stage == action.stage; });
    }
    return reductions;
  }

  /// The gathers of these reductions, then what ends them.
  bool check_ends(const std::vector<Action>& reductions) {
    for (const auto& [opcode, phase] :
         {std::pair(Opcode::kReduceGather, 1), {Opcode::kReduceEnd, 2}}) {
      if (opcode == Opcode::kReduceGather && program_.shard != ShardMode::kNone) continue;
      for (const Action& action : reductions) {
        if (!check_reduction(action, opcode, phase)) return false;
      }
    }
    return true;
  }

  struct PartCall {
    Opcode opcode;
    int part;

    friend bool operator==(const PartCall&, const PartCall&) = default;
  };

  const StageShape& shape(int stage) const {
    static const StageShape whole(1);
    return program_.shapes.empty() ? whole : program_.shapes[static_cast<std::size_t>(stage)];
  }
  int last_part(int stage) const { return static_cast<int>(shape(stage).size()) - 1; }

  /// What one action calls, in order; in a braid a B is an I with its W's after it.
  std::vector<PartCall> calls_of(const Action& action, bool braided) const {
    const StageShape& parts = shape(action.stage);
    const bool forward = action.type == ActionType::kForward;
    const bool splits = braided || action.type != ActionType::kBackward;
    std::vector<PartCall> calls;
    for (int i = 0; i <= last_part(action.stage); ++i) {
      const int part = forward ? i : last_part(action.stage) - i;
      const PartShape& which = parts[static_cast<std::size_t>(part)];
      const bool exchange = which.lane == Lane::kCommunication;
      if (forward) {
        calls.push_back({exchange ? Opcode::kExchange : Opcode::kForward, part});
      } else if (action.type == ActionType::kBackwardWeight) {
        if (!exchange && which.has_backward) calls.push_back({Opcode::kBackwardWeight, part});
      } else if (which.has_backward) {
        if (which.recompute) calls.push_back({Opcode::kRecompute, part});
        calls.push_back({exchange ? Opcode::kExchangeBack
                         : splits ? Opcode::kBackwardInput
                                  : Opcode::kBackward,
                         part});
      }
    }
    return calls;
  }

  static Opcode message_opcode(ActionType type) {
    return is_send(type) ? Opcode::kSend : Opcode::kRecv;
  }

  bool check_next(const Action& action, Opcode opcode, int part, bool braided) {
    skip_unshard_ends();
    if (next_ == program_.instructions.size()) return false;
    index_ = static_cast<int>(next_);
    const Instruction& instruction = program_.instructions[next_++];
    if (instruction.action != action || instruction.part != part) return false;
    if (instruction.braided != braided) return false;
    if (opcode != instruction.opcode) complain("the opcode is not the action's");
    check_peer(instruction, action);
    return true;
  }

  void check_peer(const Instruction& instruction, const Action& action) {
    if (!is_communication(action.type) && !is_send_wait(action.type)) return;
    const Action end = is_send_wait(action.type) ? awaited_send(action) : action;
    const int peer = schedule_.schedule().rank_of(other_end(end).stage, action.microbatch);
    if (peer != instruction.peer)
      complain(fmt::format("the peer is rank {}, needed rank {}", instruction.peer, peer));
  }

  /// Each member's parts in order, its recomputes, W's and sends anywhere (the operands say that
  /// they stand before or behind what they must). `sent`: the sends that stood in the pair, and the
  /// wait before them.
  bool check_braid(const std::vector<Action>& list, std::size_t pair, std::set<std::size_t>& sent) {
    std::array<std::deque<PartCall>, 2> due;  // of the members
    std::vector<PartCall> anywhere;
    for (const std::size_t member : {0U, 1U}) {
      const Action& action = list[pair + 1 + member];
      for (const PartCall& call : calls_of(action, true)) {
        if (call.opcode == Opcode::kRecompute) {
          anywhere.push_back(call);
          continue;
        }
        due[member].push_back(call);
        if (action.type == ActionType::kBackward && call.opcode == Opcode::kBackwardInput)
          anywhere.push_back({Opcode::kBackwardWeight, call.part});
      }
    }
    while (!due[0].empty() || !due[1].empty() || !anywhere.empty()) {
      if (next_ == program_.instructions.size()) return false;
      const Instruction& instruction = program_.instructions[next_];
      const Action& action = instruction.action;
      if (instruction.opcode == Opcode::kSend || instruction.opcode == Opcode::kWaitSend) {
        if (!claim_message(list, pair, sent)) return false;
        continue;
      }
      const std::size_t member = action == list[pair + 1] ? 0 : 1;
      const auto found = std::find(anywhere.begin(), anywhere.end(),
                                   PartCall{instruction.opcode, instruction.part});
      const bool in_order = found == anywhere.end();
      if (in_order && due[member].empty()) return false;
      const PartCall call = in_order ? due[member].front() : *found;
      if (!check_next(list[pair + 1 + member], call.opcode, call.part, true)) return false;
      if (in_order) {
        due[member].pop_front();
      } else {
        anywhere.erase(found);
      }
    }
    while (claim_message(list, pair, sent)) {
    }
    return true;
  }

  /// The next instruction if it is a send or a wait among the messages of the pair and was not
  /// claimed yet. No send leaves before the wait that it stands behind.
  bool claim_message(const std::vector<Action>& list, std::size_t pair,
                     std::set<std::size_t>& sent) {
    skip_unshard_ends();
    if (next_ == program_.instructions.size()) return false;
    const Action action = program_.instructions[next_].action;
    const bool first_is_forward = list[pair + 1].type == ActionType::kForward;
    const Action& backward = list[pair + (first_is_forward ? 2 : 1)];
    const bool wait = is_send_wait(action.type);
    if (!wait && !is_send(action.type)) return false;
    for (std::size_t i = pair + 3; i < list.size() && message_of_pair(list[i], backward); ++i) {
      if (sent.contains(i)) continue;
      if (list[i] == action) {
        sent.insert(i);
        return check_next(action, wait ? Opcode::kWaitSend : Opcode::kSend, 0, false);
      }
      if (is_send_wait(list[i].type)) return false;
    }
    return false;
  }

  /// What each lane knows of the other one grows with its waits.
  void learn() {
    const Instruction& instruction = at(index_);
    if (instruction.wait == kNoWait) return;
    if (instruction.wait < 0 || instruction.wait >= index_) {
      complain("waits for an instruction that is not an earlier one");
      return;
    }
    if (at(instruction.wait).lane == instruction.lane) {
      if (!is_collective(at(instruction.wait).opcode) && instruction.opcode != Opcode::kWaitSend)
        complain("waits for an instruction of its own lane that is no collective");
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
    const bool arrives = at(writer).opcode == Opcode::kRecv ||
                         (is_collective(at(writer).opcode) && at(writer).out[0] == slot);
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
    check_whole(instruction);
    switch (instruction.opcode) {
      case Opcode::kForward:
      case Opcode::kExchange:
        return check_forward(instruction);
      case Opcode::kBackwardInput:
      case Opcode::kBackward:
      case Opcode::kExchangeBack:
        return check_backward(instruction);
      case Opcode::kRecompute:
        read(instruction.in[0], name("saved", instruction, instruction.part));
        return write(instruction.out[0], name("recomputed", instruction, instruction.part));
      case Opcode::kBackwardWeight:
        return read(instruction.in[0], name("saved for W", instruction, instruction.part));
      case Opcode::kSend:
      case Opcode::kRecv:
        return check_message(instruction);
      case Opcode::kReduceScatter:
        check_gradients_complete(instruction);
        return write(instruction.out[0], reduced("rows", instruction));
      case Opcode::kReduceGather:
        read(instruction.in[0], reduced("rows", instruction));
        return write(instruction.out[0], reduced("sums", instruction));
      case Opcode::kReduceEnd:
        return read(instruction.in[0],
                    reduced(program_.shard == ShardMode::kNone ? "sums" : "rows", instruction));
      case Opcode::kUnshardGather:
        if (last_free_ >= 0 && !is_before(last_free_))
          complain("gathers parameters before the room of others was freed");
        return write(instruction.out[0], reduced("slices", instruction));
      case Opcode::kUnshardEnd:
        return read(instruction.in[0], reduced("slices", instruction));
      case Opcode::kWaitSend:
        if (instruction.wait < 0 || at(instruction.wait).opcode != Opcode::kSend ||
            at(instruction.wait).action != awaited_send(instruction.action))
          complain("waits for something else than its send");
        [[fallthrough]];
      case Opcode::kReduceNothing:
      case Opcode::kUnshard:
      case Opcode::kReshard:
      case Opcode::kReshardFree:
        for (const std::int32_t slot : instruction.in) need_none(slot, "what it reads");
        for (const std::int32_t slot : instruction.out) need_none(slot, "what it writes");
        return;
    }
  }

  static std::string reduced(const char* kind, const Instruction& instruction) {
    return fmt::format("{} of stage {} group {}", kind, instruction.action.stage,
                       static_cast<int>(instruction.group));
  }

  /// The list has the stage's last backward before its REDUCE_GRAD; the scatter must know it over.
  void check_gradients_complete(const Instruction& scatter) {
    for (int i = index_ - 1; i >= 0; --i) {
      const Instruction& one = at(i);
      if (one.lane != Lane::kCompute || one.action.stage != scatter.action.stage) continue;
      if (!is_before(i)) complain("sends gradients that may not be complete");
      return;
    }
  }

  /// A stage whose parameters are cut computes while they are whole: behind the ends of its
  /// gathers, before its RESHARD, which stand on the lane that computes.
  void check_whole(const Instruction& instruction) {
    const int stage = instruction.action.stage;
    const std::vector<Group>& groups = sharded_groups(stage);
    if (groups.empty()) return;
    std::set<Group>& gathered = gathered_[stage];
    const bool whole = gathered.size() == groups.size();
    if (instruction.opcode == Opcode::kUnshardEnd) {
      if (!gathered.insert(instruction.group).second && frees(stage))
        complain("gathers parameters that are there");
    } else if (instruction.opcode == Opcode::kReshardFree) {
      if (!whole) complain("frees parameters that are not there");
      gathered.clear();
      last_free_ = index_;
    } else if (instruction.lane == Lane::kCompute && is_compute(instruction.action.type) &&
               !whole) {
      complain("computes with parameters that are not there");
    }
  }

  static std::string name(const char* kind, int stage, int part, int microbatch) {
    return fmt::format("{} of stage {} part {} micro-batch {}", kind, stage, part, microbatch);
  }
  static std::string name(const char* kind, const Instruction& instruction, int part) {
    return name(kind, instruction.action.stage, part, instruction.action.microbatch);
  }
  int last_stage() const { return schedule_.placement().stages() - 1; }

  void check_forward(const Instruction& instruction) {
    const int stage = instruction.action.stage, part = instruction.part;
    const int mb = instruction.action.microbatch;
    const bool ends = part == last_part(stage);
    stage > 0 || part > 0 ? read(instruction.in[0], name("activation", instruction, part))
                          : need_none(instruction.in[0], "an input");
    stage < last_stage() || !ends
        ? write(instruction.out[0], ends ? name("activation", stage + 1, 0, mb)
                                         : name("activation", stage, part + 1, mb))
        : need_none(instruction.out[0], "an output");
    !program_.forward_only&& shape(stage)[static_cast<std::size_t>(part)].has_backward
        ? write(instruction.out[1], name("saved", instruction, part))
        : need_none(instruction.out[1], "a backward");
  }

  void check_backward(const Instruction& instruction) {
    const int stage = instruction.action.stage, part = instruction.part;
    const int mb = instruction.action.microbatch;
    int before = part - 1;
    while (before >= 0 && !shape(stage)[static_cast<std::size_t>(before)].has_backward) --before;
    const bool again = shape(stage)[static_cast<std::size_t>(part)].recompute;
    read(instruction.in[0], name(again ? "recomputed" : "saved", instruction, part));
    stage < last_stage() || part < last_part(stage)
        ? read(instruction.in[1], name("gradient", instruction, part))
        : need_none(instruction.in[1], "an output's gradient");
    if (before >= 0) {
      write(instruction.out[0], name("gradient", stage, before, mb));
    } else if (stage > 0) {
      write(instruction.out[0], name("gradient", stage - 1, last_part(stage - 1), mb));
    } else {
      need_none(instruction.out[0], "an input's gradient");
    }
    instruction.opcode == Opcode::kBackwardInput
        ? write(instruction.out[1], name("saved for W", instruction, part))
        : need_none(instruction.out[1], "W");
  }

  void check_message(const Instruction& instruction) {
    const Action& action = instruction.action;
    const bool forward = direction_of(action.type) == Direction::kForward;
    const bool send = instruction.opcode == Opcode::kSend;
    const int reader = send ? other_end(action).stage : action.stage;
    const std::string value = name(forward ? "activation" : "gradient", reader,
                                   forward ? 0 : last_part(reader), action.microbatch);
    send ? read(instruction.in[0], value) : write(instruction.out[0], value);
  }

  const VerifiedSchedule& schedule_;
  const RankProgram& program_;
  std::vector<ProgramViolation>& found_;
  std::vector<SlotState> slots_;
  std::vector<int> place_;  // of an instruction in its lane
  std::array<int, 2> known_{-1, -1};
  int index_ = -1;
  std::size_t next_ = 0;                               // instruction that no action has claimed yet
  std::map<std::pair<int, ActionType>, int> numbers_;  // UNSHARD and RESHARD so far, by stage
  std::map<int, std::set<Group>> gathered_;            // by stage, over which groups it is there
  int last_free_ = -1;                                 // the last RESHARD that frees
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
      if (instruction.opcode != Opcode::kSend && instruction.opcode != Opcode::kRecv) continue;
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
