#include "plait/sim/critical_path.h"

#include <algorithm>

namespace plait::sim_detail {
namespace {

/// When each block of a rank ran; what an action recomputes is an entry without members before it.
class BlockLog {
 public:
  static constexpr bool kWanted = true;
  static constexpr bool kMessages = false;
  struct Entry {
    std::uint32_t position;
    std::uint32_t members;
    Nanoseconds begin;
    Nanoseconds end;
  };

  void block(const Block& block) {
    const auto position = static_cast<std::uint32_t>(block.position);
    Nanoseconds begin = block.begin;
    if (block.recompute.any()) {
      entries.push_back({position, 0, block.recompute.begin, block.recompute.end});
      begin = block.times[0].begin;
    }
    entries.push_back(
        {position, static_cast<std::uint32_t>(block.members.size()), begin, block.end});
    for (std::size_t i = 0; i < block.members.size(); ++i)
      last_done = std::max(last_done, block.times[i].done);
    if (last_done > seen_done_) {
      seen_done_ = last_done;
      last = entries.size() - 1;
    }
  }
  void service(const Service&) {}

  std::vector<Entry> entries;
  Nanoseconds last_done = kUnknown;
  std::size_t last = 0;  ///< the entry that ends last

 private:
  Nanoseconds seen_done_ = kUnknown;
};

class CriticalPath {
 public:
  explicit CriticalPath(Engine& engine) : engine_(engine), logs_(engine.schedule().ranks.size()) {
    for (std::size_t rank = 0; rank < logs_.size(); ++rank)
      engine_.replay(static_cast<int>(rank), logs_[rank]);
  }

  std::vector<CriticalStep> walk() {
    Spot spot;
    for (std::size_t rank = 0; rank < logs_.size(); ++rank) {
      if (logs_[rank].entries.empty()) continue;
      if (spot.rank < 0 ||
          logs_[rank].last_done > logs_[static_cast<std::size_t>(spot.rank)].last_done)
        spot = {static_cast<int>(rank), logs_[rank].last};
    }
    std::vector<CriticalStep> steps;
    while (spot.rank >= 0) {
      const BlockLog::Entry& entry = entry_at(spot);
      Spot before;
      const Nanoseconds released = find_before(spot, before);
      steps.push_back({spot.rank, static_cast<int>(entry.position),
                       engine_.list(spot.rank)[entry.position], entry.begin, entry.end,
                       std::max<Nanoseconds>(entry.begin - released, 0)});
      spot = before;
    }
    std::reverse(steps.begin(), steps.end());
    return steps;
  }

 private:
  struct Spot {
    int rank = -1;
    std::size_t entry = 0;
  };

  const BlockLog::Entry& entry_at(Spot spot) const {
    return logs_[static_cast<std::size_t>(spot.rank)].entries[spot.entry];
  }
  std::span<const Action> members_at(Spot spot) const {
    const BlockLog::Entry& entry = entry_at(spot);
    return engine_.list(spot.rank).subspan(entry.position + (entry.members > 1 ? 1 : 0),
                                           entry.members);
  }

  /// What kept a block from beginning earlier, and when that was made; nothing: time 0.
  Nanoseconds find_before(Spot spot, Spot& before) const {
    Nanoseconds latest = kUnknown;
    Nanoseconds released = 0;
    if (spot.entry > 0) {
      before = {spot.rank, spot.entry - 1};
      latest = released = entry_at(before).end;
    }
    const auto offer = [&](Direction direction, int stage, int microbatch, bool remote) {
      const Nanoseconds made = engine_.made(direction, engine_.cell(stage, microbatch));
      const Nanoseconds there = remote ? engine_.there(direction, stage, microbatch) : made;
      if (there <= latest) return;
      before = find(direction, stage, microbatch, made);
      latest = there;
      released = made;
    };
    if (members_at(spot).empty()) {
      const Action& action = engine_.list(spot.rank)[entry_at(spot).position];
      offer(Direction::kForward, action.stage, action.microbatch, false);
    }
    for (const Action& action : members_at(spot)) {
      const Engine::Read read = engine_.read_of(action);
      if (read.any)
        offer(read.direction, read.stage, action.microbatch,
              engine_.crosses(read.direction, read.stage, action.microbatch));
      if (action.type == ActionType::kForward) continue;
      const bool weight = action.type == ActionType::kBackwardWeight;
      offer(weight ? Direction::kBackward : Direction::kForward, action.stage, action.microbatch,
            false);
    }
    return released;
  }

  /// The block that makes a value: one that began by the time it was made.
  Spot find(Direction direction, int stage, int microbatch, Nanoseconds made) const {
    const int rank = engine_.rank_of(stage, microbatch);
    const auto& entries = logs_[static_cast<std::size_t>(rank)].entries;
    const auto after =
        std::upper_bound(entries.begin(), entries.end(), made,
                         [](Nanoseconds time, const auto& entry) { return time < entry.begin; });
    Spot spot{rank, static_cast<std::size_t>(after - entries.begin())};
    while (spot.entry > 0) {
      --spot.entry;
      for (const Action& action : members_at(spot)) {
        if (action.stage == stage && action.microbatch == microbatch && passes_value(action.type) &&
            direction_of(action.type) == direction)
          return spot;
      }
    }
    PLAIT_CHECK(false, "a value that was read has a maker");
  }

  Engine& engine_;
  std::vector<BlockLog> logs_;
};

}  // namespace

std::vector<CriticalStep> find_critical_path(Engine& engine) { return CriticalPath(engine).walk(); }

}  // namespace plait::sim_detail
