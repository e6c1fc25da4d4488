#include <fmt/core.h>

#include <algorithm>
#include <map>

#include "plait/verify/rules.h"

namespace plait::verify_detail {
namespace {

/// The stages whose copies are held by the same ranks reduce over one communicator.
struct Communicator {
  std::vector<int> stages;
  std::map<int, std::vector<Location>> issued{};  ///< by rank: its REDUCE_GRADs, each stage's first
};

class CollectiveOrder {
 public:
  CollectiveOrder(const RuleInput& input, Diagnostics& findings)
      : input_(input), findings_(findings) {
    const Holders& holders = input.holders;
    std::map<std::vector<int>, std::size_t> by_ranks;
    for (int stage = 0; stage < holders.stages(); ++stage) {
      std::vector<int> ranks;
      for (int copy = 0; copy < holders.copies(); ++copy)
        ranks.push_back(holders.rank_of_copy(stage, copy));
      std::sort(ranks.begin(), ranks.end());
      ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
      const auto [at, is_new] = by_ranks.try_emplace(ranks, communicators_.size());
      if (is_new) {
        communicators_.emplace_back();
        for (const int rank : ranks) communicators_.back().issued[rank];
      }
      communicators_[at->second].stages.push_back(stage);
      communicator_of_.push_back(at->second);
    }
  }

  void run() {
    for_each_action(input_.schedule, [&](Location location, const Action& action) {
      if (action.type == ActionType::kReduceGrad && input_.holders.in_place(location.rank, action))
        issue(location, action.stage);
    });
    for (const Communicator& communicator : communicators_) {
      if (all_or_none(communicator)) same_order(communicator);
    }
  }

 private:
  int stage_at(Location location) const { return input_.action_at(location).stage; }

  void issue(Location location, int stage) {
    std::vector<Location>& issued =
        communicators_[communicator_of_[static_cast<std::size_t>(stage)]].issued[location.rank];
    const bool repeated = std::any_of(issued.begin(), issued.end(),
                                      [&](Location other) { return stage_at(other) == stage; });
    if (!repeated) issued.push_back(location);  // the rule `duplicate` reports the second one
  }

  bool all_or_none(const Communicator& communicator) {
    bool holds = true;
    for (const int stage : communicator.stages) {
      std::vector<int> without;
      std::vector<Location> with;
      for (const auto& [rank, issued] : communicator.issued) {
        const auto found = std::find_if(issued.begin(), issued.end(), [&](Location location) {
          return stage_at(location) == stage;
        });
        if (found == issued.end()) {
          without.push_back(rank);
        } else {
          with.push_back(*found);
        }
      }
      if (with.empty() || without.empty()) continue;
      holds = false;
      for (const int rank : without) {
        if (input_.strayed(ActionType::kReduceGrad, stage, -1)) continue;
        add(findings_, "collective-order", {rank, -1},
            fmt::format("{} is missing, rank {} waits in it",
                        action_name(ActionType::kReduceGrad, stage, -1), with.front().rank),
            {note(with.front(), name_at(input_.schedule, with.front()))});
      }
    }
    return holds;
  }

  void same_order(const Communicator& communicator) {
    const auto& [first_rank, first] = *communicator.issued.begin();
    for (const auto& [rank, issued] : communicator.issued) {
      for (std::size_t i = 0; i < issued.size(); ++i) {
        if (stage_at(issued[i]) == stage_at(first[i])) continue;
        add(findings_, "collective-order", issued[i],
            fmt::format("{} is collective {} with rank {}, which issues {} there",
                        name_at(input_.schedule, issued[i]), i, first_rank,
                        name_at(input_.schedule, first[i])),
            {note(first[i], name_at(input_.schedule, first[i]))});
        break;  // what follows is out of step because of this
      }
    }
  }

  const RuleInput& input_;
  Diagnostics& findings_;
  std::vector<Communicator> communicators_;
  std::vector<std::size_t> communicator_of_;  // by stage
};

}  // namespace

void check_collective_order(const RuleInput& input, Diagnostics& findings) {
  if (input.holders.copies() > 1) CollectiveOrder(input, findings).run();
}

}  // namespace plait::verify_detail
