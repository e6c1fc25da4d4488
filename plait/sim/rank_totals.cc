#include "plait/sim/rank_totals.h"

#include <limits>

namespace plait::sim_detail {
namespace {

/// What one rank holds; changes come in the order in which they are made.
class Memory {
 public:
  void start(std::int64_t amount) {
    held_ = amount;
    peak_.amount = amount;
  }
  void change(std::int64_t amount, std::size_t position, const Action& action, Nanoseconds time) {
    held_ += amount;
    if (held_ > peak_.amount) peak_ = {held_, static_cast<int>(position), action, time};
  }
  const MemoryPeak& peak() const { return peak_; }

 private:
  std::int64_t held_ = 0;
  MemoryPeak peak_;
};

/// A change of the bytes held, kept where messages come in between.
struct ByteChange {
  Nanoseconds time = 0;
  Bytes amount = 0;
  std::size_t position = 0;
  const Action* action = nullptr;
};

class RankTotals {
 public:
  static constexpr bool kWanted = true;
  static constexpr bool kMessages = false;

  RankTotals(const Engine& engine, int rank)
      : engine_(engine),
        costs_(engine.costs()),
        has_bytes_(costs_.has_bytes()),
        receives_(costs_.network && costs_.network->message_bytes > 0) {
    find_parameter_actions(rank);
    by_time_ = by_time_ || receives_;
    Bytes constant = 0;
    const Placement& placement = engine.schedule().placement;
    for (std::size_t i = 0; i < placement.rank_of_stage.size(); ++i) {
      if (placement.rank_of_stage[i] != rank) continue;
      const std::size_t stage = i % static_cast<std::size_t>(placement.stages());
      constant += unshards_[stage] ? share(costs_.parameter_bytes, stage)
                                   : entry(costs_.parameter_bytes, stage);
      if (gradients_[stage] == Gradients::kHeld) constant += entry(costs_.gradient_bytes, stage);
    }
    bytes_.start(constant);
  }

  void block(const Block& block) {
    first_action_ = std::min(first_action_, block.begin);
    if (blocks_++ == 0) rank_.first_begin = block.begin;
    gap(block);
    busy(block);
    rank_.last_end = block.end;
    memory(block);
    for (std::size_t i = 0; i < block.members.size(); ++i) {
      last_action_ = std::max(last_action_, block.times[i].done);
      if (block.times[i].communication[0] <= block.times[i].communication[1])
        first_action_ = std::min(first_action_, block.times[i].communication[0]);
    }
    last_action_ = std::max(last_action_, block.end);
  }

  void service(const Service& service) {
    const ActionType type = service.action->type;
    if (has_bytes_) hold(service);
    // Their time is the wait of a reader.
    if (is_communication(type) || is_send_wait(type)) return;
    first_action_ = std::min(first_action_, service.begin);
    last_action_ = std::max(last_action_, service.end);
    if (type == ActionType::kReshard) rank_.busy_ns += service.end - service.begin;
    if (type == ActionType::kWaitReduceGrad) rank_.exposed_comm_ns += service.end - service.begin;
  }

  /// Without fill and drain, which depend on when the step of all ranks begins and ends:
  /// add_up_ranks() adds them.
  RankPrediction take() {
    if (by_time_) replay_bytes();
    rank_.peak_activations = activations_.peak();
    if (has_bytes_) rank_.peak_bytes = bytes_.peak();
    return rank_;
  }
  Nanoseconds first_action() const { return first_action_; }
  Nanoseconds last_action() const { return last_action_; }
  std::int64_t blocks() const { return blocks_; }

 private:
  /// A stage's gradients. Replicas that reduce them hold them whole from the first backward to the
  /// end of the REDUCE_GRAD, and their share behind it; otherwise they are held the whole step.
  enum class Gradients : std::uint8_t { kHeld, kNone, kWhole, kShared };

  void find_parameter_actions(int rank) {
    const auto stages = static_cast<std::size_t>(engine_.schedule().placement.stages());
    unshards_.assign(stages, false);
    gradients_.assign(stages, Gradients::kHeld);
    for (const Action& action : engine_.list(rank)) {
      const auto stage = static_cast<std::size_t>(action.stage);
      if (action.type == ActionType::kUnshard && !costs_.parameter_bytes.empty()) {
        by_time_ = unshards_[stage] = true;
      } else if (action.type == ActionType::kReduceGrad && costs_.collectives) {
        gradients_[stage] = Gradients::kNone;
        by_time_ = true;
      }
    }
  }

  /// What a rank keeps of a stage that its replicas share; nothing where their number is unknown.
  Bytes share(const std::vector<Bytes>& bytes, std::size_t stage) const {
    return costs_.collectives ? costs_.collectives->share_of(entry(bytes, stage)) : 0;
  }

