/// A schedule for given costs and caps, with a certified distance from the best possible.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/sim/bound/price.h"
#include "plait/sim/cost_model.h"

namespace plait {

/// What every rank may hold at most: one of the two, or neither.
struct SearchCap {
  std::optional<int> activations{};  ///< stage activations, from F to W
  std::optional<Bytes> bytes{};
};

struct SearchProgress {
  Nanoseconds makespan = 0;  ///< the least so far
  Nanoseconds bound = 0;
  std::int64_t moves = 0;
};

struct SearchQuestion {
  Placement placement;
  int microbatches = 1;
  CostModel costs;  ///< of stages
  SearchCap cap{};
  std::int64_t moves = std::numeric_limits<std::int64_t>::max();  ///< at most so many are tried
  std::uint64_t seed = 1;
  bool exact_bound = false;                            ///< one_rank_relaxation()
  std::function<bool(const SearchProgress&)> go_on{};  ///< false ends the search
};

struct SearchResult {
  Schedule schedule;  ///< as it was proven, without messages
  Price price;        ///< bound: of all orders that keep the cap
  std::string how;    ///< the order it began with
  std::int64_t moves = 0;

  bool optimal() const { return price.above_bound() <= 0; }
};

/// The best order that is found within the limits. It stops when it meets the bound. The same
/// question gives the same schedule, unless go_on() ends the search.
///
/// Errors: costs that do not fit; a cap that no order keeps, with the least that one can keep; what
/// is not searched, by name: parameter actions (UNSHARD, RESHARD, REDUCE_GRAD) and pairs with a
/// price of their own; bytes as a cap beside links, whose messages count too.
/// Cost: the limits' sum; once O(A) for each start, and the bounds'.
Expected<SearchResult> search_schedule(const SearchQuestion& question);

}  // namespace plait
