#include <fmt/core.h>

#include <algorithm>
#include <set>
#include <utility>

#include "plait/verify/rules.h"

namespace plait::verify_detail {
namespace {

bool releases(const Action& action) {
  return action.type == ActionType::kBackward || action.type == ActionType::kBackwardWeight;
}

/// Calls visit(position, live) for every action or pair; in a pair all that starts lives together
/// with all that ends.
template <typename Visit>
void for_each_block(const std::vector<Action>& list, Visit visit) {
  std::int64_t live = 0;
  for (std::size_t begin = 0; begin < list.size();) {
    const std::size_t end = std::min(list.size(), begin + 1 + list[begin].members);
    std::int64_t released = 0;
    for (std::size_t i = begin; i < end; ++i) {
      live += list[i].type == ActionType::kForward ? 1 : 0;
      released += releases(list[i]) ? 1 : 0;
    }
    if (!visit(begin, live)) return;
    live -= released;
    begin = end;
  }
}

/// "stage 0 micro-batches 1-3 5, stage 7 micro-batch 0" of what lives at a position.
std::string live_at(const std::vector<Action>& list, std::size_t position) {
  std::set<std::pair<int, int>> live;
  for (std::size_t i = 0; i < position + 1 + list[position].members && i < list.size(); ++i) {
    if (list[i].type == ActionType::kForward) live.insert({list[i].stage, list[i].microbatch});
    if (releases(list[i]) && i < position) live.erase({list[i].stage, list[i].microbatch});
  }
  std::string text;
  int stage = -1;
  for (auto first = live.begin(); first != live.end();) {
    auto last = first;
    while (std::next(last) != live.end() &&
           *std::next(last) == std::pair(last->first, last->second + 1))
      ++last;
    if (first->first != stage) {
      stage = first->first;
      text += fmt::format("{}stage {} micro-batches", text.empty() ? "" : ", ", stage);
    }
    text += first == last ? fmt::format(" {}", first->second)
                          : fmt::format(" {}-{}", first->second, last->second);
    first = std::next(last);
  }
  return text;
}

}  // namespace

void check_memory_cap(const RankView& view, Diagnostics& findings) {
  const std::vector<int>& caps = view.input().options.max_activations;
  if (caps.empty() || view.input().schedule.forward_only) return;
  const int cap = caps.size() == 1 ? caps[0] : caps[static_cast<std::size_t>(view.rank())];
  const std::vector<Action>& list = view.list();
  std::size_t breaks = list.size();
  std::size_t peak_at = 0;
  std::int64_t peak = 0;
  for_each_block(list, [&](std::size_t position, std::int64_t live) {
    if (live > cap && breaks == list.size()) breaks = position;
    if (live > peak) {
      peak = live;
      peak_at = position;
    }
    return true;
  });
  if (peak <= cap) return;
  std::int64_t kept = 0;
  for_each_block(list, [&](std::size_t position, std::int64_t live) {
    kept = live;
    return position < breaks;
  });
  add(findings, "memory-cap", view.location(breaks),
      fmt::format("{} makes {} stage activations live, the cap is {}: {}",
                  name_at(view.input().schedule, view.location(breaks)), kept, cap,
                  live_at(list, breaks)),
      {note(view.location(peak_at), fmt::format("the peak is {}", peak))});
}

}  // namespace plait::verify_detail
