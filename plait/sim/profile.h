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

/// Collects the times of compute actions by stage, and the hops of values between ranks. Fits
/// means: the sum of a step's times has the machine's pauses in it, which a median would leave out.
/// Counts compute actions only, so exchanges inside stages are not in it. Memory: O(stages). Not
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

  /// Time of F, I, W, B = mean + mean gap between actions neither of which waits; and the hop. With
  /// memory: activations(s) = growth of F(s) - message, if another stage reads F(s)'s result,
  /// + message, if stage s - 1 is on the same rank: s holds its input, and not what it sends away.
  /// Errors (kInvalidInput): a stage of which F, I or W was never seen.
  Expected<CostSettings> settings() const;
  /// The costs of coarser stages: stage i of the result runs stages i * count … i * count +
  /// count - 1 of `settings` one after the other.
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
  /// The bytes of neighbouring stages that run as one, one after the other.
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
