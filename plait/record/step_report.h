/// What the ranks tell one another after a step, and the step's line made of it. Knows no torch.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "plait/base/error.h"
#include "plait/base/units.h"
#include "plait/timeline/timeline.h"

namespace plait {

struct LossPoint {
  int step = 0;
  double loss = 0;
};

/// Sums of squares of neighbouring chunks of one parameter's gradient (train/shard_layout.h).
struct SquareSums {
  std::string name;
  std::int64_t chunk = 0;  ///< which of the parameter's chunks comes first here
  /// By chunk; where chunk 0 comes first all are added up, in ascending order.
  std::vector<double> sums;

  friend bool operator==(const SquareSums&, const SquareSums&) = default;
};

/// A number of a step that is infinite or not a number.
struct NotFinite {
  enum class Phase : std::uint8_t { kForward, kLoss, kBackward, kGradient };
  Phase phase = Phase::kForward;
  int microbatch = -1;  ///< -1: of a parameter's gradient, which all have added to
  int stage = -1;       ///< -1: as above
  std::string what;     ///< "loss is nan", "tensor 0 of its output is inf"

  /// The earlier in a step, the smaller.
  std::tuple<Phase, int, int> place() const {
    return {phase, microbatch, phase == Phase::kBackward ? -stage : stage};
  }
  /// "loss is nan at micro-batch 2, stage 3".
  std::string text() const;

  friend bool operator==(const NotFinite&, const NotFinite&) = default;
};

/// One rank's part of a step, gathered by all ranks.
struct RankReport {
  /// Of the gradients divided by M; of all ranks, each chunk of each parameter is in one.
  std::vector<SquareSums> square_sums;
  std::vector<double> losses;  ///< by micro-batch; only from the rank that holds the loss
  std::vector<std::array<Nanoseconds, 2>>
      times;                        ///< begin and end by instruction of the rank's program
  std::vector<EventMemory> memory;  ///< by instruction
  Bytes peak_activation_bytes = 0;
  Bytes peak_state_bytes = 0;  ///< of parameters, gradients and optimiser
  Nanoseconds cpu_ns = 0;      ///< CPU time of the rank's thread in the step
  int pairs_braided = 0;
  int pairs_in_sequence = 0;
  int whole_backwards = 0;  ///< I's of which a part ran as B because a module cannot be split
  std::map<int, std::vector<std::int64_t>> router_loads;  ///< rows per expert, by layer
  int stop_signal = 0;                ///< the signal that asked this rank to stop, 0 if none
  std::vector<NotFinite> not_finite;  ///< the earliest that it met, if any
  /// When it entered and left the exchange of reports before this one, by its clock.
  std::array<Nanoseconds, 2> passage{};

  /// Exact, for ranks of one architecture.
  std::string pack() const;
  static Expected<RankReport> unpack(std::string_view bytes);
};

/// One step as people and machines read it.
struct StepLine {
  int step = 0;  ///< from 1
  double loss = 0;
  double grad_norm = 0;
  double learning_rate = 0;
  std::int64_t tokens = 0;  ///< of the step
  Nanoseconds step_ns = 0;
  std::vector<double> bubble_share;
  std::vector<Nanoseconds> fill_ns, steady_ns, drain_ns;  ///< the bubble's three parts
  std::vector<Nanoseconds> exposed_comm_ns;
  std::vector<Bytes> peak_activation_bytes;
  std::vector<Bytes> peak_state_bytes;
  std::vector<Nanoseconds> cpu_ns;
  int pairs_braided = 0;
  int pairs_in_sequence = 0;
  int whole_backwards = 0;
  int skipped = 0;                ///< 1: it changed nothing, because a number was not finite
  Nanoseconds checkpoint_ns = 0;  ///< in which the step waited for its checkpoint
  Nanoseconds span_ns = 0;        ///< from the first to the last action of any rank
  double mean_bubble_share = 0;   ///< of the pipeline
  std::vector<Nanoseconds> peer_wait_ns;
  std::vector<Nanoseconds> transfer_ns;
  std::vector<Nanoseconds> hidden_comm_ns;
  double overlap_efficiency = 1;            ///< hidden of transferred, of all ranks
  std::vector<Nanoseconds> clock_error_ns;  ///< how well a rank's clock is known on rank 0's

  double tokens_per_s() const;
  double worst_bubble() const;
  double worst_exposed() const;  ///< share of the span
};

/// A step as every rank knows it when it has ended.
struct StepOutcome {
  StepLine line;
  Timeline timeline;        ///< of all ranks; empty in the reference
  int stop_signal = 0;      ///< of the first rank that was asked to stop; all ranks see the same
  std::string skipped_for;  ///< of a step that was skipped: NotFinite::text() of the earliest
};

/// Fills in what the ranks have reported and what was measured (step_fields.h). `reports` by rank.
void fill_step_line(const std::vector<RankReport>& reports, const StepMetrics& metrics,
                    StepLine& line);

struct ValidationLine {
  int step = 0;
  double loss = 0;  ///< nats a token
  std::int64_t tokens = 0;
  bool tokens_are_bytes = true;
  double bits_per_token() const;  ///< per byte where tokens are bytes
};

/// First line of metrics.jsonl: format and version.
std::string metrics_header();
/// One JSON object, without line end. Numbers read back to the same.
std::string print_json(const StepLine& line);
std::string print_json(const ValidationLine& line);

}  // namespace plait
