/// The simulator's engine. run() advances every rank as far as the times of the values it reads are
/// known. replay() then runs one rank again, with all times known, and tells an observer.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "plait/base/check.h"
#include "plait/ir/direction.h"
#include "plait/ir/schedule.h"
#include "plait/sim/cost_model.h"

namespace plait::sim_detail {

inline constexpr Nanoseconds kUnknown = -1;

/// What happened to one member of a block.
struct MemberTimes {
  Nanoseconds begin = 0;  ///< on the compute lane
  Nanoseconds end = 0;
  Nanoseconds done = 0;  ///< its result is there
  std::array<Nanoseconds, 2> communication{
      0, -1};  ///< begin and end of a braid's segments on the other lane
};

/// What an I or a B by itself recomputes; empty: begin > end.
struct RecomputeTimes {
  Nanoseconds begin = 0;
  Nanoseconds end = -1;

  bool any() const { return begin <= end; }
};

/// What the compute lane runs in one go: an action, or a pair that is not priced as a sequence.
struct Block {
  std::size_t position = 0;           ///< in the rank's list
  std::span<const Action> members{};  ///< one or two
  std::array<MemberTimes, 2> times{};
  Nanoseconds free_before = 0;  ///< when the lane was free for it
  Nanoseconds made = kUnknown;  ///< when the last value it reads from another rank was made
  Nanoseconds parameters = 0;   ///< when its stage's parameters were there
  RecomputeTimes recompute{};   ///< before its only member
  Nanoseconds begin = 0;        ///< of the recompute or the first member
  Nanoseconds end = 0;          ///< the lane is free again
};

/// A message or parameter action: on the communication lane or its links, but for RESHARD.
struct Service {
  std::size_t position = 0;
  const Action* action = nullptr;
  Nanoseconds begin = 0;
  Nanoseconds end = 0;
};

/// The observer of run(): sees nothing.
struct NoObserver {
  static constexpr bool kWanted = false;
  static constexpr bool kMessages = false;  ///< wants sends and receives where they take no time
};

/// Not on ListClock (ir/list_clock.h): pairs are blocks with a price of their own, messages queue
/// on links, parameters have to come, and each rank is run again for what is told of it.
class Engine {
 public:
  Engine(const Schedule& schedule, const CostModel& costs);

  /// Times every value. Cost: O(actions).
  void run();

  /// Runs one rank again. Calls observer.block(Block) for each block of the compute lane in its
  /// order, and observer.service(Service) for the rest. Only after run().
  template <typename Observer>
  void replay(int rank, Observer& observer);

  /// A value: what F, or what I or B, of one (stage, micro-batch) makes.
  std::size_t cell(int stage, int microbatch) const {
    return static_cast<std::size_t>(stage) * microbatches_ + static_cast<std::size_t>(microbatch);
  }
  Nanoseconds made(Direction direction, std::size_t value) const {
    return made_[index_of(direction)][value];
  }
  /// When its reader has it; needs crosses().
  Nanoseconds there(Direction direction, int stage, int microbatch) const {
    const std::size_t value = cell(stage, microbatch);
    if (network_ != nullptr) return arrived_[index_of(direction)][value];
    const Nanoseconds time = made_[index_of(direction)][value];
    return time == kUnknown ? kUnknown : time + costs_.actions.hop;
  }
  /// True if the stage's result goes to another rank.
  bool crosses(Direction direction, int stage, int microbatch) const {
    const int other = stage_after(direction, stage);
    return rank_of(stage, microbatch) != rank_of(other, microbatch);
  }
  int rank_of(int stage, int microbatch) const {
    const int first = copy_start_.empty() ? 0 : copy_start_[static_cast<std::size_t>(microbatch)];
    const int index = first + stage;
    return schedule_.placement.rank_of_stage[static_cast<std::size_t>(index)];
  }
  const Schedule& schedule() const { return schedule_; }
  const CostModel& costs() const { return costs_; }
  std::span<const Action> list(int rank) const {
    return schedule_.ranks[static_cast<std::size_t>(rank)];
  }
  /// The value an action reads from a neighbouring stage, if any.
  struct Read {
    bool any = false;
    Direction direction = Direction::kForward;
    int stage = 0;  ///< that makes it
  };
  Read read_of(const Action& action) const {
    if (!passes_value(action.type)) return {};
    const Direction direction = direction_of(action.type);
    const int maker = stage_before(direction, action.stage);
    if (maker < 0 || maker > last_stage_) return {};
    return {true, direction, maker};
  }
  /// What one action costs.
  Nanoseconds cost(const Action& action) const {
    return cost_[static_cast<std::size_t>(action.stage)][compute_index(action.type)];
  }
  /// What it recomputes first.
  Nanoseconds recompute(const Action& action) const {
    if (!passes_gradient(action.type)) return 0;
    return costs_.actions.recompute_of(static_cast<std::size_t>(action.stage));
  }

