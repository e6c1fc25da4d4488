#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "plait/base/check.h"
#include "plait/ir/action_text.h"
#include "plait/ir/direction.h"
#include "plait/program/pair_messages.h"
#include "plait/program/rank_program.h"

namespace plait {
namespace {

enum class ValueKind : std::uint8_t {
  kActivation,
  kGradient,
  kSaved,
  kRecomputed,
  kSavedForWeight,
  kReducedRows,
  kReducedSums,
  kGathered
};

/// A value is named by its kind, the stage and part that read it and the micro-batch; of a
/// reduction or a gather the group stands for the part.
using ValueName = std::tuple<ValueKind, int, int, int>;

/// A slot that has been read, and where.
struct FreeSlot {
  std::int32_t slot;
  Lane lane;
  std::int32_t position;  // of the reader, in its lane
};

class Lowering {
 public:
  Lowering(const VerifiedSchedule& schedule, int rank, const LowerOptions& options)
      : schedule_(schedule), placement_(schedule.placement()), options_(options) {
    program_.rank = rank;
    program_.forward_only = schedule.schedule().forward_only;
    program_.shapes = options.shapes;
    program_.reduced = options.reduced;
    program_.shard = options.shard;
    program_.sharded = options.sharded;
    program_.boundaries = options.boundaries;
  }

  Expected<RankProgram> run() {
    const std::vector<Action>& list =
        schedule_.schedule().ranks[static_cast<std::size_t>(program_.rank)];
    std::size_t pair_end = 0;
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (list[i].type == ActionType::kOverlapFB) {
        ++pair_;
        pair_end = i + list[i].members + 1;
        if (!is_braided(list, i)) continue;
        PLAIT_TRY_VOID(add_braid(list, i));
        i = pair_end - 1;
      } else if (sent_.erase(i) == 0) {
        add_single(list[i], i < pair_end ? pair_ : -1);
      }
    }
    PLAIT_TRY_VOID(check_reductions());
    PLAIT_TRY_VOID(check_unshards());
    end_unshards(unended_.size());
    add_gathers(open_reductions_);
    program_.slots = slots_;
    return std::move(program_);
  }

 private:
  /// What an instruction is beside its action.
  struct As {
    std::int32_t part = 0;
    std::int32_t pair = -1;
    bool braided = false;
    Group group = Group::kExpert;
  };

  const StageShape& shape(int stage) const {
    static const StageShape whole(1);
    return options_.shapes.empty() ? whole : options_.shapes[static_cast<std::size_t>(stage)];
  }
  const PartShape& part_of(int stage, int part) const {
    return shape(stage)[static_cast<std::size_t>(part)];
  }
  int last_part(int stage) const { return static_cast<int>(shape(stage).size()) - 1; }
  int last_stage() const { return placement_.stages() - 1; }

  bool has_exchange(int stage) const {
    return std::any_of(shape(stage).begin(), shape(stage).end(),
                       [](const PartShape& part) { return part.lane == Lane::kCommunication; });
  }

  bool is_braided(const std::vector<Action>& list, std::size_t pair) const {
    if (!options_.braid || list[pair].members != 2) return false;
    return has_exchange(list[pair + 1].stage) || has_exchange(list[pair + 2].stage);
  }

  /// What stands by itself or is a member of a pair that runs in sequence. Without a default, so
  /// that the compiler names a type of action that would be skipped.
  void add_single(const Action& action, std::int32_t pair) {
    switch (action.type) {
      case ActionType::kIdle:
        return;
      case ActionType::kForward:
      case ActionType::kBackwardInput:
      case ActionType::kBackwardWeight:
      case ActionType::kBackward:
        return add_action(action, pair);
      case ActionType::kSendF:
      case ActionType::kRecvF:
      case ActionType::kSendB:
      case ActionType::kRecvB:
        return add({}, action, {});
      case ActionType::kUnshard:
        return unshard(action);
      case ActionType::kReshard:
        return reshard(action);
      case ActionType::kReduceGrad:
        return add_scatters(action);
      case ActionType::kWaitReduceGrad:
        return end_reduction(action);
      case ActionType::kWaitSendF:
      case ActionType::kWaitSendB:
        return add(Opcode::kWaitSend, action, {});
      case ActionType::kOverlapFB:
        break;
    }
    PLAIT_CHECK(false, "a pair within a pair is no verified schedule");
  }

