#include "plait/schedule/greedy/list_scheduler.h"

#include <fmt/core.h>

#include <algorithm>
#include <deque>
#include <limits>
#include <queue>

namespace plait {
namespace {

constexpr Nanoseconds kNever = std::numeric_limits<Nanoseconds>::max();

/// A stage's micro-batches are taken in order; `arrivals` holds when the inputs known so far come.
struct StageState {
  int stage = -1;
  int first = 0;         // micro-batch
  int microbatches = 0;  // of its copy
  int forwards = 0;      // done
  int backwards = 0;     // done, as I or B
  int weights = 0;       // done
  std::vector<Nanoseconds> forward_arrivals;
  std::vector<Nanoseconds> backward_arrivals;
};

struct RankState {
  Nanoseconds free_at = 0;
  int live = 0;                         // stage activations
  int backwards_run = 0;                // since the last forward
  std::vector<std::size_t> stages;      // ascending
  std::deque<std::size_t> weights_due;  // stages of I's without W, oldest first
};

class ListScheduler {
 public:
  ListScheduler(Schedule& schedule, const ActionCosts& costs, const ListPolicy& policy)
      : schedule_(schedule),
        costs_(costs),
        policy_(policy),
        in_copy_(static_cast<std::size_t>(schedule.placement.stages())),
        stages_(schedule.placement.rank_of_stage.size()),
        ranks_(schedule.ranks.size()) {
    const int copies = schedule.placement.copies;
    int first = policy.first_microbatch;
    for (int copy = 0; copy < copies; ++copy) {
      // As Schedule::copy_of shares them out.
      const int count = (policy.microbatches - copy + copies - 1) / copies;
      for (std::size_t at = 0; at < in_copy_; ++at) {
        const std::size_t stage = static_cast<std::size_t>(copy) * in_copy_ + at;
        stages_[stage].stage = static_cast<int>(at);
        stages_[stage].first = first;
        stages_[stage].microbatches = count;
        stages_[stage].forward_arrivals.reserve(static_cast<std::size_t>(count));
        stages_[stage].backward_arrivals.reserve(static_cast<std::size_t>(count));
        if (at == 0) stages_[stage].forward_arrivals.assign(static_cast<std::size_t>(count), 0);
        ranks_[rank_of(stage)].stages.push_back(stage);
      }
      first += count;
    }
  }

  Expected<Nanoseconds> run() {
    for (std::size_t rank = 0; rank < ranks_.size(); ++rank) events_.push({0, rank});
    while (!events_.empty()) {
      const auto [time, rank] = events_.top();
      events_.pop();
      if (time >= ranks_[rank].free_at) decide(rank, time);
    }
    for (const StageState& stage : stages_) {
      if (stage.backwards == stage.microbatches &&
          (!policy_.split || stage.weights == stage.microbatches))
        continue;
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("{}: {} stage activations per rank are too few to go on",
                              schedule_.name, policy_.activations));
    }
    return end_;
  }

 private:
  using Event = std::pair<Nanoseconds, std::size_t>;

  std::size_t rank_of(std::size_t stage) const {
    return static_cast<std::size_t>(schedule_.placement.rank_of_stage[stage]);
  }
  std::size_t in_copy(std::size_t stage) const { return stage % in_copy_; }
  /// A backward is taken that much before its gradient comes.
  Nanoseconds recompute_of(std::size_t stage) const { return costs_.recompute_of(in_copy(stage)); }
  static Nanoseconds arrival(const std::vector<Nanoseconds>& arrivals, int index) {
    return static_cast<std::size_t>(index) < arrivals.size()
               ? arrivals[static_cast<std::size_t>(index)]
               : kNever;
  }

  /// The first chunks leave one place for each later one, or nothing could ever be released.
  bool has_room(const RankState& rank, std::size_t stage) const {
    if (!policy_.of_stage.empty()) {
      const StageState& state = stages_[stage];
      const int ended = policy_.split ? state.weights : state.backwards;
      if (state.forwards - ended >= policy_.of_stage[in_copy(stage)]) return false;
    }
    if (policy_.activations == 0) return true;
    const auto later =
        rank.stages.end() - std::find(rank.stages.begin(), rank.stages.end(), stage) - 1;
    return rank.live + static_cast<int>(later) < policy_.activations;
  }

  /// The stage whose forward can run, stages_.size() if none; `soonest` and `blocked` say why not.
  std::size_t pick_forward(const RankState& rank, Nanoseconds time, Nanoseconds& soonest,
                           bool& blocked) const {
    std::size_t best = stages_.size();
    for (const std::size_t stage : rank.stages) {
      const StageState& state = stages_[stage];
      if (state.forwards == state.microbatches) continue;
      const Nanoseconds at = arrival(state.forward_arrivals, state.forwards);
      if (at > time) {
        soonest = std::min(soonest, at);
      } else if (!has_room(rank, stage)) {
        blocked = true;
      } else if (best == stages_.size() || prefer_forward(stage, best)) {
        best = stage;
      }
    }
    return best;
  }
  bool prefer_forward(std::size_t stage, std::size_t other) const {
    if (policy_.low_memory_first) return stage > other;
    return stages_[stage].forwards < stages_[other].forwards;  // the oldest micro-batch
  }