  static std::int64_t entry(const std::vector<std::int64_t>& amounts, std::size_t stage) {
    return amounts.empty() ? 0 : amounts[stage];
  }

  /// Idle time before a block in which all it waits for was made: it waits for bytes.
  void gap(const Block& block) {
    const bool waits_for_parameters = block.parameters > block.free_before;
    Nanoseconds from = std::max(block.free_before, block.made);
    Nanoseconds to = block.begin;
    if (block.recompute.any()) {  // before it for parameters, behind it for the gradient
      if (waits_for_parameters) rank_.exposed_comm_ns += block.parameters - block.free_before;
      if (block.made == kUnknown) return;
      from = std::max(block.recompute.end, block.made);
      to = block.times[0].begin;
    } else if (block.made == kUnknown && !waits_for_parameters) {
      return;
    }
    if (from < to) rank_.exposed_comm_ns += to - from;
  }

  void busy(const Block& block) {
    const MemberTimes& first = block.times[0];
    rank_.busy_ns += first.end - first.begin;
    if (block.recompute.any()) rank_.busy_ns += block.recompute.end - block.recompute.begin;
    if (block.members.size() < 2) return;
    const MemberTimes& second = block.times[1];
    rank_.busy_ns += second.end - second.begin;
    const Nanoseconds begin = std::max(first.begin, second.begin);
    const Nanoseconds end = std::min(first.end, second.end);
    if (begin < end) rank_.busy_ns -= end - begin;
  }

  void memory(const Block& block) {
    const bool forward_only = engine_.schedule().forward_only;
    const std::size_t member_position = block.position + (block.members.size() > 1 ? 1 : 0);
    for (std::size_t i = 0; i < block.members.size(); ++i) {
      const Action& action = block.members[i];
      if (action.type == ActionType::kForward) {
        begin_forward(action, member_position + i, block.times[i].begin);
      } else if (has_bytes_) {
        const Nanoseconds begin = block.members.size() > 1 ? block.times[i].begin : block.begin;
        if (recomputed(action) > 0)
          change_bytes({begin, recomputed(action), member_position + i, &action});
        Gradients& gradients = gradients_[static_cast<std::size_t>(action.stage)];
        if (gradients == Gradients::kNone) {
          gradients = Gradients::kWhole;
          change_bytes({begin, gradient_bytes(action), member_position + i, &action});
        }
      }
      if (const Bytes scratch = scratch_of(action); scratch > 0)
        change_bytes({block.times[i].begin, scratch, member_position + i, &action});
    }
    for (std::size_t i = 0; i < block.members.size(); ++i) {
      const Action& action = block.members[i];
      const auto stage = static_cast<std::size_t>(action.stage);
      const std::size_t position = member_position + i;
      const Nanoseconds end = block.times[i].done;
      if (const Bytes scratch = scratch_of(action); scratch > 0)
        change_bytes({end, -scratch, position, &action});
      if (receives_) drop_received(action, position, end);
      const bool split = action.type == ActionType::kBackwardInput;
      if (action.type == ActionType::kForward && !forward_only) continue;
      if (!split) activations_.change(-1, position, action, end);
      if (!has_bytes_) continue;
      const Bytes between = entry(costs_.between_i_and_w_bytes, stage);
      const bool weight = action.type == ActionType::kBackwardWeight;
      const Bytes released =
          weight ? between : entry(costs_.activation_bytes, stage) + recomputed(action);
      change_bytes({end, (split ? between : 0) - released, position, &action});
    }
  }

  Bytes gradient_bytes(const Action& action) const {
    return entry(costs_.gradient_bytes, static_cast<std::size_t>(action.stage));
  }

  Bytes scratch_of(const Action& action) const {
    return entry(costs_.scratch_bytes[compute_index(action.type)],
                 static_cast<std::size_t>(action.stage));
  }

  /// What an I or a B holds from its recompute's begin to its own end.
  Bytes recomputed(const Action& action) const {
    if (!passes_gradient(action.type)) return 0;
    return entry(costs_.recomputed_bytes, static_cast<std::size_t>(action.stage));
  }

  void begin_forward(const Action& action, std::size_t position, Nanoseconds begin) {
    activations_.change(1, position, action, begin);
    const auto stage = static_cast<std::size_t>(action.stage);
    if (has_bytes_) change_bytes({begin, entry(costs_.activation_bytes, stage), position, &action});
  }

  /// A received message is held from its arrival to its reader's end.
  void drop_received(const Action& action, std::size_t position, Nanoseconds end) {
    const Engine::Read read = engine_.read_of(action);
    if (!read.any || !engine_.crosses(read.direction, read.stage, action.microbatch)) return;
    const Bytes bytes = costs_.network->message_bytes;
    const Nanoseconds arrival = engine_.there(read.direction, read.stage, action.microbatch);
    changes_.push_back({arrival, bytes, position, &action});
    changes_.push_back({end, -bytes, position, &action});
  }

