#include <fmt/core.h>

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "plait/verify/rules.h"

namespace plait::verify_detail {
namespace {

class Completeness {
 public:
  Completeness(const RankView& view, Diagnostics& findings) : view_(view), findings_(findings) {}

  void check_forward(int stage, int mb) {
    if (!view_.has(ActionType::kForward, stage, mb)) missing(ActionType::kForward, stage, mb);
  }
  void check_backward(int stage, int mb) {
    const bool whole = view_.has(ActionType::kBackward, stage, mb);
    const bool inputs = view_.has(ActionType::kBackwardInput, stage, mb);
    const bool weights = view_.has(ActionType::kBackwardWeight, stage, mb);
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

/// What a stage lacks on a rank.
struct Lacks {
  int microbatches = 0;  ///< that the rank should do of the stage
  int forwards = 0;
  int backwards = 0;  ///< without B, I and W

  bool all_forwards() const { return microbatches > 1 && forwards == microbatches; }
  bool all_backwards() const { return microbatches > 1 && backwards == microbatches; }
};

/// A rank, a stage or a schedule that has none of something is one finding, not one for each
/// micro-batch.
class RankCompleteness {
 public:
  RankCompleteness(const RankView& view, Diagnostics& findings)
      : view_(view), findings_(findings), lacks_(view.stages().size()) {}

  void check() {
    Diagnostics found = check_each();
    if (found.size() > 1) {  // seldom: a proven schedule pays for one pass
      for_each([&](std::size_t index, int stage, int mb) { count(lacks_[index], stage, mb); });
      if (computes_nothing()) return report_rank();
      const bool no_backward = has_no_backward();
      for (std::size_t i = 0; i < lacks_.size(); ++i) report_stage(i, no_backward);
      found = check_each();
    }
    std::move(found.begin(), found.end(), std::back_inserter(findings_));
  }

 private:
  template <typename Visit>
  void for_each(Visit visit) const {
    const Holders& holders = view_.input().holders;
    for (std::size_t i = 0; i < view_.stages().size(); ++i) {
      const int stage = view_.stages()[i];
      for (int mb = 0; mb < holders.microbatches(); ++mb) {
        if (holders.copies() == 1 || holders.rank_of(stage, mb) == view_.rank())
          visit(i, stage, mb);
      }
    }
  }
  /// What is wrong with each micro-batch of what is not missing as a whole.
  Diagnostics check_each() const {
    Diagnostics found;
    Completeness each(view_, found);
    for_each([&](std::size_t index, int stage, int mb) {
      if (!lacks_[index].all_forwards()) each.check_forward(stage, mb);
      if (!lacks_[index].all_backwards()) each.check_backward(stage, mb);
    });
    return found;
  }
  bool is_there(ActionType type, int stage, int mb) const {
    return view_.has(type, stage, mb) || view_.input().strayed(type, stage, mb);
  }
  void count(Lacks& lacks, int stage, int mb) const {
    ++lacks.microbatches;
    if (!is_there(ActionType::kForward, stage, mb)) ++lacks.forwards;
    if (!view_.input().schedule.forward_only && !is_there(ActionType::kBackward, stage, mb) &&
        !is_there(ActionType::kBackwardInput, stage, mb) &&
        !is_there(ActionType::kBackwardWeight, stage, mb))
      ++lacks.backwards;
  }
  bool computes_nothing() const {
    int expected = 0;
    for (const Lacks& lacks : lacks_) {
      expected += lacks.microbatches;
      if (lacks.forwards < lacks.microbatches) return false;
      if (lacks.backwards < lacks.microbatches && !view_.input().schedule.forward_only)
        return false;
    }
    return expected > 1;
  }
  void report_rank() {
    std::string stages;
    for (const int stage : view_.stages())
      stages += fmt::format("{}{}", stages.empty() ? "" : ", ", stage);
    add(findings_, "completeness", {view_.rank(), -1},
        fmt::format("computes nothing, needed {} of {} {}",
                    view_.input().schedule.forward_only ? "the forwards" : "forwards and backwards",
                    view_.stages().size() == 1 ? "stage" : "stages", stages));
  }
  /// Of the whole schedule; looked up only where a stage has none.
  bool has_no_backward() const {
    if (std::none_of(lacks_.begin(), lacks_.end(),
                     [](const Lacks& l) { return l.all_backwards(); }))
      return false;
    bool none = true;
    for_each_action(view_.input().schedule, [&](Location, const Action& action) {
      none = none && (!is_compute(action.type) || action.type == ActionType::kForward);
    });
    return none;
  }
  void report_stage(std::size_t index, bool no_backward) {
    const Lacks& lacks = lacks_[index];
    const int stage = view_.stages()[index];
    const auto report = [&](int rank, std::string what) {
      add(findings_, "completeness", {rank, -1}, std::move(what));
    };
    if (lacks.all_forwards()) {
      report(view_.rank(),
             fmt::format("stage {} has no forward, needed one of each of {} micro-batches", stage,
                         lacks.microbatches));
    }
    if (!lacks.all_backwards()) return;
    if (!no_backward) {
      report(view_.rank(),
             fmt::format("stage {} has no backward, needed one of each of {} micro-batches", stage,
                         lacks.microbatches));
    } else if (std::none_of(findings_.begin(), findings_.end(),
                            [](const Diagnostic& finding) { return finding.rank < 0; })) {
      report(-1, "the schedule has no backward at all, and does not say that it is forward-only");
    }
  }

  const RankView& view_;
  Diagnostics& findings_;
  std::vector<Lacks> lacks_;  // by local stage; nothing until it is counted
};

}  // namespace

void check_completeness(const RankView& view, Diagnostics& findings) {
  RankCompleteness(view, findings).check();
}

}  // namespace plait::verify_detail
