#include "plait/sim/predicted_timeline.h"

#include <algorithm>

namespace plait::sim_detail {
namespace {

/// Numbers a rank's instructions as lower() does for stages of one part that one rank alone holds:
/// every action is one, and a recompute is an instruction of its own right before its I or B.
/// predicted_timeline_test.cc holds the numbers against lower().
class InstructionNumbers {
 public:
  explicit InstructionNumbers(const Engine& engine) : engine_(engine) {}

  /// Of the next action of the rank's list; -1 if it is lowered to none.
  std::int32_t next(const Action& action) {
    if (action.type == ActionType::kIdle || action.type == ActionType::kOverlapFB) return -1;
    if (engine_.recompute(action) > 0) ++next_;
    return next_++;
  }

 private:
  const Engine& engine_;
  std::int32_t next_ = 0;
};

/// The instruction that makes each value, by Direction and cell.
class Makers {
 public:
  explicit Makers(const Engine& engine) : engine_(engine) {
    const Schedule& schedule = engine.schedule();
    const std::size_t cells = engine.cell(schedule.placement.stages(), 0);
    for (auto& makers : instruction_) makers.assign(cells, -1);
    for (const std::vector<Action>& list : schedule.ranks) {
      InstructionNumbers numbers(engine);
      for (const Action& action : list) {
        const std::int32_t instruction = numbers.next(action);
        if (passes_value(action.type))
          maker(direction_of(action.type), engine.cell(action.stage, action.microbatch)) =
              instruction;
      }
    }
  }

  void name_awaited(TimelineEvent& event) {
    const Action& action = event.action;
    const Engine::Read read = engine_.read_of(action);
    if (!read.any || !engine_.crosses(read.direction, read.stage, action.microbatch)) return;
    event.awaited_rank = engine_.rank_of(read.stage, action.microbatch);
    event.awaited_instruction = maker(read.direction, engine_.cell(read.stage, action.microbatch));
  }

 private:
  std::int32_t& maker(Direction direction, std::size_t cell) {
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
    InstructionNumbers numbers(engine);
    std::int32_t pair = -1;
    int members_left = 0;  // of the pair at hand
    for (const Action& action : engine.list(rank)) {
      if (action.type == ActionType::kOverlapFB) {
        ++pair;
        members_left = action.members;
      }
      const std::int32_t instruction = numbers.next(action);
      const bool in_pair = instruction >= 0 && members_left > 0;
      number_.push_back({instruction, in_pair ? pair : -1});
      if (in_pair) --members_left;
    }
  }

  void block(const Block& block) {
    const std::size_t first = block.position + (block.members.size() > 1 ? 1 : 0);
    if (block.recompute.any()) {
      add(first, block.members[0], Lane::kCompute, block.recompute.begin, block.recompute.end);
      // An instruction of its own, which awaits nothing.
      TimelineEvent& event = events_.back().second;
      --event.instruction;
      event.awaited_rank = event.awaited_instruction = -1;
    }
    for (std::size_t i = 0; i < block.members.size(); ++i) {
      const MemberTimes& times = block.times[i];
      add(first + i, block.members[i], Lane::kCompute, times.begin, times.end);
      if (times.communication[0] <= times.communication[1])
        add(first + i, block.members[i], Lane::kCommunication, times.communication[0],
            times.communication[1]);
    }
  }
  void service(const Service& service) {
    const bool compute = service.action->type == ActionType::kReshard ||
                         service.action->type == ActionType::kWaitReduceGrad;
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
  std::vector<Number> number_;  // by position
  std::vector<std::pair<std::size_t, TimelineEvent>> events_;
};

}  // namespace

Timeline predicted_timeline(Engine& engine) {
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

}  // namespace plait::sim_detail