  void add_action(const Action& action, std::int32_t pair) {
    need_whole(action.stage);
    const int last = last_part(action.stage);
    for (int i = 0; i <= last; ++i) {
      const int part = action.type == ActionType::kForward ? i : last - i;
      const PartShape& which = part_of(action.stage, part);
      if (action.type != ActionType::kForward && !which.has_backward) continue;
      const bool exchange = which.lane == Lane::kCommunication;
      if (action.type == ActionType::kBackwardWeight && exchange) continue;
      // Without a wait for its gradient: it runs while that is on its way.
      if (which.recompute && action.type != ActionType::kForward &&
          action.type != ActionType::kBackwardWeight)
        add(Opcode::kRecompute, action, {part, pair, false});
      add(opcode_of(action.type, exchange), action, {part, pair, false});
    }
  }

  static const std::vector<Group>& groups_of(const std::vector<std::vector<Group>>& by_stage,
                                             int stage) {
    static const std::vector<Group> none;
    return by_stage.empty() ? none : by_stage[static_cast<std::size_t>(stage)];
  }
  const std::vector<Group>& groups_of(int stage) const {
    return groups_of(options_.reduced, stage);
  }

  /// How often a stage was unsharded and resharded so far.
  struct Shardings {
    int unshards = 0;
    int reshards = 0;
  };

  void unshard(const Action& action) {
    const int number = shardings_[action.stage].unshards++;
    const std::vector<Group>& groups = groups_of(options_.sharded, action.stage);
    if (groups.empty() || !gathers(options_.shard, number))
      return add(Opcode::kUnshard, action, {});
    for (const Group group : groups)
      add(Opcode::kUnshardGather, action, {number, -1, false, group});
    unended_.emplace_back(action, number);
  }

  void reshard(const Action& action) {
    const bool is_cut = !groups_of(options_.sharded, action.stage).empty();
    if (!is_cut || options_.shard != ShardMode::kParameters)
      return add(Opcode::kReshard, action, {});
    need_whole(action.stage);
    add(Opcode::kReshardFree, action, {shardings_[action.stage].reshards++});
    last_free_ = index_;
  }

  /// Ends the gathers up to that of `stage`, if it has not ended.
  void need_whole(int stage) {
    const auto found = std::find_if(unended_.begin(), unended_.end(),
                                    [&](const auto& one) { return one.first.stage == stage; });
    if (found != unended_.end())
      end_unshards(static_cast<std::size_t>(found - unended_.begin()) + 1);
  }

  void end_unshards(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      const auto& [action, number] = unended_[i];
      for (const Group group : groups_of(options_.sharded, action.stage))
        add(Opcode::kUnshardEnd, action, {number, -1, false, group});
    }
    unended_.erase(unended_.begin(), unended_.begin() + static_cast<std::ptrdiff_t>(count));
  }

