#include <fmt/format.h>

#include <algorithm>

#include "plait/verify/rules.h"

namespace plait::verify_detail {
namespace {

/// Runs the ranks' lists as far as inputs allow, with messages for free.
class FreeRun {
 public:
  explicit FreeRun(const RuleInput& input)
      : input_(input),
        microbatches_(static_cast<std::size_t>(input.schedule.microbatches)),
        done_(2 * static_cast<std::size_t>(input.stages()) * microbatches_),
        waiters_(done_.size(), -1),
        next_(input.schedule.ranks.size()) {}

  bool run() {
    for (std::size_t rank = 0; rank < next_.size(); ++rank) ready_.push_back(rank);
    while (!ready_.empty()) {
      const std::size_t rank = ready_.back();
      ready_.pop_back();
      advance(rank);
    }
    return std::all_of(next_.begin(), next_.end(), [&, rank = 0U](std::size_t next) mutable {
      return next == input_.schedule.ranks[rank++].size();
    });
  }

  /// Follows from a stuck rank who waits for whom until a rank comes again.
  void report(Diagnostics& findings) const {
    std::size_t rank = 0;
    while (next_[rank] == list(rank).size()) ++rank;
    std::vector<std::size_t> path;
    while (std::find(path.begin(), path.end(), rank) == path.end()) {
      path.push_back(rank);
      rank = static_cast<std::size_t>(
          input_.schedule.rank_of(producer_of(*missing(rank)), missing(rank)->microbatch));
    }
    path.erase(path.begin(), std::find(path.begin(), path.end(), rank));
    std::vector<DiagnosticNote> notes;
    for (const std::size_t r : path) {
      const Action& waiting = *missing(r);
      notes.push_back(note(
          head(r), fmt::format("{} waits for the {} of stage {} micro-batch {}, on rank {}",
                               place_name(input_.schedule, head(r)),
                               waiting.type == ActionType::kForward ? "forward" : "backward",
                               producer_of(waiting), waiting.microbatch,
                               input_.schedule.rank_of(producer_of(waiting), waiting.microbatch))));
    }
    add(findings, "dependence-cycle", head(path.front()),
        fmt::format("{} ranks wait in a circle", path.size()), std::move(notes));
  }

 private:
  const std::vector<Action>& list(std::size_t rank) const { return input_.schedule.ranks[rank]; }
  Place head(std::size_t rank) const {
    return {static_cast<std::int32_t>(rank), static_cast<std::int32_t>(next_[rank])};
  }
  static bool is_input_backward(ActionType type) {
    return type == ActionType::kBackward || type == ActionType::kBackwardInput;
  }
  static int producer_of(const Action& action) {
    return action.type == ActionType::kForward ? action.stage - 1 : action.stage + 1;
  }
  std::size_t cell(bool forward, int stage, int microbatch) const {
    return (static_cast<std::size_t>(stage) * 2 + (forward ? 1 : 0)) * microbatches_ +
           static_cast<std::size_t>(microbatch);
  }
  bool lacks_input(const Action& action) const {
    const bool forward = action.type == ActionType::kForward;
    if (!forward && !is_input_backward(action.type)) return false;
    const int producer = producer_of(action);
    return producer >= 0 && producer < input_.stages() &&
           !done_[cell(forward, producer, action.microbatch)];
  }
  const Action* missing(std::size_t rank) const {
    const Action* begin = &list(rank)[next_[rank]];
    for (const Action* action = begin; action <= begin + begin->members; ++action) {
      if (lacks_input(*action)) return action;
    }
    return nullptr;
  }

  void advance(std::size_t rank) {
    while (next_[rank] < list(rank).size()) {
      if (const Action* waiting = missing(rank)) {
        waiters_[cell(waiting->type == ActionType::kForward, producer_of(*waiting),
                      waiting->microbatch)] = static_cast<int>(rank);
        return;
      }
      const std::size_t begin = next_[rank];
      const std::size_t end = begin + 1 + list(rank)[begin].members;
      for (std::size_t i = begin; i < end; ++i) finish(list(rank)[i]);
      next_[rank] = end;
    }
  }
  void finish(const Action& action) {
    const bool forward = action.type == ActionType::kForward;
    if (!forward && !is_input_backward(action.type)) return;
    const std::size_t at = cell(forward, action.stage, action.microbatch);
    done_[at] = true;
    if (waiters_[at] >= 0) ready_.push_back(static_cast<std::size_t>(waiters_[at]));
    waiters_[at] = -1;
  }

  const RuleInput& input_;
  std::size_t microbatches_;
  std::vector<bool> done_;
  std::vector<int> waiters_;  // the rank that waits for a value, -1: none
  std::vector<std::size_t> next_;
  std::vector<std::size_t> ready_;
};

}  // namespace

void check_dependence_cycle(const RuleInput& input, Diagnostics& findings) {
  FreeRun run(input);
  if (!run.run()) run.report(findings);
}

}  // namespace plait::verify_detail