  std::size_t pick_backward(const RankState& rank, Nanoseconds time, Nanoseconds& soonest) const {
    std::size_t best = stages_.size();
    for (auto it = rank.stages.rbegin(); it != rank.stages.rend(); ++it) {
      const StageState& state = stages_[*it];
      if (state.backwards == state.microbatches || state.backwards >= state.forwards) continue;
      const Nanoseconds arrives = arrival(state.backward_arrivals, state.backwards);
      const Nanoseconds at = arrives == kNever ? kNever : arrives - recompute_of(*it);
      if (at > time) {
        soonest = std::min(soonest, at);
      } else if (best == stages_.size() || state.backwards < stages_[best].backwards) {
        best = *it;
      }
    }
    return best;
  }

  void decide(std::size_t index, Nanoseconds time) {
    RankState& rank = ranks_[index];
    Nanoseconds soonest = kNever;
    bool blocked = false;
    const std::size_t forward = pick_forward(rank, time, soonest, blocked);
    const std::size_t backward = pick_backward(rank, time, soonest);
    const bool has_forward = forward < stages_.size();
    if (backward < stages_.size() &&
        !(policy_.alternate && has_forward && rank.backwards_run > 0)) {
      run_backward(index, backward, time);
    } else if (has_forward) {
      run_forward(index, forward, time);
    } else if (!rank.weights_due.empty() && (blocked || weight_fits(rank, time, soonest))) {
      run_weight(index, time);
    } else if (soonest != kNever) {
      events_.push({soonest, index});
    }
  }

  bool weight_fits(const RankState& rank, Nanoseconds time, Nanoseconds soonest) const {
    if (soonest == kNever || policy_.weight == WeightRule::kAlways) return true;
    const Nanoseconds length = costs_.backward_weight[in_copy(rank.weights_due.front())];
    const Nanoseconds over = time + length - soonest;
    return over <= 0 || (policy_.weight == WeightRule::kHalf && 2 * over <= length);
  }

  void run_forward(std::size_t index, std::size_t stage, Nanoseconds time) {
    StageState& state = stages_[stage];
    const Nanoseconds end = time + costs_.forward[in_copy(stage)];
    put(index, ActionType::kForward, state, state.forwards++, end);
    ++ranks_[index].live;
    ranks_[index].backwards_run = 0;
    if (in_copy(stage) + 1 < in_copy_) {
      look(stage + 1, arrive(index, stage + 1, stages_[stage + 1].forward_arrivals, end));
    } else {
      state.backward_arrivals.push_back(end);
    }
  }

  void run_backward(std::size_t index, std::size_t stage, Nanoseconds time) {
    StageState& state = stages_[stage];
    const Nanoseconds length =
        policy_.split ? costs_.backward_input[in_copy(stage)] : costs_.backward[in_copy(stage)];
    const Nanoseconds arrives = arrival(state.backward_arrivals, state.backwards);
    const Nanoseconds end = std::max(time + recompute_of(stage), arrives) + length;
    put(index, policy_.split ? ActionType::kBackwardInput : ActionType::kBackward, state,
        state.backwards++, end);
    RankState& rank = ranks_[index];
    ++rank.backwards_run;
    if (policy_.split) {
      rank.weights_due.push_back(stage);
    } else {
      --rank.live;
    }
    if (in_copy(stage) == 0) return;
    const Nanoseconds at = arrive(index, stage - 1, stages_[stage - 1].backward_arrivals, end);
    look(stage - 1, std::max(time, at - recompute_of(stage - 1)));
  }

  void run_weight(std::size_t index, Nanoseconds time) {
    RankState& rank = ranks_[index];
    const std::size_t stage = rank.weights_due.front();
    rank.weights_due.pop_front();
    StageState& state = stages_[stage];
    put(index, ActionType::kBackwardWeight, state, state.weights++,
        time + costs_.backward_weight[in_copy(stage)]);
    --rank.live;
  }

  void put(std::size_t index, ActionType type, const StageState& state, int count,
           Nanoseconds end) {
    schedule_.ranks[index].push_back({state.stage, state.first + count, type, 0});
    ranks_[index].free_at = end;
    end_ = std::max(end_, end);
    events_.push({end, index});
  }

  Nanoseconds arrive(std::size_t from, std::size_t stage, std::vector<Nanoseconds>& arrivals,
                     Nanoseconds end) {
    const Nanoseconds at = end + (rank_of(stage) == from ? 0 : costs_.hop);
    arrivals.push_back(at);
    return at;
  }

  /// The stage's rank decides then; if it is busy, when it is free.
  void look(std::size_t stage, Nanoseconds time) {
    const std::size_t rank = rank_of(stage);
    events_.push({std::max(time, ranks_[rank].free_at), rank});
  }

  Schedule& schedule_;
  const ActionCosts& costs_;
  const ListPolicy& policy_;
  std::size_t in_copy_;  // stages of one copy; stages_ holds those of all copies
  std::vector<StageState> stages_;
  std::vector<RankState> ranks_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  Nanoseconds end_ = 0;
};

}  // namespace

Expected<Nanoseconds> append_list_schedule(Schedule& schedule, const ActionCosts& costs,
                                           const ListPolicy& policy) {
  return ListScheduler(schedule, costs, policy).run();
}

}  // namespace plait
