/// Costs as users give them, in a TOML file or by flags, and the cost model they make.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "plait/braid/layer_braid.h"
#include "plait/sim/cost_model.h"

namespace plait {

/// A number for every stage, or a list with one for each.
struct StageCost {
  std::vector<std::int64_t> values;
  bool is_list = false;
  std::string where;  ///< file:line or flag
};

/// Keys of [stage].
enum class StageKey : std::uint8_t {
  kForward,
  kBackwardInput,
  kBackwardWeight,
  kBackward,
  kRecompute,
  kActivationBytes,
  kRecomputedBytes,
  kBetweenBytes,
  kForwardScratch,
  kBackwardInputScratch,
  kBackwardWeightScratch,
  kBackwardScratch,
  kParameterBytes,
  kGradientBytes,
  kUnshard,
  kReshard,
  kReduceGrad,
};

struct StageKeyInfo {
  StageKey key;
  std::string_view name;     ///< in a file; as a flag with dashes
  std::string_view meaning;  ///< for --help and docs
};

inline constexpr std::array kStageKeys = {
    StageKeyInfo{StageKey::kForward, "f_ns", "F"},
    StageKeyInfo{StageKey::kBackwardInput, "i_ns", "I"},
    StageKeyInfo{StageKey::kBackwardWeight, "w_ns", "W"},
    StageKeyInfo{StageKey::kBackward, "b_ns", "B; otherwise I and W together"},
    StageKeyInfo{StageKey::kRecompute, "recompute_ns",
                 "before I or B, without a wait for its gradient"},
    StageKeyInfo{StageKey::kActivationBytes, "activation_bytes",
                 "held from F's begin to I's or B's end"},
    StageKeyInfo{StageKey::kRecomputedBytes, "recomputed_bytes",
                 "held from the recompute's begin to I's or B's end"},
    StageKeyInfo{StageKey::kBetweenBytes, "between_i_and_w_bytes", "held from I's end to W's"},
    StageKeyInfo{StageKey::kForwardScratch, "f_scratch_bytes", "held beside while F runs"},
    StageKeyInfo{StageKey::kBackwardInputScratch, "i_scratch_bytes", "held beside while I runs"},
    StageKeyInfo{StageKey::kBackwardWeightScratch, "w_scratch_bytes", "held beside while W runs"},
    StageKeyInfo{StageKey::kBackwardScratch, "b_scratch_bytes", "held beside while B runs"},
    StageKeyInfo{StageKey::kParameterBytes, "parameter_bytes",
                 "held the whole step, or while unsharded"},
    StageKeyInfo{StageKey::kGradientBytes, "gradient_bytes", "held the whole step"},
    StageKeyInfo{StageKey::kUnshard, "unshard_ns", "UNSHARD, on the link to the replicas"},
    StageKeyInfo{StageKey::kReshard, "reshard_ns", "RESHARD, on the compute lane"},
    StageKeyInfo{StageKey::kReduceGrad, "reduce_grad_ns",
                 "REDUCE_GRAD, on the link to the replicas"},
};

/// By compute_index().
inline constexpr std::array kScratchKeys{StageKey::kForwardScratch, StageKey::kBackwardInputScratch,
                                         StageKey::kBackwardWeightScratch,
                                         StageKey::kBackwardScratch};

/// What was given and what was not; flags are laid over a file's.
struct CostSettings {
  struct Between {
    int from = 0;
    int to = 0;
    std::optional<Nanoseconds> latency{};
    std::optional<std::int64_t> bandwidth{};
  };

  std::array<std::optional<StageCost>, kStageKeys.size()> stage;  ///< by StageKey
  std::optional<Nanoseconds> comm{};
  std::optional<Nanoseconds> latency{};
  std::optional<std::int64_t> bandwidth{};
  std::optional<Bytes> message_bytes{};
  std::vector<Between> between{};
  std::optional<int> replicas{};
  std::optional<Nanoseconds> collective_latency{};
  std::optional<std::int64_t> collective_bandwidth{};
  std::optional<PairPricing> pricing{};  ///< absent: what the rest says, else in sequence
  std::optional<Nanoseconds> pair{};
  std::optional<double> share{};
  std::optional<LayerBraid> braid{};  ///< each segment with its cost

  std::optional<StageCost>& of(StageKey key) { return stage[static_cast<std::size_t>(key)]; }
  const std::optional<StageCost>& of(StageKey key) const {
    return stage[static_cast<std::size_t>(key)];
  }
  /// Messages are priced as links.
  bool has_network() const { return latency || bandwidth || message_bytes || !between.empty(); }
  /// UNSHARD and REDUCE_GRAD are priced as collectives.
  bool has_collectives() const { return replicas || collective_latency || collective_bandwidth; }
};

/// Reads a cost file (docs/simulate.md). `path` is for messages; a braid's file stands beside it.
///
/// Errors, with file and line, what was found and what was needed: syntax; an unknown key (with
/// the nearest known one); another type, a fraction where an integer is needed, a negative number;
/// braid segments that name what is not there; what is wrong with a braid's file.
Expected<CostSettings> parse_cost_file(const std::string& text, const std::string& path);
/// `path` may be a run's folder: then its costs.toml.
inline constexpr const char* kRunCosts = "costs.toml";
Expected<CostSettings> read_cost_file(const std::string& path);

/// "12" or "10,12,11": integers of 0 or more. `flag` is for messages.
Expected<StageCost> parse_stage_cost(const std::string& text, const std::string& flag);

/// The model for `stages` stages; with no F, I, W and B given, F, I and W take 1 ns.
///
/// Errors: a list that has not one entry for each stage; one of F, I, W missing; `comm` and link
/// costs at once; a link to replicas without their number; two prices of a pair at once; a braid
/// that deadlocks or is missing.
Expected<CostModel> make_cost_model(const CostSettings& settings, int stages);

}  // namespace plait
