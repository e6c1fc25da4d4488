#include "plait/braid/braid_bound.h"

#include <algorithm>

namespace plait {
namespace {

struct Job {
  Lane lane = Lane::kCompute;
  Nanoseconds cost = 0;
  Nanoseconds head = 0;
  Nanoseconds tail = 0;
};

/// The segments of all layers with their heads and tails.
std::vector<Job> jobs_of(const LayerBraid& braid, const std::vector<int>& order) {
  const std::size_t width = braid.segments.size();
  const auto layers = static_cast<std::size_t>(braid.layers);
  std::vector<Job> jobs(layers * width);
  const auto for_each_need = [&](std::size_t layer, const LayerSegment& segment, auto&& visit) {
    for (const int need : segment.needs)
      visit(jobs[layer * width + static_cast<std::size_t>(need)]);
    if (layer == 0) return;
    for (const int need : segment.needs_of_layer_before)
      visit(jobs[(layer - 1) * width + static_cast<std::size_t>(need)]);
  };
  for (std::size_t layer = 0; layer < layers; ++layer) {
    for (const int s : order) {
      const LayerSegment& segment = braid.segments[static_cast<std::size_t>(s)];
      Job& job = jobs[layer * width + static_cast<std::size_t>(s)];
      job.lane = segment.lane;
      job.cost = segment.cost(static_cast<int>(layer));
      for_each_need(layer, segment,
                    [&](const Job& need) { job.head = std::max(job.head, need.head + need.cost); });
    }
  }
  for (std::size_t layer = layers; layer-- > 0;) {
    for (auto s = order.rbegin(); s != order.rend(); ++s) {
      const Job job = jobs[layer * width + static_cast<std::size_t>(*s)];
      for_each_need(layer, braid.segments[static_cast<std::size_t>(*s)],
                    [&](Job& need) { need.tail = std::max(need.tail, job.cost + job.tail); });
    }
  }
  return jobs;
}

}  // namespace

Nanoseconds braid_bound(const LayerBraid& braid) {
  const auto order = order_by_needs(braid.segments);
  if (!order) return 0;
  std::vector<Job> jobs = jobs_of(braid, *order);
  std::sort(jobs.begin(), jobs.end(), [](const Job& a, const Job& b) { return a.tail > b.tail; });
  Nanoseconds bound = 0;
  for (const Lane lane : {Lane::kCompute, Lane::kCommunication}) {
    std::vector<Nanoseconds> heads;
    for (const Job& job : jobs)
      if (job.lane == lane) heads.push_back(job.head);
    std::sort(heads.begin(), heads.end());
    heads.erase(std::unique(heads.begin(), heads.end()), heads.end());
    for (const Nanoseconds head : heads) {
      Nanoseconds sum = 0;
      for (const Job& job : jobs) {  // by falling tails: each time the least so far
        if (job.lane != lane || job.head < head) continue;
        sum += job.cost;
        bound = std::max(bound, head + sum + job.tail);
      }
    }
  }
  return bound;
}

}  // namespace plait
