#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "plait/passes/check_input.h"
#include "plait/passes/passes.h"
#include "plait/passes/rewrite.h"

namespace plait {
namespace {

/// Walks a rank's list with its stages in the order of their next use.
///
/// A use is a block and a stage that it computes first there. Uses are numbered in list order, so
/// the stages in the order of need are the next uses, one a stage, by ascending number:
///   list     0F0  4F0  (0F1;4B0)  0B0        uses  0: 0  1: 4  2: 0  3: 4  4: 0
///   at 0F0   next uses 0 (stage 0), 1 (stage 4)
///   at 4F0   next uses 1 (stage 4), 2 (stage 0)
class UnshardInserter {
 public:
  UnshardInserter(int stages, std::size_t resident, std::size_t wanted, Reshards reshards)
      : most_resident_(resident),
        most_wanted_(wanted),
        reshards_(reshards),
        whole_(static_cast<std::size_t>(stages)),
        kept_(static_cast<std::size_t>(stages)) {}

  void rewrite(const std::vector<Action>& list, std::vector<Action>& output) {
    number_uses(list);
    std::size_t use = 0;
    for (std::size_t begin = 0; begin < list.size();) {
      if (is_dropped(list[begin].type)) {
        ++begin;
        continue;
      }
      const std::size_t first = use;
      while (use < uses_.size() && uses_[use].block == begin) ++use;
      if (use > first) change(output);
      begin = passes_detail::append_block(list, begin, output);
      for (std::size_t passed = first; passed < use; ++passed) pass_use();
    }
    next_uses_.clear();
    change(output);
  }

 private:
  static constexpr std::size_t kNever = std::numeric_limits<std::size_t>::max();
  struct Use {
    std::size_t block;  // position of its begin
    int stage;
    std::size_t next;  // the next use of the same stage
  };

  static bool is_dropped(ActionType type) {
    return type == ActionType::kIdle || type == ActionType::kUnshard ||
           type == ActionType::kReshard;
  }

  void number_uses(const std::vector<Action>& list) {
    uses_.clear();
    std::vector<std::size_t> last(whole_.size(), kNever);
    next_uses_.clear();
    for (std::size_t begin = 0; begin < list.size(); begin += 1U + list[begin].members) {
      for (std::size_t i = begin; i <= begin + list[begin].members; ++i) {
        if (!is_compute(list[i].type)) continue;
        std::size_t& before = last[static_cast<std::size_t>(list[i].stage)];
        if (before != kNever && uses_[before].block == begin) continue;
        if (before == kNever) {
          next_uses_.push_back(uses_.size());
        } else {
          uses_[before].next = uses_.size();
        }
        before = uses_.size();
        uses_.push_back({begin, list[i].stage, kNever});
      }
    }
  }

  /// The first next use has passed: that of the same stage behind it takes its place in the order.
  void pass_use() {
    const std::size_t next = uses_[next_uses_.front()].next;
    next_uses_.erase(next_uses_.begin());
    if (next == kNever) return;
    next_uses_.insert(std::lower_bound(next_uses_.begin(), next_uses_.end(), next), next);
  }

  /// How many of the next uses the first `most` stages take; those of one block go together.
  std::size_t count(std::size_t most) const {
    std::size_t taken = std::min(most, next_uses_.size());
    while (taken > 0 && taken < next_uses_.size() &&
           uses_[next_uses_[taken]].block == uses_[next_uses_[taken - 1]].block)
      ++taken;
    return taken;
  }
  int stage_of(std::size_t order) const { return uses_[next_uses_[order]].stage; }

  /// Reshards and unshards what the next uses ask for.
  void change(std::vector<Action>& output) {
    const std::size_t resident = count(most_resident_);
    for (std::size_t i = 0; i < resident; ++i) kept_[static_cast<std::size_t>(stage_of(i))] = true;
    const auto leaves = [&](int stage) { return !kept_[static_cast<std::size_t>(stage)]; };
    const std::size_t first = output.size();
    for (const int stage : active_) {
      if (!leaves(stage)) continue;
      output.push_back({stage, -1, ActionType::kReshard, 0});
      whole_[static_cast<std::size_t>(stage)] = false;
    }
    if (output.size() > first) {
      std::erase_if(active_, leaves);
      if (reshards_ == Reshards::kAscending) {
        std::sort(output.begin() + static_cast<std::ptrdiff_t>(first), output.end(),
                  [](const Action& a, const Action& b) { return a.stage < b.stage; });
      }
    }
    for (std::size_t i = 0; i < resident; ++i) kept_[static_cast<std::size_t>(stage_of(i))] = false;
    const std::size_t wanted = count(most_wanted_);
    for (std::size_t i = 0; i < wanted; ++i) {
      const int stage = stage_of(i);
      if (whole_[static_cast<std::size_t>(stage)]) continue;
      output.push_back({stage, -1, ActionType::kUnshard, 0});
      whole_[static_cast<std::size_t>(stage)] = true;
      active_.push_back(stage);
    }
  }

  std::size_t most_resident_;
  std::size_t most_wanted_;
  Reshards reshards_;
  std::vector<char> whole_;             // by stage
  std::vector<char> kept_;              // by stage, within change()
  std::vector<int> active_;             // whole stages in the order in which they became it
  std::vector<Use> uses_;               // in list order
  std::vector<std::size_t> next_uses_;  // one for each stage that is still needed, ascending
};

}  // namespace

Expected<Schedule> insert_unshard(Schedule schedule, const PassOptions& options) {
  PLAIT_TRY_VOID(passes_detail::check_input(schedule, passes_detail::Communication::kTaken));
  const int stages = schedule.placement.stages();
  return passes_detail::rewrite_lists(
      std::move(schedule),
      [&](std::size_t rank, const std::vector<Action>& list, std::vector<Action>& output) {
        const int wanted = options.lookahead.empty() ? options.number : options.lookahead[rank];
        UnshardInserter(stages, static_cast<std::size_t>(options.number),
                        static_cast<std::size_t>(wanted), options.reshards)
            .rewrite(list, output);
      });
}

}  // namespace plait
