#include <fmt/core.h>

#include <algorithm>
#include <map>

#include "plait/verify/rules.h"

namespace plait::verify_detail {
namespace {

/// The stages whose copies are held by the same ranks reduce over one communicator.
struct Communicator {
  std::vector<int> stages;
  std::map<int, std::vector<Place>> issued{};  ///< by rank: its REDUCE_GRADs, each stage's first
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
        ranks.push_back(holders.of_copy(stage, copy));
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
    for_each_action(input_.schedule, [&](Place place, const Action& action) {
      if (action.type == ActionType::kReduceGrad && input_.holders.in_place(place.rank, action))
        issue(place, action.stage);
    });
    for (const Communicator& communicator : communicators_) {
      if (all_or_none(communicator)) same_order(communicator);
    }
  }

 private:
  int stage_at(Place place) const { return input_.at(place).stage; }

  void issue(Place place, int stage) {
    std::vector<Place>& issued =
        communicators_[communicator_of_[static_cast<std::size_t>(stage)]].issued[place.rank];
    const bool again = std::any_of(issued.begin(), issued.end(),
                                   [&](Place other) { return stage_at(other) == stage; });
    if (!again) issued.push_back(place);  // what is done twice is duplicate's to report
  }

  bool all_or_none(const Communicator& communicator) {
    bool holds = true;
    for (const int stage : communicator.stages) {
      std::vector<int> without;
      std::vector<Place> with;
      for (const auto& [rank, issued] : communicator.issued) {
        const auto found = std::find_if(issued.begin(), issued.end(),
                                        [&](Place place) { return stage_at(place) == stage; });
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
            {note(with.front(), place_name(input_.schedule, with.front()))});
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
                        place_name(input_.schedule, issued[i]), i, first_rank,
                        place_name(input_.schedule, first[i])),
            {note(first[i], place_name(input_.schedule, first[i]))});
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
