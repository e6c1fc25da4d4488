#include "plait/search/search.h"

#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "plait/ir/list_clock.h"
#include "plait/schedule/greedy/order_walk.h"
#include "plait/search/caps.h"
#include "plait/search/repeat.h"
#include "plait/search/starts.h"

namespace plait {
namespace {

constexpr std::size_t kMostStarts = 4;
constexpr std::int64_t kManyActions = 5'000;  // so many have one start: rounds are long
constexpr std::int64_t kFirstMoves = 20'000;
constexpr std::int64_t kFirstMovesPerAction = 16;

Expected<void> check_searched(const SearchQuestion& question) {
  const CostModel& costs = question.costs;
  const auto refuse = [](const char* what) {
    return fail(ErrorCode::kInvalidInput, fmt::format("{} is not searched", what), "costs");
  };
  if (costs.collectives || !costs.unshard.empty() || !costs.reshard.empty() ||
      !costs.reduce_grad.empty())
    return refuse("when parameters are gathered and gradients reduced (UNSHARD, REDUCE_GRAD)");
  if (costs.pairs.pricing != PairPricing::kSequence)
    return refuse("which forwards and backwards run as pairs with a price of their own");
  if (question.cap.bytes && costs.network)
    return refuse("a cap in bytes beside links, whose messages are held too,");
  return {};
}

/// With idle slots, so that actions that run at the same time stand in about the same column:
/// insert-comm puts the messages of all ranks into the order of columns.
Schedule in_columns_of_time(const Schedule& schedule, const OrderCosts& costs) {
  Schedule spread = empty_schedule(schedule.name, schedule.placement, schedule.microbatches);
  Nanoseconds column = std::numeric_limits<Nanoseconds>::max();
  for (const auto* lengths : {&costs.actions.forward, &costs.actions.backward_input,
                              &costs.actions.backward_weight, &costs.actions.backward}) {
    for (const Nanoseconds length : *lengths) {
      if (length > 0) column = std::min(column, length);
    }
  }
  ListClock(schedule, costs.actions)
      .run([&](std::size_t rank, std::size_t position, Nanoseconds begin, Nanoseconds /*end*/) {
        std::vector<Action>& list = spread.ranks[rank];
        list.resize(std::max(list.size(), static_cast<std::size_t>(begin / column)));
        list.push_back(schedule.ranks[rank][position]);
      });
  return spread;
}

/// Walks from several starts, the best of them again until the limits end it.
class Search {
 public:
  Search(const SearchQuestion& question, const OrderCosts& costs, Nanoseconds bound)
      : question_(question), costs_(costs), bound_(bound) {}

  /// Where there are many micro-batches: what is found for fewer, with its steady part repeated.
  void add_repeated(int activations, std::vector<Start>& starts) {
    const int ranks = question_.placement.ranks;
    const int few = 2 * ranks + (question_.microbatches - 2 * ranks) % 12;
    if (question_.microbatches <= 2 * few || question_.placement.copies > 1) return;
    SearchQuestion smaller = question_;
    smaller.microbatches = few;
    BoundInput input =
        bound_input(empty_schedule("search", question_.placement, few), question_.costs);
    input.activations = activation_caps(question_);
    const Expected<Bound> bound = best_bound(input);
    if (!bound) return;
    smaller.moves = question_.moves / 2;
    Search search(smaller, costs_, bound->makespan);
    search.run(starts_of(question_.placement, few, costs_, activations));
    moves_ = search.moves_;
    ended_ = search.ended_;
    Start found = search.best_;
    std::optional<Schedule> more = repeat_steady(found.schedule, question_.microbatches, costs_);
    if (!more) return;
    Start repeated{fmt::format("{}, repeated from {} micro-batches", found.how, few),
                   *std::move(more)};
    repeated.makespan = OrderGraph(repeated.schedule, costs_).makespan();
    starts.push_back(std::move(repeated));
    std::stable_sort(starts.begin(), starts.end(),
                     [](const Start& a, const Start& b) { return a.makespan < b.makespan; });
  }

  void run(std::vector<Start> starts) {
    best_ = starts.front();
    std::int64_t actions = 0;
    for (const std::vector<Action>& list : best_.schedule.ranks)
      actions += static_cast<std::int64_t>(list.size());
    const std::size_t most = actions > kManyActions ? 1 : kMostStarts;
    if (starts.size() > most) starts.resize(most);
    const std::int64_t each = kFirstMoves + kFirstMovesPerAction * actions;
    for (const Start& start : starts) walk(start, each);
    while (!over()) walk(Start(best_), question_.moves - moves_);
  }

  const Start& best() const { return best_; }
  std::int64_t moves() const { return moves_; }

 private:
  bool over() const { return ended_ || moves_ >= question_.moves || best_.makespan <= bound_; }

  void walk(const Start& start, std::int64_t moves) {
    if (over()) return;
    WalkLimits limits;
    limits.goal = bound_;
    limits.moves = std::min(moves, question_.moves - moves_);
    limits.seed = question_.seed + walks_++;
    limits.go_on = [this](const WalkProgress& progress) {
      if (!question_.go_on) return true;
      ended_ = !question_.go_on(
          {std::min(progress.makespan, best_.makespan), bound_, moves_ + progress.moves});
      return !ended_;
    };
    WalkResult result = walk_orders(start.schedule, costs_, limits);
    moves_ += result.progress.moves;
    if (result.progress.makespan >= best_.makespan) return;
    best_ = {start.how, std::move(result.schedule), result.progress.makespan};
  }

  const SearchQuestion& question_;
  const OrderCosts& costs_;
  Nanoseconds bound_;
  Start best_;
  std::int64_t moves_ = 0;
  std::uint64_t walks_ = 0;
  bool ended_ = false;
};

}  // namespace

Expected<SearchResult> search_schedule(const SearchQuestion& question) {
  const Schedule empty = empty_schedule("search", question.placement, question.microbatches);
  PLAIT_TRY_VOID(check_cost_model(question.costs, empty));
  PLAIT_TRY_VOID(check_searched(question));
  PLAIT_TRY(const OrderCosts costs, order_costs(question));
  BoundInput input = bound_input(empty, question.costs);
  input.activations = activation_caps(question);
  PLAIT_TRY(const BoundProblem problem, BoundProblem::make(input));
  const Bound bound =
      question.exact_bound ? one_rank_relaxation(problem).bound : best_bound(problem);
  const int most_activations =
      input.activations.empty()
          ? question.microbatches * question.placement.stages()
          : *std::min_element(input.activations.begin(), input.activations.end());
  Search search(question, costs, bound.makespan);
  std::vector<Start> starts =
      starts_of(question.placement, question.microbatches, costs, most_activations);
  if (starts.front().makespan > bound.makespan) search.add_repeated(most_activations, starts);
  search.run(starts);
  // The walk knows no queues of messages on links; an order it began with may suffer less of them.
  if (!question.costs.network) starts.clear();
  starts.insert(starts.begin(), search.best());
  for (Start& start : starts) {
    if (question.costs.network) start.schedule = in_columns_of_time(start.schedule, costs);
  }
  SearchResult result;
  result.moves = search.moves();
  for (Start& start : starts) {
    PLAIT_TRY(Price priced, price(start.schedule, question.costs, {}));
    if (!result.how.empty() && priced.prediction.makespan_ns >= result.price.prediction.makespan_ns)
      continue;
    result.price = std::move(priced);
    result.schedule = std::move(start.schedule);
    result.how = std::move(start.how);
  }
  result.price.bound = bound;
  return result;
}

}  // namespace plait
