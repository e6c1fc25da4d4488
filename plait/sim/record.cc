#include "plait/sim/record.h"

#include <algorithm>
#include <limits>

namespace plait::sim_detail {
namespace {

bool is_instruction(ActionType type) { return is_compute(type) || is_communication(type); }

/// The instruction that makes each value, by Direction and cell.
class Makers {
 public:
  explicit Makers(const Engine& engine) : engine_(engine) {
    const Schedule& schedule = engine.schedule();
    const std::size_t cells = engine.cell(schedule.placement.stages(), 0);
    for (auto& makers : instruction_) makers.assign(cells, -1);
    for (const std::vector<Action>& list : schedule.ranks) {
      std::int32_t instruction = 0;
      for (const Action& action : list) {
        if (!is_instruction(action.type)) continue;
        if (engine.recompute(action) > 0) ++instruction;
        if (passes_value(action.type)) {
          at(direction_of(action.type), engine.cell(action.stage, action.microbatch)) = instruction;
        }
        ++instruction;
      }
    }
  }

  void name_awaited(TimelineEvent& event) {
    const Action& action = event.action;
    const Engine::Read read = engine_.read_of(action);
    if (!read.any || !engine_.crosses(read.direction, read.stage, action.microbatch)) return;
    event.awaited_rank = engine_.rank_of(read.stage, action.microbatch);
    event.awaited_instruction = at(read.direction, engine_.cell(read.stage, action.microbatch));
  }

 private:
  std::int32_t& at(Direction direction, std::size_t cell) {
    return instruction_[static_cast<std::size_t>(direction)][cell];
  }
  const Engine& engine_;
  std::array<std::vector<std::int32_t>, 2> instruction_;
};

class Recorder {
 public:
  static constexpr bool kWanted = true;
  static constexpr bool kMessages = true;

  Recorder(const Engine& engine, int rank, Makers& makers)
      : makers_(makers),
        rank_(rank),
        braided_(engine.costs().pairs.pricing == PairPricing::kBraid) {
    std::int32_t instruction = 0;
    std::int32_t pair = -1;
    for (const Action& action : engine.list(rank)) {
      if (action.type == ActionType::kOverlapFB) {
        ++pair;
        pair_left_ = action.members;
      }
      const bool counted = is_instruction(action.type);
      if (engine.recompute(action) > 0) ++instruction;
      number_.push_back({counted ? instruction++ : -1, counted && pair_left_ > 0 ? pair : -1});
      if (counted && pair_left_ > 0) --pair_left_;
    }
  }

  void unit(const Unit& unit) {
    const std::size_t first = unit.position + (unit.members.size() > 1 ? 1 : 0);
    if (unit.recompute.any()) {
      add(first, unit.members[0], Lane::kCompute, unit.recompute.begin, unit.recompute.end);
      // An instruction of its own, which awaits nothing.
      TimelineEvent& event = events_.back().second;
      --event.instruction;
      event.awaited_rank = event.awaited_instruction = -1;
    }
    for (std::size_t i = 0; i < unit.members.size(); ++i) {
      const MemberTimes& times = unit.times[i];
      add(first + i, unit.members[i], Lane::kCompute, times.begin, times.end);
      if (times.exchange[0] <= times.exchange[1])
        add(first + i, unit.members[i], Lane::kCommunication, times.exchange[0], times.exchange[1]);
    }
  }
  void service(const Service& service) {
    const bool compute = service.action->type == ActionType::kReshard;
    add(service.position, *service.action, compute ? Lane::kCompute : Lane::kCommunication,
        service.begin, service.end);
  }

  /// Appends the rank's events in the order of its list.
  void take(std::vector<TimelineEvent>& events) {
    std::stable_sort(events_.begin(), events_.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    for (const auto& [position, event] : events_) events.push_back(event);
  }

 private:
  struct Number {
    std::int32_t instruction;
    std::int32_t pair;
  };

  void add(std::size_t position, const Action& action, Lane lane, Nanoseconds begin,
           Nanoseconds end) {
    TimelineEvent event;
    event.rank = rank_;
    event.lane = lane;
    event.instruction = number_[position].instruction;
    event.pair = number_[position].pair;
    event.braided = event.pair >= 0 && braided_;
    event.action = action;
    event.begin = begin;
    event.end = end;
    if (lane == Lane::kCompute) makers_.name_awaited(event);
    events_.emplace_back(position, event);
  }

  Makers& makers_;
  int rank_;
  bool braided_;
  int pair_left_ = 0;
  std::vector<Number> number_;  // by position
  std::vector<std::pair<std::size_t, TimelineEvent>> events_;
};

/// When each unit of a rank ran; what an action recomputes is an entry without members before it.
class UnitLog {
 public:
  static constexpr bool kWanted = true;
  static constexpr bool kMessages = false;
  struct Entry {
    std::uint32_t position;
    std::uint32_t members;
    Nanoseconds begin;
    Nanoseconds end;
  };

  void unit(const Unit& unit) {
    const auto position = static_cast<std::uint32_t>(unit.position);
    Nanoseconds begin = unit.begin;
    if (unit.recompute.any()) {
      entries.push_back({position, 0, unit.recompute.begin, unit.recompute.end});
      begin = unit.times[0].begin;
    }
    entries.push_back({position, static_cast<std::uint32_t>(unit.members.size()), begin, unit.end});
    for (std::size_t i = 0; i < unit.members.size(); ++i)
      last_done = std::max(last_done, unit.times[i].done);
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
      const UnitLog::Entry& entry = entry_at(spot);
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

  const UnitLog::Entry& entry_at(Spot spot) const {
    return logs_[static_cast<std::size_t>(spot.rank)].entries[spot.entry];
  }
  std::span<const Action> members_at(Spot spot) const {
    const UnitLog::Entry& entry = entry_at(spot);
    return engine_.list(spot.rank).subspan(entry.position + (entry.members > 1 ? 1 : 0),
                                           entry.members);
  }

  /// What kept a unit from beginning earlier, and when that was made; nothing: time 0.
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

  /// The unit that makes a value: one that began by the time it was made.
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
  std::vector<UnitLog> logs_;
};

}  // namespace

Timeline record_timeline(Engine& engine) {
  Timeline timeline;
  timeline.ranks = static_cast<int>(engine.schedule().ranks.size());
  Makers makers(engine);
  for (int rank = 0; rank < timeline.ranks; ++rank) {
    Recorder recorder(engine, rank, makers);
    engine.replay(rank, recorder);
    recorder.take(timeline.events);
  }
  return timeline;
}

std::vector<CriticalStep> find_critical_path(Engine& engine) { return CriticalPath(engine).walk(); }

}  // namespace plait::sim_detail