  /// The proof has that a list which unshards at all does so before each use.
  Expected<void> check_unshards() const {
    for (const int stage : placement_.stages_of(program_.rank)) {
      if (groups_of(options_.sharded, stage).empty() || shardings_.contains(stage)) continue;
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("stage {} has no UNSHARD on rank {}, needed one as several ranks "
                              "share out its parameters",
                              stage, program_.rank),
                  schedule_.schedule().name);
    }
    return {};
  }

  void add_scatters(const Action& action) {
    reductions_.push_back(action);
    open_reductions_.push_back(action);
    if (groups_of(action.stage).empty()) add(Opcode::kReduceNothing, action, {});
    for (const Group group : groups_of(action.stage))
      add(Opcode::kReduceScatter, action, {0, -1, false, group});
  }

  /// At a WAIT_REDUCE_GRAD.
  void end_reduction(const Action& wait) {
    std::erase_if(open_reductions_,
                  [&](const Action& reduction) { return reduction.stage == wait.stage; });
    if (groups_of(wait.stage).empty()) add(Opcode::kReduceNothing, wait, {});
    add_gathers({wait});
  }

  /// Behind everything else: a gather waits for other ranks, and no message should wait behind it.
  void add_gathers(const std::vector<Action>& reductions) {
    for (const Action& action : reductions) {
      if (options_.shard != ShardMode::kNone) break;  // each member keeps the sum of its slice
      for (const Group group : groups_of(action.stage))
        add(Opcode::kReduceGather, action, {1, -1, false, group});
    }
    for (const Action& action : reductions) {
      for (const Group group : groups_of(action.stage))
        add(Opcode::kReduceEnd, action, {2, -1, false, group});
    }
  }

  Expected<void> check_reductions() const {
    for (const int stage : placement_.stages_of(program_.rank)) {
      const bool has = std::any_of(reductions_.begin(), reductions_.end(),
                                   [&](const Action& action) { return action.stage == stage; });
      if (has || groups_of(stage).empty()) continue;
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("stage {} has no REDUCE_GRAD on rank {}, needed one as several ranks "
                              "hold its parameters",
                              stage, program_.rank),
                  schedule_.schedule().name);
    }
    return {};
  }

  static Opcode opcode_of(ActionType type, bool exchange) {
    switch (type) {
      case ActionType::kForward:
        return exchange ? Opcode::kExchange : Opcode::kForward;
      case ActionType::kBackwardInput:
        return exchange ? Opcode::kExchangeBack : Opcode::kBackwardInput;
      case ActionType::kBackwardWeight:
        return Opcode::kBackwardWeight;
      default:
        return exchange ? Opcode::kExchangeBack : Opcode::kBackward;
    }
  }

  static Opcode opcode_of(SegmentOf of, bool exchange) {
    switch (of) {
      case SegmentOf::kForward:
        return opcode_of(ActionType::kForward, exchange);
      case SegmentOf::kBackwardInput:
        return opcode_of(ActionType::kBackwardInput, exchange);
      case SegmentOf::kBackwardWeight:
        return Opcode::kBackwardWeight;
      default:
        return Opcode::kRecompute;
    }
  }

  /// The members' parts in the braid's order. A member's send leaves when its last part has run.
  Expected<void> add_braid(const std::vector<Action>& list, std::size_t pair) {
    const bool first_is_forward = list[pair + 1].type == ActionType::kForward;
    const Action& forward = list[pair + (first_is_forward ? 1 : 2)];
    const Action& backward = list[pair + (first_is_forward ? 2 : 1)];
    const bool whole = backward.type == ActionType::kBackward;
    for (const std::size_t member : {pair + 1, pair + 2}) need_whole(list[member].stage);
    PLAIT_TRY(const PairOrder order,
              make_pair_order(options_.order, shape(forward.stage), shape(backward.stage), whole));
    for (const PairStep& step : order) {
      const bool is_forward = step.of == SegmentOf::kForward;
      const Action& action = is_forward ? forward : backward;
      const bool exchange = part_of(action.stage, step.part).lane == Lane::kCommunication;
      add(opcode_of(step.of, exchange), action, {step.part, pair_, true});
      const bool ends = is_forward ? step.part == last_part(action.stage)
                                   : step.of == SegmentOf::kBackwardInput && step.part == 0;
      if (ends) send_result(list, pair + 3, action, backward);
    }
    return {};
  }

  /// Sends the result of `action` if its send stands among the messages right behind the pair,
  /// behind the wait that stands there before it, if any (message_of_pair()).
  void send_result(const std::vector<Action>& list, std::size_t begin, const Action& action,
                   const Action& backward) {
    const ActionType send =
        action.type == ActionType::kForward ? ActionType::kSendF : ActionType::kSendB;
    std::size_t end = begin;
    while (end < list.size() && message_of_pair(list[end], backward) &&
           !(list[end].type == send && list[end].stage == action.stage &&
             list[end].microbatch == action.microbatch))
      ++end;
    if (end == list.size() || list[end].type != send) return;
    for (std::size_t i = begin; i < end; ++i) {
      if (is_send_wait(list[i].type) && sent_.insert(i).second) add(Opcode::kWaitSend, list[i], {});
    }
    add({}, list[end], {});
    sent_.insert(end);
  }

  void add(Opcode opcode, const Action& action, As as) {
    Instruction instruction;
    instruction.opcode = opcode;
    instruction.action = action;
    instruction.part = as.part;
    instruction.pair = as.pair;
    instruction.braided = as.braided;
    instruction.group = as.group;
    const bool communicates =
        is_communication(action.type) || is_collective(opcode) || opcode == Opcode::kWaitSend;
    instruction.lane = communicates ? Lane::kCommunication : Lane::kCompute;
    index_ = static_cast<std::int32_t>(program_.instructions.size());
    auto& lane = program_.lanes[static_cast<std::size_t>(instruction.lane)];
    position_ = static_cast<std::int32_t>(lane.size());
    lane_position_.push_back(position_);
    if (is_communication(action.type)) {
      message(instruction);
    } else if (opcode == Opcode::kWaitSend) {
      send_wait(instruction);
    } else if (has_nothing_to_do(opcode)) {
      // Neither reads nor writes a value.
    } else if (is_reduction(action.type)) {
      reduction(instruction);
    } else if (is_sharding(action.type)) {
      sharding(instruction);
    } else {
      part(instruction);
      if (!communicates) last_compute_ = index_;
    }
    lane.push_back(index_);
    program_.instructions.push_back(instruction);
  }

  void part(Instruction& instruction) {
    switch (instruction.opcode) {
      case Opcode::kForward:
      case Opcode::kExchange:
        return forward(instruction);
      case Opcode::kRecompute:
        instruction.in[0] =
            read(instruction, ValueKind::kSaved, instruction.action.stage, instruction.part);
        instruction.out[0] =
            write(instruction, ValueKind::kRecomputed, instruction.action.stage, instruction.part);
        return;
      case Opcode::kBackwardWeight:
        instruction.in[0] = read(instruction, ValueKind::kSavedForWeight, instruction.action.stage,
                                 instruction.part);
        return;
      default:
        return backward(instruction);
    }
  }

  void forward(Instruction& instruction) {
    const int stage = instruction.action.stage, part = instruction.part;
    if (stage > 0 || part > 0)
      instruction.in[0] = read(instruction, ValueKind::kActivation, stage, part);
    if (part < last_part(stage)) {
      instruction.out[0] = write(instruction, ValueKind::kActivation, stage, part + 1);
    } else if (stage < last_stage()) {
      instruction.out[0] = write(instruction, ValueKind::kActivation, stage + 1, 0);
    }
    if (!program_.forward_only && part_of(stage, part).has_backward)
      instruction.out[1] = write(instruction, ValueKind::kSaved, stage, part);
  }

  void backward(Instruction& instruction) {
    const int stage = instruction.action.stage, part = instruction.part;
    if (stage < last_stage() || part < last_part(stage))
      instruction.in[1] = read(instruction, ValueKind::kGradient, stage, part);
    instruction.in[0] = read(
        instruction, part_of(stage, part).recompute ? ValueKind::kRecomputed : ValueKind::kSaved,
        stage, part);
    int before = part - 1;
    while (before >= 0 && !part_of(stage, before).has_backward) --before;
    if (before >= 0) {
      instruction.out[0] = write(instruction, ValueKind::kGradient, stage, before);
    } else if (stage > 0) {
      instruction.out[0] =
          write(instruction, ValueKind::kGradient, stage - 1, last_part(stage - 1));
    }
    if (instruction.opcode == Opcode::kBackwardInput)
      instruction.out[1] = write(instruction, ValueKind::kSavedForWeight, stage, part);
  }

  void message(Instruction& instruction) {
    const Action& action = instruction.action;
    const bool forward = direction_of(action.type) == Direction::kForward;
    const bool send = is_send(action.type);
    const ValueKind kind = forward ? ValueKind::kActivation : ValueKind::kGradient;
    const int reader = send ? other_end(action).stage : action.stage;
    const int reading_part = forward ? 0 : last_part(reader);
    instruction.peer = schedule_.schedule().rank_of(other_end(action).stage, action.microbatch);
    instruction.opcode = send ? Opcode::kSend : Opcode::kRecv;
    if (send) {
      sends_[{direction_of(action.type), action.stage, action.microbatch}] = index_;
      instruction.in[0] = read(instruction, kind, reader, reading_part);
    } else {
      instruction.out[0] = write(instruction, kind, reader, reading_part);
    }
  }

  void send_wait(Instruction& instruction) {
    const Action send = awaited_send(instruction.action);
    const auto found = sends_.find({direction_of(send.type), send.stage, send.microbatch});
    PLAIT_CHECK(found != sends_.end(), "a verified schedule waits for what it has sent");
    instruction.peer = schedule_.schedule().rank_of(other_end(send).stage, send.microbatch);
    instruction.wait = found->second;
  }

  void reduction(Instruction& instruction) {
    const int stage = instruction.action.stage, group = static_cast<int>(instruction.group);
    if (instruction.opcode == Opcode::kReduceScatter) {
      wait_for(instruction, last_compute_);
      instruction.out[0] = write(instruction, ValueKind::kReducedRows, stage, group);
    } else if (instruction.opcode == Opcode::kReduceGather) {
      instruction.in[0] = read(instruction, ValueKind::kReducedRows, stage, group);
      instruction.out[0] = write(instruction, ValueKind::kReducedSums, stage, group);
    } else {
      const ValueKind kind =
          options_.shard == ShardMode::kNone ? ValueKind::kReducedSums : ValueKind::kReducedRows;
      instruction.in[0] = read(instruction, kind, stage, group);
    }
  }

  /// Behind the last RESHARD before it a gather has the room that was given back.
  void sharding(Instruction& instruction) {
    const int stage = instruction.action.stage, group = static_cast<int>(instruction.group);
    if (instruction.opcode == Opcode::kUnshardGather) {
      wait_for(instruction, last_free_);
      instruction.out[0] = write(instruction, ValueKind::kGathered, stage, group);
    } else if (instruction.opcode == Opcode::kUnshardEnd) {
      instruction.in[0] = read(instruction, ValueKind::kGathered, stage, group);
    }
  }

  /// On an instruction of the other lane.
  void wait_for(Instruction& instruction, std::int32_t other) {
    PLAIT_CHECK(instruction.wait == kNoWait, "an instruction waits for at most one other");
    instruction.wait = other;
    if (other == kNoWait) return;
    std::int32_t& known = known_[static_cast<std::size_t>(instruction.lane)];
    known = std::max(known, lane_position_[static_cast<std::size_t>(other)]);
  }

  std::int32_t read(Instruction& instruction, ValueKind kind, int stage, int part) {
    const auto found = live_.find({kind, stage, part, instruction.action.microbatch});
    PLAIT_CHECK(found != live_.end(), "a verified schedule reads what was written");
    const auto [slot, writer] = found->second;
    live_.erase(found);
    const Instruction& written_by = program_.instructions[static_cast<std::size_t>(writer)];
    if (written_by.lane != instruction.lane) {
      wait_for(instruction, writer);
    } else if (is_collective(written_by.opcode) && kind != ValueKind::kSaved) {
      // Its issue is over, as the lane is in order, but not the collective.
      PLAIT_CHECK(instruction.wait == kNoWait, "an instruction waits for at most one other");
      instruction.wait = writer;
    }
    free_.push_back({slot, instruction.lane, position_});
    return slot;
  }

  std::int32_t write(const Instruction& instruction, ValueKind kind, int stage, int part) {
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
    live_[{kind, stage, part, instruction.action.microbatch}] = {slot, index_};
    return slot;
  }

  const VerifiedSchedule& schedule_;
  const Placement& placement_;
  const LowerOptions& options_;
  RankProgram program_;
  std::int32_t pair_ = -1;      // the last pair's number
  std::set<std::size_t> sent_;  // positions of sends and waits that stand in the pair before
  std::int32_t slots_ = 0;
  std::int32_t index_ = 0;     // of the instruction being added
  std::int32_t position_ = 0;  // of it in its lane
  std::int32_t last_compute_ = kNoWait;
  std::int32_t last_free_ = kNoWait;             // the last RESHARD that frees
  std::map<int, Shardings> shardings_;           // by stage
  std::vector<std::pair<Action, int>> unended_;  // gathers, in order of issue, and their numbers
  std::vector<Action> reductions_;               // so far
  std::vector<Action> open_reductions_;          // without a wait so far
  std::map<std::tuple<Direction, int, int>, std::int32_t> sends_;    // by stage and micro-batch
  std::map<ValueName, std::pair<std::int32_t, std::int32_t>> live_;  // slot and writer
  std::vector<std::int32_t> lane_position_;                          // by instruction
  std::vector<FreeSlot> free_;
  // By lane: the last position of the other lane that its waits so far prove to be over. For the
  // communication lane that is completed compute; for the compute lane it is what was issued, since
  // messages are issued in order and a send gives up its slot when it is issued.
  std::array<std::int32_t, 2> known_{-1, -1};
};

}  // namespace

