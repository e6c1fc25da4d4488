#include "plait/sim/engine.h"

#include <cmath>
#include <map>
#include <utility>

namespace plait::sim_detail {
namespace {

bool is_parameter_action(ActionType type) {
  return type == ActionType::kUnshard || type == ActionType::kReshard || is_reduction(type);
}

}  // namespace

Engine::Engine(const Schedule& schedule, const CostModel& costs)
    : schedule_(schedule),
      costs_(costs),
      network_(costs.network ? &*costs.network : nullptr),
      last_stage_(schedule.placement.stages() - 1),
      microbatches_(static_cast<std::size_t>(schedule.microbatches)),
      braided_(costs.pairs.pricing == PairPricing::kBraid) {
  const auto stages = static_cast<std::size_t>(schedule.placement.stages());
  cost_.resize(stages);
  for (std::size_t s = 0; s < stages; ++s) {
    cost_[s] = {costs.actions.forward[s], costs.actions.backward_input[s],
                costs.actions.backward_weight[s], costs.actions.backward[s]};
  }
  if (schedule.placement.copies > 1) {
    copy_start_.resize(microbatches_);
    for (int m = 0; m < schedule.microbatches; ++m)
      copy_start_[static_cast<std::size_t>(m)] = schedule.copy_of(m) * schedule.placement.stages();
  }
  has_parameter_actions_ = holds(schedule, is_parameter_action);
  if (has_parameter_actions_) {
    parameters_.resize(schedule.placement.rank_of_stage.size());
    unshard_ = costs.unshard_times();
    reduce_grad_ = costs.reduce_grad_times();
  }
  posts_ = has_parameter_actions_ || network_ != nullptr;
  for (auto& times : made_) times.assign(stages * microbatches_, kUnknown);
  if (network_ != nullptr) {
    for (auto& times : arrived_) times.assign(stages * microbatches_, kUnknown);
    make_edges();
  }
  waits_for_.assign(schedule.ranks.size(), kNothing);
  sends_awaited_ = waits_for_;
}

void Engine::make_edges() {
  std::map<std::pair<int, int>, std::int32_t> known;
  const Placement& placement = schedule_.placement;
  for (const Direction direction : {Direction::kForward, Direction::kBackward}) {
    for (int copy = 0; copy < placement.copies; ++copy) {
      for (int stage = 0; stage <= last_stage_; ++stage) {
        std::int32_t edge = -1;
        const int reader = stage_after(direction, stage);
        if (reader >= 0 && reader <= last_stage_) {
          const int from = placement.rank_of(stage, copy);
          const int to = placement.rank_of(reader, copy);
          const auto count = static_cast<std::int32_t>(edges_.size());
          const auto [found, added] = known.try_emplace({from, to}, count);
          if (added) edges_.push_back({{}, false, 0, network_->transfer(from, to)});
          edge = found->second;
        }
        edge_of_[index_of(direction)].push_back(edge);
      }
    }
  }
}

Engine::ParameterState& Engine::parameters(int rank, int stage) {
  const Placement& placement = schedule_.placement;
  int copy = 0;
  while (copy + 1 < placement.copies && placement.rank_of(stage, copy) != rank) ++copy;
  const int index = copy * placement.stages() + stage;
  return parameters_[static_cast<std::size_t>(index)];
}

Nanoseconds Engine::block_cost(const Action& first, const Action& second) const {
  if (costs_.pairs.block) return *costs_.pairs.block;
  const Nanoseconds together = cost(first) + cost(second) + recompute(first) + recompute(second);
  if (!costs_.pairs.share) return together;
  return static_cast<Nanoseconds>(
      std::llround(*costs_.pairs.share * static_cast<double>(together)));
}

void Engine::post(Direction direction, int stage, int microbatch, bool send, Nanoseconds time) {
  Edge& edge = edges_[static_cast<std::size_t>(edge_of(direction, stage, microbatch))];
  const std::size_t value = cell(stage, microbatch);
  if (edge.posted.empty() || edge.sends == send) {
    edge.sends = send;
    edge.posted.push_back({value, time});
    return;
  }
  const Edge::Posted other = edge.posted.front();
  edge.posted.pop_front();
  PLAIT_CHECK(other.value == value, "both ends of a link list its messages in the same order");
  const Nanoseconds end = std::max({other.time, time, edge.free}) + edge.transfer;
  edge.free = end;
  arrived_[index_of(direction)][value] = end;
  wake(rank_of(stage_after(direction, stage), microbatch), direction, value);
  const int sender = rank_of(stage, microbatch);
  std::int64_t& awaited = sends_awaited_[static_cast<std::size_t>(sender)];
  if (awaited != name_of(direction, value)) return;
  awaited = kNothing;
  ready_.push_back(sender);
}

Nanoseconds Engine::arrival_of_send(int rank, const Action& wait) {
  const Direction direction = direction_of(wait.type);
  const Nanoseconds over = there(direction, wait.stage, wait.microbatch);
  if (over == kUnknown) {
    sends_awaited_[static_cast<std::size_t>(rank)] =
        name_of(direction, cell(wait.stage, wait.microbatch));
  }
  return over;
}

void Engine::run() {
  const auto ranks = static_cast<int>(schedule_.ranks.size());
  std::vector<RankState> states(schedule_.ranks.size());
  for (int rank = ranks - 1; rank >= 0; --rank) ready_.push_back(rank);
  NoObserver observer;
  while (!ready_.empty()) {
    const int rank = ready_.back();
    ready_.pop_back();
    advance(rank, states[static_cast<std::size_t>(rank)], observer);
  }
  for (int rank = 0; rank < ranks; ++rank) {
    PLAIT_CHECK(states[static_cast<std::size_t>(rank)].next == list(rank).size(),
                "every rank of a proven schedule comes to the end of its list");
  }
}

}  // namespace plait::sim_detail
