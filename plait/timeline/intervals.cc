#include "plait/timeline/intervals.h"

#include <algorithm>

namespace plait {

std::vector<Interval> unite(std::vector<Interval> intervals) {
  std::sort(intervals.begin(), intervals.end());
  std::vector<Interval> united;
  for (const Interval& interval : intervals) {
    if (!united.empty() && interval.first <= united.back().second) {
      united.back().second = std::max(united.back().second, interval.second);
    } else {
      united.push_back(interval);
    }
  }
  return united;
}

Nanoseconds length(const std::vector<Interval>& intervals) {
  Nanoseconds sum = 0;
  for (const auto& [begin, end] : intervals) sum += end - begin;
  return sum;
}

Nanoseconds common_length(const std::vector<Interval>& one, const std::vector<Interval>& other) {
  Nanoseconds sum = 0;
  for (std::size_t i = 0, j = 0; i < one.size() && j < other.size();) {
    sum += std::max<Nanoseconds>(
        0, std::min(one[i].second, other[j].second) - std::max(one[i].first, other[j].first));
    ++(one[i].second < other[j].second ? i : j);
  }
  return sum;
}

}  // namespace plait
