#include "plait/verify/rank_view.h"

#include <algorithm>

namespace plait::verify_detail {

RankView::RankView(const RuleInput& input, bool lowered)
    : input_(&input),
      microbatches_(static_cast<std::size_t>(input.holders.microbatches())),
      columns_(lowered ? 8 : 4),
      stages_of_rank_(input.schedule.ranks.size()),
      local_(static_cast<std::size_t>(input.holders.stages()), -1) {
  for (int stage = 0; stage < input.holders.stages(); ++stage) {
    for (int copy = 0; copy < input.holders.copies(); ++copy) {
      std::vector<int>& here =
          stages_of_rank_[static_cast<std::size_t>(input.holders.rank_of_copy(stage, copy))];
      if (here.empty() || here.back() != stage) here.push_back(stage);
    }
  }
}

bool RankView::read(int rank) {
  for (const int stage : stages_) local_[static_cast<std::size_t>(stage)] = -1;
  rank_ = rank;
  stages_ = stages_of_rank_[static_cast<std::size_t>(rank)];
  for (std::size_t i = 0; i < stages_.size(); ++i)
    local_[static_cast<std::size_t>(stages_[i])] = static_cast<int>(i);
  positions_.assign(stages_.size() * microbatches_ * columns_, -1);
  repeats_ = holds_pairs_ = unshards_ = reduces_ = waits_ = false;
  const bool knows_strays = !input_->strays.empty();
  const std::vector<Action>& actions = list();
  for (std::size_t i = 0; i < actions.size(); ++i) {
    const Action& action = actions[i];
    if (action.type == ActionType::kIdle) continue;
    if (action.type == ActionType::kOverlapFB) {
      holds_pairs_ = true;
      continue;
    }
    if (!in_place(action)) {
      if (!knows_strays) return false;
      continue;
    }
    if (is_wait(action.type)) {
      waits_ = true;
      continue;
    }
    if (!has_microbatch(action.type)) {
      (action.type == ActionType::kReduceGrad ? reduces_ : unshards_) = true;
      continue;
    }
    std::int32_t& first =
        positions_[cell(local(action.stage), action.microbatch) + kColumn[index_of(action.type)]];
    if (first >= 0) {
      repeats_ = true;
    } else {
      first = static_cast<std::int32_t>(i);
    }
  }
  return true;
}

}  // namespace plait::verify_detail