Message message_of(const RankProgram& program, const Instruction& instruction) {
  return message_of(instruction.action, program.rank, instruction.peer);
}

Collective collective_of(const Instruction& instruction) {
  Collective collective;
  if (instruction.opcode == Opcode::kReduceScatter)
    collective.kind = CollectiveKind::kReduceScatter;
  if (instruction.opcode == Opcode::kReduceGather || instruction.opcode == Opcode::kUnshardGather)
    collective.kind = CollectiveKind::kAllGather;
  collective.group = instruction.group;
  collective.direction =
      instruction.opcode == Opcode::kExchangeBack ? Direction::kBackward : Direction::kForward;
  collective.stage = instruction.action.stage;
  collective.part = instruction.part;
  collective.microbatch = instruction.action.microbatch;
  return collective;
}

std::string describe(const RankProgram& program, const Instruction& instruction,
                     const Column& column) {
  std::string text = print_action(instruction.action);
  const int peer = column.rank_of(instruction.peer);
  if (instruction.opcode == Opcode::kSend) return text + " to rank " + std::to_string(peer);
  if (instruction.opcode == Opcode::kRecv) return text + " from rank " + std::to_string(peer);
  if (instruction.opcode == Opcode::kWaitSend) return text + " to rank " + std::to_string(peer);
  if (is_reduction(instruction.action.type)) {
    if (instruction.opcode == Opcode::kReduceNothing) return text;
    static constexpr std::array<const char*, 3> kPhases{" scatter", " gather", " end"};
    text += kPhases[static_cast<std::size_t>(instruction.part)];
    return text + (instruction.group == Group::kData ? " of experts" : "");
  }
  if (is_sharding(instruction.action.type)) {
    if (instruction.opcode == Opcode::kUnshardGather) text += " gather";
    if (instruction.opcode == Opcode::kUnshardEnd) text += " end";
    return text + (instruction.group == Group::kData ? " of experts" : "");
  }
  if (program.shapes.empty() || has_nothing_to_do(instruction.opcode)) return text;
  const StageShape& shape = program.shapes[static_cast<std::size_t>(instruction.action.stage)];
  const PartShape& part = shape[static_cast<std::size_t>(instruction.part)];
  if (shape.size() > 1) text += " " + part.kind;
  if (part.unit >= 0) text += " " + std::to_string(part.unit);
  return text;
}

Expected<RankProgram> lower(const VerifiedSchedule& schedule, int rank,
                            const LowerOptions& options) {
  PLAIT_CHECK(schedule.lowered(), "a program needs a schedule with its communication");
  for (const StageShape& shape : options.shapes) {
    PLAIT_CHECK(!shape.empty() && shape.front().lane == Lane::kCompute &&
                    shape.back().lane == Lane::kCompute && shape.back().has_backward,
                "a stage begins and ends with a part that computes");
  }
  return Lowering(schedule, rank, options).run();
}

}  // namespace plait
