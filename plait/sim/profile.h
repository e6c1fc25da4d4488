/// Costs fitted to measured steps, to forecast others.
#pragma once

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "plait/base/error.h"
#include "plait/base/running_mean.h"
#include "plait/ir/schedule.h"
#include "plait/sim/cost_file.h"
#include "plait/timeline/timeline.h"

namespace plait {

/// Collects the times of compute actions by stage, and how long a value takes from one rank to the
/// next. Fits means: a step is a sum, in which the pauses of the machine are too. Only times of
/// stages that compute: exchanges inside stages have no place in it. Memory: O(stages). Not
/// thread-safe.
class CostProfile {
 public:
  /// Every message, and what stages of one rank hand over, has `message` bytes.
  CostProfile(Placement placement, Bytes message)
      : placement_(std::move(placement)),
        message_(message),
        seen_(static_cast<std::size_t>(placement_.stages())) {}

  /// A measured step; the first ones of a run are not worth it. Cost: O(n log n) in its events.
  void add(const Timeline& timeline);

  /// F, I, W and B of every stage, each with the time that lies between two actions neither of
  /// which waits, and the hop between ranks; where timelines have memory, the bytes that a stage
  /// holds. A result counts with the stage that reads it if one rank has both, and with none on
  /// its way to another. Errors (kInvalidInput): a stage of which F, I or W was never seen.
  Expected<CostSettings> settings() const;
  /// Costs given for the profile's stages, as those of stages of which each holds `count`
  /// neighbours of them.
  CostSettings merged(const CostSettings& settings, int count) const;

 private:
  /// Of one stage and one of F, I, W, B.
  struct Seen {
    RunningMean time;
    RunningMean growth;  // from before to after
    RunningMean rise;    // from before to the most
  };
  void add_action(const TimelineEvent& last, Nanoseconds time, const EventMemory* memory);
  void add_bytes(CostSettings& settings) const;
  /// What neighbouring stages hold as one that runs them one after the other.
  struct Group {
    Bytes activations = 0;
    std::array<Bytes, 4> scratch{};  // F, I, W, B
  };
  Group join(int first, int end, const std::vector<std::int64_t>& held,
             const std::vector<std::int64_t>& between,
             const std::array<std::vector<std::int64_t>, 4>& scratch) const;
  /// Whether a stage reads what another rank made.
  bool reads_message(int stage) const {
    return stage > 0 && placement_.rank_of(stage) != placement_.rank_of(stage - 1);
  }

  Placement placement_;
  Bytes message_;
  bool has_memory_ = false;
  std::vector<std::array<Seen, 4>> seen_;  // by stage: F, I, W, B
  RunningMean hops_;
  RunningMean gaps_;
};

/// What stages cost and the hop, as parse_cost_file reads them.
std::string print_costs(const CostSettings& settings);

}  // namespace plait
