/// What a step's actions, messages and pairs cost, and what they hold in memory.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "plait/base/error.h"
#include "plait/base/units.h"
#include "plait/braid/braid.h"
#include "plait/ir/costs.h"
#include "plait/ir/schedule.h"

namespace plait {

/// How the runtime runs a pair.
enum class PairPricing : std::uint8_t {
  kSequence,  ///< its members one after the other, each releasing its result when it ends
  kBlock,     ///< both inputs before, both results after, a cost of its own
  kBraid,     ///< two lanes of segments (braid.h)
};

struct PairCosts {
  PairPricing pricing = PairPricing::kSequence;
  // Of a block: at most one of the two; with neither it costs what its members cost together.
  std::optional<Nanoseconds> block{};
  std::optional<double> share{};         ///< of its members' costs together, rounded to 1 ns
  std::optional<PreparedBraid> braid{};  ///< needed if pairs are braided
};

/// One directed link. A message occupies it for latency + bytes / bandwidth, rounded up to 1 ns.
struct LinkCosts {
  Nanoseconds latency = 0;
  std::int64_t bandwidth = 0;  ///< bytes a second; 0: infinite
};

/// Links between ranks, with communication lanes.
struct Network {
  struct Between {
    int from = 0;
    int to = 0;
    LinkCosts link;
  };

  LinkCosts link;                ///< of every directed pair of ranks,
  std::vector<Between> between;  ///< but for these
  Bytes message_bytes = 0;

  const LinkCosts& of(int from, int to) const;
  /// What one message takes.
  Nanoseconds transfer(int from, int to) const;
};

/// The link of each rank to the replicas of its stages. An UNSHARD is an all-gather of its stage's
/// parameters, a REDUCE_GRAD a reduce-scatter of its gradients: either occupies the link for
/// latency + bytes / bandwidth, rounded up to 1 ns, where bytes are those of the other replicas'
/// shares, (R - 1) / R of the whole for R replicas, rounded up.
struct Collectives {
  int replicas = 1;
  LinkCosts link;

  /// What each replica keeps of `whole`: 1 / R, rounded up.
  Bytes share_of(Bytes whole) const;
  Nanoseconds transfer(Bytes whole) const;  ///< nothing between fewer than two replicas
};

/// Lists have one entry per stage; those of bytes and of parameter actions may be empty: nothing.
struct CostModel {
  ActionCosts actions;  ///< with the hop that delays a reader where there is no network
  std::vector<Bytes> activation_bytes;  ///< from F's begin to I's or B's end
  std::vector<Bytes> recomputed_bytes;  ///< from the recompute's begin to I's or B's end
  std::array<std::vector<Bytes>, 4>
      scratch_bytes;                         ///< by compute_index(), while it runs, beside the rest
  std::vector<Bytes> between_i_and_w_bytes;  ///< from I's end to W's end
  std::vector<Bytes> parameter_bytes;        ///< the whole step, or from UNSHARD to RESHARD
  std::vector<Bytes> gradient_bytes;         ///< the whole step, or from a backward to REDUCE_GRAD
  std::vector<Nanoseconds> unshard;          ///< not beside `collectives`
  std::vector<Nanoseconds> reshard;
  std::vector<Nanoseconds> reduce_grad;  ///< not beside `collectives`
  std::optional<Network> network{};
  std::optional<Collectives> collectives{};
  PairCosts pairs{};

  /// True if any byte is priced, messages too.
  bool has_bytes() const;
  /// What UNSHARD and REDUCE_GRAD take, by stage; empty: nothing.
  std::vector<Nanoseconds> unshard_times() const;
  std::vector<Nanoseconds> reduce_grad_times() const;
};

/// F, I and W take `unit`, B two, nothing else costs.
CostModel unit_cost_model(int stages, Nanoseconds unit = 1);

/// Errors: a list without an entry for each stage, a negative cost, costs whose sum over a step
/// does not fit, a link of a rank that is not there, no replica, UNSHARD or REDUCE_GRAD with a time
/// and a link, braided pairs without a braid. Cost: O(S).
Expected<void> check_cost_model(const CostModel& costs, const Schedule& schedule);

}  // namespace plait
