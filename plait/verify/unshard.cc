#include <fmt/core.h>

#include <algorithm>
#include <string>
#include <vector>

#include "plait/verify/notes.h"
#include "plait/verify/rules.h"

namespace plait::verify_detail {
namespace {

/// The stage of a list's last compute action, -1 if there is none.
int last_computed(const std::vector<Action>& list) {
  const auto last = std::find_if(list.rbegin(), list.rend(),
                                 [](const Action& action) { return is_compute(action.type); });
  return last == list.rend() ? -1 : last->stage;
}

/// Follows which stages have their whole parameters. The list runs again in the next step, so that
/// what it unshards it must reshard, but for the stage that computes last.
class Shards {
 public:
  Shards(const RankView& view, Diagnostics& findings)
      : view_(view), findings_(findings), last_(view.stages().size(), -1) {}

  void follow(std::int32_t position, const Action& action) {
    std::int32_t& last = last_[static_cast<std::size_t>(view_.local(action.stage))];
    const bool whole = last >= 0 && type_at(last) == ActionType::kUnshard;
    if (action.type == ActionType::kUnshard || action.type == ActionType::kReshard) {
      const bool unshards = action.type == ActionType::kUnshard;
      if (whole == unshards) {
        report(position, last,
               fmt::format("{} stands where stage {} is {}", action_name(action), action.stage,
                           whole ? "unsharded already" : "not unsharded"));
      }
      last = position;
    } else if (is_compute(action.type) && !whole) {
      report(position, last,
             fmt::format("{} computes where stage {} is not unsharded", action_name(action),
                         action.stage));
    }
  }

  /// Torch's lowering reshards a stage when another is needed: it leaves the one that computes
  /// last.
  void finish() {
    const int left_by_torch = last_computed(view_.list());
    for (std::size_t i = 0; i < last_.size(); ++i) {
      if (last_[i] < 0 || type_at(last_[i]) != ActionType::kUnshard) continue;
      if (view_.stages()[i] == left_by_torch) continue;  // notes_of() tells it
      add(findings_, "unshard", view_.location(last_[i]),
          fmt::format("stage {} is not resharded at the end of the step", view_.stages()[i]));
    }
  }

 private:
  ActionType type_at(std::int32_t position) const {
    return view_.list()[static_cast<std::size_t>(position)].type;
  }
  void report(std::int32_t position, std::int32_t last, std::string what) {
    Diagnostic& finding = add(findings_, "unshard", view_.location(position), std::move(what));
    if (last >= 0) {
      finding.notes.push_back(
          note(view_.location(last),
               name_at(view_.input().schedule, view_.location(last)) + " before it"));
    }
  }

  const RankView& view_;
  Diagnostics& findings_;
  std::vector<std::int32_t> last_;  // UNSHARD or RESHARD, by local stage
};

}  // namespace

void check_unshard(const RankView& view, Diagnostics& findings) {
  if (!view.unshards()) return;
  Shards shards(view, findings);
  const std::vector<Action>& list = view.list();
  const bool all_in_place = view.input().strays.empty();
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (list[i].stage < 0 || is_communication(list[i].type)) continue;
    if (!all_in_place && !view.input().holders.in_place(view.rank(), list[i])) continue;
    shards.follow(static_cast<std::int32_t>(i), list[i]);
  }
  shards.finish();
}

void check_residency(const RankView& view, Diagnostics& findings) {
  const std::optional<int>& most = view.input().options.max_active_stages;
  if (!most || !view.unshards()) return;
  std::vector<int> whole;  // stages
  const std::vector<Action>& list = view.list();
  for (std::size_t i = 0; i < list.size(); ++i) {
    const bool unshards = list[i].type == ActionType::kUnshard;
    if (!unshards && list[i].type != ActionType::kReshard) continue;
    if (!view.input().holders.in_place(view.rank(), list[i])) continue;
    std::erase(whole, list[i].stage);
    if (unshards) whole.push_back(list[i].stage);
    if (static_cast<int>(whole.size()) <= *most) continue;
    std::string stages;
    for (const int stage : whole) stages += fmt::format("{}{}", stages.empty() ? "" : ", ", stage);
    add(findings, "residency", view.location(i),
        fmt::format("{} makes {} stages of the rank whole, the cap is {}: {}", action_name(list[i]),
                    whole.size(), *most, stages));
    return;
  }
}

}  // namespace plait::verify_detail

namespace plait {

std::vector<std::string> notes_of(const Schedule& schedule) {
  std::vector<std::string> notes;
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    const std::vector<Action>& list = schedule.ranks[rank];
    const int stage = verify_detail::last_computed(list);
    const auto last = std::find_if(list.rbegin(), list.rend(), [&](const Action& action) {
      return action.stage == stage &&
             (action.type == ActionType::kUnshard || action.type == ActionType::kReshard);
    });
    if (stage < 0 || last == list.rend() || last->type != ActionType::kUnshard) continue;
    notes.push_back(fmt::format(
        "rank {}: stage {}, which computes last, stays unsharded at the end of the step, "
        "as torch's lowering leaves it",
        rank, stage));
  }
  return notes;
}

}  // namespace plait
