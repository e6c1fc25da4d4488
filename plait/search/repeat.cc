#include "plait/search/repeat.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "plait/ir/list_clock.h"
#include "plait/schedule/greedy/makespan.h"

namespace plait {
namespace {

constexpr std::array kPeriods{1, 2, 3, 4, 6, 12};
constexpr int kTriedOfPeriod = 40;

/// Positions of one rank's list between which there are k micro-batches of every kind and stage.
struct Part {
  std::size_t begin = 0;
  std::size_t end = 0;
  Nanoseconds time = 0;  ///< when its first action begins
};

std::vector<Part> parts_of(const std::vector<Action>& list, const std::vector<Nanoseconds>& begins,
                           int stages, int period) {
  // Of each kind and stage the actions come in ascending order: the part from `begin` ends behind
  // the last of the `period` actions of each kind that begin there.
  const auto row_of = [&](const Action& action) {
    return compute_index(action.type) * static_cast<std::size_t>(stages) +
           static_cast<std::size_t>(action.stage);
  };
  std::vector<int> count(4 * static_cast<std::size_t>(stages));
  std::size_t rows = 0;
  for (const Action& action : list) rows += count[row_of(action)]++ == 0 ? 1 : 0;
  const std::size_t length = rows * static_cast<std::size_t>(period);
  std::vector<Part> parts;
  if (length == 0 || list.size() < length) return parts;
  std::fill(count.begin(), count.end(), 0);
  std::size_t exact = 0;  // rows with `period` actions in the window
  const auto change = [&](const Action& action, int by) {
    int& number = count[row_of(action)];
    exact -= number == period ? 1 : 0;
    number += by;
    exact += number == period ? 1 : 0;
  };
  for (std::size_t i = 0; i < list.size(); ++i) {
    change(list[i], 1);
    if (i + 1 < length) continue;
    const std::size_t begin = i + 1 - length;
    if (exact == rows) parts.push_back({begin, i + 1, begins[begin]});
    change(list[begin], -1);
  }
  return parts;
}

Schedule repeated(const Schedule& schedule, const std::vector<Part>& parts, int period, int times) {
  Schedule longer =
      empty_schedule(schedule.name, schedule.placement, schedule.microbatches + period * times);
  const auto put = [](std::vector<Action>& list, Action action, int later) {
    action.microbatch += later;
    list.push_back(action);
  };
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    const std::vector<Action>& list = schedule.ranks[rank];
    std::vector<Action>& out = longer.ranks[rank];
    const auto [begin, end, time] = parts[rank];
    for (std::size_t i = 0; i < end; ++i) put(out, list[i], 0);
    for (int again = 1; again <= times; ++again) {
      for (std::size_t i = begin; i < end; ++i) put(out, list[i], again * period);
    }
    for (std::size_t i = end; i < list.size(); ++i) put(out, list[i], times * period);
  }
  return longer;
}

class Repeater {
 public:
  Repeater(const Schedule& schedule, int microbatches, const OrderCosts& costs)
      : schedule_(schedule), more_(microbatches - schedule.microbatches), costs_(costs) {
    begins_.resize(schedule.ranks.size());
    ListClock(schedule, costs.actions)
        .run([&](std::size_t rank, std::size_t /*position*/, Nanoseconds begin, Nanoseconds end) {
          begins_[rank].push_back(begin);
          makespan_ = std::max(makespan_, end);
        });
  }

  std::optional<Schedule> best() {
    for (const int period : kPeriods) {
      if (more_ % period == 0) try_period(period);
    }
    return std::move(best_);
  }

 private:
  void try_period(int period) {
    std::vector<std::vector<Part>> parts;
    for (std::size_t rank = 0; rank < schedule_.ranks.size(); ++rank) {
      parts.push_back(
          parts_of(schedule_.ranks[rank], begins_[rank], schedule_.placement.stages(), period));
      if (parts.back().empty()) return;
    }
    std::vector<std::size_t> last;
    for (int i = 0; i < kTriedOfPeriod; ++i) {
      const Nanoseconds time = makespan_ * (i + 1) / (kTriedOfPeriod + 1);
      std::vector<Part> chosen;
      std::vector<std::size_t> begins;
      for (const std::vector<Part>& of_rank : parts) {
        const auto nearest =
            std::min_element(of_rank.begin(), of_rank.end(), [&](const Part& a, const Part& b) {
              return std::abs(a.time - time) < std::abs(b.time - time);
            });
        chosen.push_back(*nearest);
        begins.push_back(nearest->begin);
      }
      if (begins == last) continue;
      last = std::move(begins);
      offer(repeated(schedule_, chosen, period, more_ / period));
    }
  }

  void offer(Schedule schedule) {
    if (!price_order(schedule, costs_.actions)) return;  // it cannot finish
    const Nanoseconds makespan = OrderGraph(schedule, costs_).makespan();
    if (makespan >= best_makespan_) return;
    best_makespan_ = makespan;
    best_ = std::move(schedule);
  }

  const Schedule& schedule_;
  int more_;
  const OrderCosts& costs_;
  std::vector<std::vector<Nanoseconds>> begins_;
  Nanoseconds makespan_ = 0;
  Nanoseconds best_makespan_ = std::numeric_limits<Nanoseconds>::max();
  std::optional<Schedule> best_;
};

}  // namespace

std::optional<Schedule> repeat_steady(const Schedule& schedule, int microbatches,
                                      const OrderCosts& costs) {
  return Repeater(schedule, microbatches, costs).best();
}

}  // namespace plait
