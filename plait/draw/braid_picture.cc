#include "plait/draw/braid_picture.h"

#include <fmt/core.h>

#include <algorithm>

#include "plait/braid/layer_clock.h"

namespace plait {
namespace {

constexpr int kLabelWidth = 14;

std::string name_of(const LayerBraid& braid, const SegmentTime& time) {
  std::string name = braid.segments[static_cast<std::size_t>(time.segment)].word.text();
  if (braid.layers > 1) name += std::to_string(time.layer);
  return name;
}

/// Columns in which every segment has room for its bar and name, as far as some bands can.
std::int64_t columns_for(const LayerBraid& braid, const std::vector<SegmentTime>& times,
                         Nanoseconds makespan, int band) {
  constexpr std::int64_t kMostBands = 8;
  double needed = band;
  for (const SegmentTime& time : times) {
    if (time.end == time.begin) continue;
    const auto room = static_cast<double>(name_of(braid, time).size() + 2);
    needed = std::max(
        needed, room * static_cast<double>(makespan) / static_cast<double>(time.end - time.begin));
  }
  const auto most = static_cast<double>(band) * static_cast<double>(kMostBands);
  return static_cast<std::int64_t>(std::min(needed, most));
}

std::string print_time(Nanoseconds time, Nanoseconds makespan) {
  if (makespan < 10'000) return fmt::format("{} ns", time);
  if (makespan < 10'000'000) return fmt::format("{:.1f} us", static_cast<double>(time) / 1e3);
  return fmt::format("{:.1f} ms", static_cast<double>(time) / 1e6);
}

}  // namespace

Expected<std::string> draw_braid(const LayerBraid& braid, int width) {
  PLAIT_TRY(const Braid all, lay_out(braid));
  PLAIT_TRY_VOID(PreparedBraid::make(all));
  if (!braid.has_costs())
    return fail(ErrorCode::kInvalidInput, "a segment has no cost, needed for a picture", "braid");
  LayerClock clock(braid);
  const Nanoseconds makespan = *clock.run(braid.lanes);
  const std::vector<SegmentTime> times = clock.times(braid.lanes);
  const int band = std::max(width - kLabelWidth, 10);
  const std::int64_t columns = columns_for(braid, times, makespan, band);
  const auto column = [&](Nanoseconds time) {
    const double share =
        makespan == 0 ? 0 : static_cast<double>(time) / static_cast<double>(makespan);
    return static_cast<std::size_t>(share * static_cast<double>(columns));
  };
  std::array<std::string, 2> rows;
  rows.fill(std::string(static_cast<std::size_t>(columns), '.'));
  for (const SegmentTime& time : times) {
    const auto lane = braid.segments[static_cast<std::size_t>(time.segment)].lane;
    const std::size_t begin = column(time.begin);
    const std::size_t end = column(time.end);
    std::string bar = ("|" + name_of(braid, time)).substr(0, end - begin);
    bar.resize(end - begin, '=');
    rows[static_cast<std::size_t>(lane)].replace(begin, bar.size(), bar);
  }
  std::string picture;
  for (std::int64_t from = 0; from < columns; from += band) {
    const double share = static_cast<double>(from) / static_cast<double>(columns);
    const auto time = static_cast<Nanoseconds>(share * static_cast<double>(makespan));
    picture += fmt::format("from {}\n", print_time(time, makespan));
    for (std::size_t lane = 0; lane < rows.size(); ++lane) {
      picture += fmt::format(
          "{:<{}}{}\n", kLaneNames[lane], kLabelWidth,
          rows[lane].substr(static_cast<std::size_t>(from), static_cast<std::size_t>(band)));
    }
  }
  return picture + fmt::format("ends at {}\n", print_time(makespan, makespan));
}

}  // namespace plait