 private:
  static constexpr std::int64_t kNothing = -1;

  /// A directed link, with the posted ends whose other end is not posted yet: all sends or all
  /// receives.
  struct Edge {
    struct Posted {
      std::size_t value;
      Nanoseconds time;
    };
    std::deque<Posted> posted;
    bool sends = false;  // which side is ahead
    Nanoseconds free = 0;
    Nanoseconds transfer = 0;
  };
  struct RankState {
    std::size_t next = 0;  // compute lane: position in the list
    Nanoseconds free = 0;
    Nanoseconds braid_free = 0;  // communication lane: the end of the last braid's segments there
    std::size_t next_post = 0;   // communication lane: position in the list
    Nanoseconds post_free = 0;   // communication lane: it may post its next action
    Nanoseconds collectives_free = 0;  // the rank's link to its replicas
    Nanoseconds resharded = 0;         // compute lane: the end of its last RESHARD
    // By UNSHARD and REDUCE_GRAD, in list order: when what stands before it on the compute lane
    // lets it begin. The compute lane writes them as it passes, the communication lane reads them.
    std::vector<Nanoseconds> begins;
    std::size_t next_begin = 0;
  };
  struct ParameterState {
    int coming = 0;  // UNSHARDs that the compute lane has passed and the other lane has not timed
    Nanoseconds there = 0;           // the end of its last UNSHARD
    Nanoseconds reduced = kUnknown;  // the end of its REDUCE_GRAD
  };
  /// When what an action reads is there; kUnknown if it is not known yet.
  struct Input {
    Nanoseconds there = 0;
    Nanoseconds made = kUnknown;      // if another rank made it
    Nanoseconds own = 0;              // what the rank itself made for it before
    std::int64_t awaited = kNothing;  // name of the value of another rank that is not made yet
  };

  static std::size_t index_of(Direction direction) { return static_cast<std::size_t>(direction); }
  std::int64_t name_of(Direction direction, std::size_t value) const {
    return static_cast<std::int64_t>(2 * value + index_of(direction));
  }
  std::size_t copy_of(int microbatch) const {
    return copy_start_.empty()
               ? 0
               : static_cast<std::size_t>(copy_start_[static_cast<std::size_t>(microbatch)]);
  }
  ParameterState& parameters(int rank, int stage);
  std::int32_t edge_of(Direction direction, int stage, int microbatch) const {
    return edge_of_[index_of(direction)][copy_of(microbatch) + static_cast<std::size_t>(stage)];
  }
  Nanoseconds parameter_cost(const Action& action) const {
    const auto& costs = action.type == ActionType::kUnshard   ? unshard_
                        : action.type == ActionType::kReshard ? costs_.reshard
                                                              : reduce_grad_;
    return costs.empty() ? 0 : costs[static_cast<std::size_t>(action.stage)];
  }
  void make_edges();
  void wake(int rank, Direction direction, std::size_t value) {
    const auto index = static_cast<std::size_t>(rank);
    if (waits_for_[index] != name_of(direction, value)) return;
    waits_for_[index] = kNothing;
    ready_.push_back(rank);
  }
  /// When the send that a WAIT_SEND names has arrived; if that is not known yet, it wakes the rank.
  Nanoseconds arrival_of_send(int rank, const Action& wait);
  void post(Direction direction, int stage, int microbatch, bool send, Nanoseconds time);

