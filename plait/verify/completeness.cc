#include <fmt/core.h>

#include "plait/verify/rules.h"

namespace plait::verify_detail {
namespace {

class Completeness {
 public:
  Completeness(const RankView& view, Diagnostics& findings) : view_(view), findings_(findings) {}

  void check(int stage, int mb) {
    const bool forward = view_.has(ActionType::kForward, stage, mb);
    const bool whole = view_.has(ActionType::kBackward, stage, mb);
    const bool inputs = view_.has(ActionType::kBackwardInput, stage, mb);
    const bool weights = view_.has(ActionType::kBackwardWeight, stage, mb);
    if (!forward) missing(ActionType::kForward, stage, mb);
    if (view_.input().schedule.forward_only) {
      if (whole || inputs || weights)
        report(stage, mb, "has a backward, the schedule is forward-only");
    } else if (!whole && !inputs && !weights) {
      no_backward(stage, mb);
    } else if (!whole && inputs != weights) {
      missing(inputs ? ActionType::kBackwardWeight : ActionType::kBackwardInput, stage, mb);
    }
  }

 private:
  bool strayed(ActionType type, int stage, int mb) const {
    return view_.input().strayed(type, stage, mb);
  }
  void report(int stage, int mb, const std::string& what) {
    add(findings_, "completeness", {view_.rank(), -1},
        fmt::format("stage {} micro-batch {}: {}", stage, mb, what));
  }
  void missing(ActionType type, int stage, int mb) {
    if (!strayed(type, stage, mb))
      report(stage, mb, fmt::format("{} is missing", action_name(type, stage, mb)));
  }
  void no_backward(int stage, int mb) {
    if (strayed(ActionType::kBackward, stage, mb) ||
        strayed(ActionType::kBackwardInput, stage, mb) ||
        strayed(ActionType::kBackwardWeight, stage, mb))
      return;
    report(stage, mb,
           fmt::format("its backward is missing: {}, or {} and {}",
                       action_name(ActionType::kBackward, stage, mb),
                       action_name(ActionType::kBackwardInput, stage, mb),
                       action_name(ActionType::kBackwardWeight, stage, mb)));
  }

  const RankView& view_;
  Diagnostics& findings_;
};

}  // namespace

void check_completeness(const RankView& view, Diagnostics& findings) {
  Completeness completeness(view, findings);
  const Holders& holders = view.input().holders;
  for (const int stage : view.stages()) {
    for (int mb = 0; mb < holders.microbatches(); ++mb) {
      if (holders.copies() == 1 || holders.rank_of(stage, mb) == view.rank())
        completeness.check(stage, mb);
    }
  }
}

}  // namespace plait::verify_detail
