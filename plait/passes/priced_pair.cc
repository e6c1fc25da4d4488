#include "plait/passes/priced_pair.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "plait/passes/rewrite.h"

namespace plait::passes_detail {
namespace {

/// A pair by its rank and its number there.
struct PairName {
  std::size_t rank = 0;
  int number = 0;
};

std::vector<PairName> pairs_of(const Schedule& schedule) {
  std::vector<PairName> names;
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    int number = 0;
    for (const Action& action : schedule.ranks[rank]) {
      if (action.type == ActionType::kOverlapFB) names.push_back({rank, number++});
    }
  }
  return names;
}

/// The schedule without the pairs for which `given_up` is true.
template <typename GivenUp>
Schedule without(const Schedule& schedule, GivenUp given_up) {
  return rewrite_lists(Schedule(schedule), [&](std::size_t rank, const std::vector<Action>& list,
                                               std::vector<Action>& output) {
    int number = 0;
    for (const Action& action : list) {
      if (action.type == ActionType::kOverlapFB && given_up(PairName{rank, number++})) continue;
      output.push_back(action);
    }
  });
}

class Search {
 public:
  explicit Search(const SchedulePrice& price) : price_(price) {}

  /// Keeps it if it is cheaper than what is kept, or as cheap with fewer pairs.
  bool offer(Schedule schedule) {
    if (tried_ >= kMostPrices) return false;
    ++tried_;
    const Expected<Nanoseconds> cost = price_(schedule);
    if (!cost) {
      if (!first_error_) first_error_ = cost.error();
      return false;
    }
    const std::size_t pairs = pairs_of(schedule).size();
    const bool better =
        !best_ || *cost < cost_ || (*cost == cost_ && pairs < pairs_of(*best_).size());
    if (!better) return false;
    cost_ = *cost;
    best_ = std::move(schedule);
    return true;
  }

  void give_up_pairs() {
    for (bool found = true; found && tried_ < kMostPrices;) {
      found = false;
      const std::vector<PairName> names = pairs_of(*best_);
      int most = 0;
      for (const PairName& name : names) most = std::max(most, name.number + 1);
      for (std::size_t rank = 0; rank < best_->ranks.size(); ++rank)
        found = offer(without(*best_, [&](PairName one) { return one.rank == rank; })) || found;
      for (int number = 0; number < most; ++number)
        found = offer(without(*best_, [&](PairName one) { return one.number == number; })) || found;
      for (const PairName& name : names) {
        found = offer(without(*best_,
                              [&](PairName one) {
                                return one.rank == name.rank && one.number == name.number;
                              })) ||
                found;
      }
    }
  }

  Expected<Schedule> result() {
    if (best_) return *std::move(best_);
    return tl::unexpected<Error>(first_error_.value_or(Error{}));
  }
  bool has_any() const { return best_.has_value(); }

 private:
  const SchedulePrice& price_;
  int tried_ = 0;
  std::optional<Schedule> best_;
  Nanoseconds cost_ = 0;
  std::optional<Error> first_error_;
};

}  // namespace

Expected<Schedule> choose_pairs(const Schedule& schedule, bool inputs_too,
                                const SchedulePrice& price) {
  Search search(price);
  const bool warmed = !pairs_of(schedule).empty();
  search.offer(Schedule(schedule));
  for (const auto& [everywhere, per_hop] : {std::pair(0, 0), {1, 0}, {0, 1}, {1, 1}}) {
    if (warmed && everywhere + per_hop > 0) break;
    Schedule candidate = schedule;
    if (everywhere > 0) {
      PLAIT_TRY(candidate, warm_up(std::move(candidate), {everywhere, {}}));
    }
    if (per_hop > 0) {
      PLAIT_TRY(candidate, warm_up_per_hop(std::move(candidate), {per_hop, {}}));
    }
    Expected<Schedule> paired = pair(std::move(candidate), {inputs_too ? 1 : 0, {}});
    if (paired) search.offer(*std::move(paired));
  }
  if (search.has_any()) search.give_up_pairs();
  return search.result();
}

}  // namespace plait::passes_detail