  /// Whole parameters from UNSHARD's begin to RESHARD's end, whole gradients until REDUCE_GRAD's
  /// end, and what was sent until its wait.
  void hold(const Service& service) {
    const Action& action = *service.action;
    if (action.type == ActionType::kUnshard || action.type == ActionType::kReshard) {
      const bool unshards = action.type == ActionType::kUnshard;
      const Bytes bytes = entry(costs_.parameter_bytes, static_cast<std::size_t>(action.stage));
      change_bytes({unshards ? service.begin : service.end, unshards ? bytes : -bytes,
                    service.position, &action});
    } else if (action.type == ActionType::kReduceGrad) {
      const auto stage = static_cast<std::size_t>(action.stage);
      if (gradients_[stage] != Gradients::kWhole) return;
      gradients_[stage] = Gradients::kShared;
      change_bytes({service.end, share(costs_.gradient_bytes, stage) - gradient_bytes(action),
                    service.position, &action});
    } else if (is_send_wait(action.type) && receives_) {
      const Bytes bytes = costs_.network->message_bytes;
      const Nanoseconds made =
          engine_.made(direction_of(action.type), engine_.cell(action.stage, action.microbatch));
      change_bytes({made, bytes, service.position, &action});
      change_bytes({service.end, -bytes, service.position, &action});
    }
  }

  void change_bytes(const ByteChange& change) {
    if (by_time_) {
      changes_.push_back(change);
    } else {
      bytes_.change(change.amount, change.position, *change.action, change.time);
    }
  }

  /// Messages arrive and parameters are unsharded while blocks run, so the changes are applied in
  /// the order of their times.
  void replay_bytes() {
    std::stable_sort(changes_.begin(), changes_.end(),
                     [](const ByteChange& a, const ByteChange& b) { return a.time < b.time; });
    for (const ByteChange& change : changes_)
      bytes_.change(change.amount, change.position, *change.action, change.time);
  }

  const Engine& engine_;
  const CostModel& costs_;
  bool has_bytes_;
  bool receives_;
  bool by_time_ = false;  // bytes change while blocks run
  RankPrediction rank_;
  std::int64_t blocks_ = 0;
  Nanoseconds first_action_ = std::numeric_limits<Nanoseconds>::max();
  Nanoseconds last_action_ = 0;
  Memory activations_;
  Memory bytes_;
  std::vector<bool> unshards_;        // by stage: the rank's list does
  std::vector<Gradients> gradients_;  // by stage
  std::vector<ByteChange> changes_;
};

/// Forwards inside a pair, of all forwards. Every pair can run: verify() proved them as blocks.
double pair_coverage(const Schedule& schedule) {
  std::int64_t forwards = 0;
  std::int64_t paired = 0;
  for (const std::vector<Action>& list : schedule.ranks) {
    std::size_t pair_end = 0;
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (list[i].type == ActionType::kOverlapFB) pair_end = i + 1 + list[i].members;
      if (list[i].type != ActionType::kForward) continue;
      ++forwards;
      if (i < pair_end) ++paired;
    }
  }
  return forwards == 0 ? 0 : static_cast<double>(paired) / static_cast<double>(forwards);
}

}  // namespace

void add_up_ranks(Engine& engine, Prediction& prediction) {
  const auto ranks = static_cast<int>(engine.schedule().ranks.size());
  Nanoseconds first = std::numeric_limits<Nanoseconds>::max();
  Nanoseconds last = 0;
  std::vector<bool> worked;
  for (int rank = 0; rank < ranks; ++rank) {
    RankTotals totals(engine, rank);
    engine.replay(rank, totals);
    prediction.ranks.push_back(totals.take());
    worked.push_back(totals.blocks() > 0);
    first = std::min(first, totals.first_action());
    last = std::max(last, totals.last_action());
  }
  if (first > last) first = last = 0;
  prediction.makespan_ns = last - first;
  for (int rank = 0; rank < ranks; ++rank) {
    RankPrediction& one = prediction.ranks[static_cast<std::size_t>(rank)];
    if (!worked[static_cast<std::size_t>(rank)]) one.first_begin = one.last_end = last;
    one.idle_ns = prediction.makespan_ns - one.busy_ns;
    one.fill_ns = one.first_begin - first;
    one.drain_ns = last - one.last_end;
    one.steady_ns = one.idle_ns - one.fill_ns - one.drain_ns;
    prediction.span_ns = std::max(prediction.span_ns, one.last_end - one.first_begin);
  }
  prediction.pair_coverage = pair_coverage(engine.schedule());
}

}  // namespace plait::sim_detail
