/// RuleInput: what every rule is given.
#pragma once

#include <cstdint>
#include <tuple>
#include <vector>

#include "plait/ir/schedule.h"
#include "plait/verify/holders.h"
#include "plait/verify/location.h"
#include "plait/verify/verify.h"

namespace plait::verify_detail {

/// Type, stage and micro-batch.
using ActionKey = std::tuple<ActionType, std::int32_t, std::int32_t>;

struct RuleInput {
  const Schedule& schedule;
  const VerifyOptions& options;
  const Holders& holders;
  /// Strays are actions out of range or on a rank that does not hold their stage, in list order.
  /// The rules `range` and `placement` report them; for the other rules they are neither there nor
  /// missing.
  std::vector<Location> strays{};
  std::vector<ActionKey> stray_keys{};  ///< of the same, ascending

  /// Fills both. Not needed where RankView::read() met no stray on any rank.
  void find_strays();

  const Action& action_at(Location location) const {
    return schedule.ranks[static_cast<std::size_t>(location.rank)]
                         [static_cast<std::size_t>(location.position)];
  }
  /// True if such an action is among the strays.
  bool strayed(ActionType type, int stage, int microbatch) const;
};

}  // namespace plait::verify_detail