  Input input_of(const Action& action) const;
  template <typename Observer>
  void finish(const Action& action, Nanoseconds time);
  template <typename Observer>
  void advance(int rank, RankState& state, Observer& observer);
  template <typename Observer>
  bool step(int rank, RankState& state, Observer& observer);
  template <typename Observer>
  bool single(int rank, RankState& state, Observer& observer);
  template <typename Observer>
  bool pair(int rank, RankState& state, Observer& observer);
  Nanoseconds block_cost(const Action& first, const Action& second) const;
  template <typename Observer>
  void advance_posts(int rank, RankState& state, Observer& observer);
  template <typename Observer>
  bool step_post(int rank, RankState& state, Observer& observer);

  const Schedule& schedule_;
  const CostModel& costs_;
  const Network* network_;
  int last_stage_;
  std::size_t microbatches_;
  bool has_parameter_actions_ = false;
  std::vector<Nanoseconds> unshard_;      // by stage
  std::vector<Nanoseconds> reduce_grad_;  // by stage
  bool posts_ = false;                    // the communication lane has something to do
  bool braided_ = false;                  // a result may be there after the compute lane went on
  std::vector<std::array<Nanoseconds, 4>> cost_;  // by stage, F I W B
  std::vector<std::int32_t> copy_start_;          // by micro-batch: copy * S; empty: one copy
  std::array<std::vector<Nanoseconds>, 2> made_;  // by Direction and cell
  std::array<std::vector<Nanoseconds>, 2> arrived_;
  std::array<std::vector<std::int32_t>, 2> edge_of_;  // by Direction, copy * S + sending stage
  std::vector<Edge> edges_;
  std::vector<ParameterState> parameters_;   // copy * S + stage
  std::vector<std::int64_t> waits_for_;      // by rank: name of a value
  std::vector<std::int64_t> sends_awaited_;  // by rank: name of the value that its WAIT_SEND names
  std::vector<int> ready_;
};

inline Engine::Input Engine::input_of(const Action& action) const {
  const Read read = read_of(action);
  Input input;
  if (read.any) {
    const std::size_t value = cell(read.stage, action.microbatch);
    input.there = made_[index_of(read.direction)][value];
    if (crosses(read.direction, read.stage, action.microbatch)) {
      input.made = input.there;
      input.there = there(read.direction, read.stage, action.microbatch);
      if (input.there == kUnknown) {
        input.awaited = name_of(read.direction, value);
        return input;
      }
    }
  }
  // In a braid a member's result may come after the compute lane has gone on to the next block.
  if (braided_ && action.type != ActionType::kForward) {
    const std::size_t own = cell(action.stage, action.microbatch);
    const Direction before =
        action.type == ActionType::kBackwardWeight ? Direction::kBackward : Direction::kForward;
    input.own = made_[index_of(before)][own];
    input.there = std::max(input.there, input.own);
  }
  return input;
}

template <typename Observer>
void Engine::finish(const Action& action, Nanoseconds time) {
  if constexpr (Observer::kWanted) return;
  if (action.type == ActionType::kBackwardWeight) return;
  const Direction direction = direction_of(action.type);
  const std::size_t value = cell(action.stage, action.microbatch);
  made_[index_of(direction)][value] = time;
  const int reader = stage_after(direction, action.stage);
  if (network_ == nullptr && reader >= 0 && reader <= last_stage_)
    wake(rank_of(reader, action.microbatch), direction, value);
}

template <typename Observer>
void Engine::advance(int rank, RankState& state, Observer& observer) {
  const std::size_t size = list(rank).size();
  while (true) {
    if (posts_ || Observer::kMessages) advance_posts(rank, state, observer);
    if (state.next == size || !step(rank, state, observer)) return;
  }
}

template <typename Observer>
bool Engine::step(int rank, RankState& state, Observer& observer) {
  const Action& action = list(rank)[state.next];
  switch (action.type) {
    case ActionType::kForward:
    case ActionType::kBackwardInput:
    case ActionType::kBackwardWeight:
    case ActionType::kBackward:
      return single(rank, state, observer);
    case ActionType::kOverlapFB:
      if (costs_.pairs.pricing != PairPricing::kSequence) return pair(rank, state, observer);
      break;
    case ActionType::kUnshard:  // its memory is that of the stages resharded before it
      state.begins.push_back(state.resharded);
      ++parameters(rank, action.stage).coming;
      break;
    case ActionType::kReduceGrad:
      state.begins.push_back(state.free);
      break;
    case ActionType::kReshard: {
      const Nanoseconds begin = state.free;
      state.free += parameter_cost(action);
      state.resharded = state.free;
      if constexpr (Observer::kWanted)
        observer.service(Service{state.next, &action, begin, state.free});
      break;
    }
    case ActionType::kWaitReduceGrad: {
      const Nanoseconds reduced = parameters(rank, action.stage).reduced;
      if (reduced == kUnknown) return false;  // a WAIT_SEND holds the communication lane back
      const Nanoseconds begin = state.free;
      state.free = std::max(state.free, reduced);
      if constexpr (Observer::kWanted)
        observer.service(Service{state.next, &action, begin, state.free});
      break;
    }
    default:  // idle slots, and what the communication lane does
      break;
  }
  ++state.next;
  return true;
}

template <typename Observer>
bool Engine::single(int rank, RankState& state, Observer& observer) {
  const Action& action = list(rank)[state.next];
  const Input input = input_of(action);
  if (input.awaited != kNothing) {
    waits_for_[static_cast<std::size_t>(rank)] = input.awaited;
    return false;
  }
  Nanoseconds begin = state.free;
  Nanoseconds parameters_there = 0;
  if (has_parameter_actions_) {
    const ParameterState& parameter = parameters(rank, action.stage);
    if (parameter.coming > 0) return false;  // a WAIT_SEND holds the communication lane back
    parameters_there = parameter.there;
    begin = std::max(begin, parameters_there);
  }
  RecomputeTimes recomputed;
  if (const Nanoseconds time = recompute(action); time > 0) {
    begin = std::max(begin, input.own);
    recomputed = {begin, begin + time};
    begin = recomputed.end;
  }
  begin = std::max(begin, input.there);
  const Nanoseconds end = begin + cost(action);
  if constexpr (Observer::kWanted) {
    Block block{state.next, {&action, 1}, {}, state.free, input.made, parameters_there};
    block.times[0] = {begin, end, end};
    block.recompute = recomputed;
    block.begin = recomputed.any() ? recomputed.begin : begin;
    block.end = end;
    observer.block(block);
  }
  state.free = end;
  ++state.next;
  finish<Observer>(action, end);
  return true;
}

template <typename Observer>
bool Engine::pair(int rank, RankState& state, Observer& observer) {
  const std::span<const Action> members = list(rank).subspan(state.next + 1, 2);
  const std::array<Input, 2> inputs{input_of(members[0]), input_of(members[1])};
  for (const Input& input : inputs) {
    if (input.awaited == kNothing) continue;
    waits_for_[static_cast<std::size_t>(rank)] = input.awaited;
    return false;
  }
  Block block{state.next, members, {}, state.free, std::max(inputs[0].made, inputs[1].made)};
  for (const Action& member : members) {
    if (!has_parameter_actions_) break;
    const ParameterState& parameter = parameters(rank, member.stage);
    if (parameter.coming > 0) return false;
    block.parameters = std::max(block.parameters, parameter.there);
  }
  if (costs_.pairs.pricing == PairPricing::kBlock) {
    block.begin = std::max({state.free, inputs[0].there, inputs[1].there, block.parameters});
    block.end = block.begin + block_cost(members[0], members[1]);
    block.times = {MemberTimes{block.begin, block.end, block.end},
                   MemberTimes{block.begin, block.end, block.end}};
  } else {
    const std::size_t forward = members[0].type == ActionType::kForward ? 0 : 1;
    const BraidStart start{{std::max(state.free, block.parameters), state.braid_free},
                           inputs[forward].there,
                           inputs[1 - forward].there,
                           inputs[1 - forward].own};
    const BraidTimes times =
        costs_.pairs.braid->run(start, members[1 - forward].type == ActionType::kBackward);
    for (std::size_t i = 0; i < 2; ++i) {
      const BraidMember& member = i == forward ? times.forward : times.backward;
      const auto& compute = member.on_lane[0];
      block.times[i] = {compute[0], compute[1], member.end};
      if (member.has_lane[1]) block.times[i].communication = member.on_lane[1];
    }
    block.begin = std::min(block.times[0].begin, block.times[1].begin);
    block.end = times.lane_free[0];
    state.braid_free = times.lane_free[1];
  }
  if constexpr (Observer::kWanted) observer.block(block);
  state.free = block.end;
  state.next += 3;
  finish<Observer>(members[0], block.times[0].done);
  finish<Observer>(members[1], block.times[1].done);
  return true;
}

template <typename Observer>
void Engine::advance_posts(int rank, RankState& state, Observer& observer) {
  const std::size_t size = list(rank).size();
  while (state.next_post < size && step_post(rank, state, observer)) ++state.next_post;
}

template <typename Observer>
bool Engine::step_post(int rank, RankState& state, Observer& observer) {
  const Action& action = list(rank)[state.next_post];
  Service service{state.next_post, &action, state.post_free, state.post_free};
  if (is_communication(action.type)) {
    const bool send = is_send(action.type);
    const Direction direction = direction_of(action.type);
    const int stage = send_of(action).stage;
    const std::size_t value = cell(stage, action.microbatch);
    if (network_ != nullptr) {
      const Nanoseconds time = made_[index_of(direction)][value];
      if (send && time == kUnknown) return false;
      if (send) state.post_free = std::max(state.post_free, time);
      if constexpr (!Observer::kWanted)
        post(direction, stage, action.microbatch, send, state.post_free);
    }
    if constexpr (Observer::kWanted) {
      service.end = there(direction, stage, action.microbatch);
      if (network_ == nullptr) {  // there are no edges then
        service.begin = made_[index_of(direction)][value];
        if (send) service.end = service.begin;
      } else {
        const auto edge = static_cast<std::size_t>(edge_of(direction, stage, action.microbatch));
        service.begin = service.end - edges_[edge].transfer;
      }
      observer.service(service);
    }
    return true;
  }
  if (is_send_wait(action.type)) {
    const Nanoseconds over = arrival_of_send(rank, action);
    if (network_ == nullptr) {  // the lane has no clock of its own
      service.begin = service.end = over;
      if constexpr (Observer::kWanted) observer.service(service);
      return true;
    }
    if (over == kUnknown) return false;
    service.end = std::max(state.post_free, over);
  } else if (action.type == ActionType::kUnshard || action.type == ActionType::kReduceGrad) {
    if (state.next_begin == state.begins.size()) return false;  // the compute lane is not here yet
    state.post_free = std::max(state.post_free, state.begins[state.next_begin++]);
    service.begin = std::max(state.post_free, state.collectives_free);
    service.end = service.begin + parameter_cost(action);
    state.collectives_free = service.end;
    ParameterState& parameter = parameters(rank, action.stage);
    if (action.type == ActionType::kReduceGrad) {
      parameter.reduced = service.end;
    } else {
      --parameter.coming;
      parameter.there = service.end;
    }
    if constexpr (Observer::kWanted) observer.service(service);
    return true;
  } else {
    return true;
  }
  state.post_free = service.end;
  if constexpr (Observer::kWanted) observer.service(service);
  return true;
}

template <typename Observer>
void Engine::replay(int rank, Observer& observer) {
  static_assert(Observer::kWanted);
  if (has_parameter_actions_) {
    for (const int stage : schedule_.placement.stages_of(rank)) parameters(rank, stage) = {};
  }
  RankState state;
  advance(rank, state, observer);
  PLAIT_CHECK(state.next == list(rank).size(), "a replay comes to the end of the list");
}

}  // namespace plait::sim_detail
