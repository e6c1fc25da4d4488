/// The fields of a step's line in metrics.jsonl, each listed once: how it is called, where it lies,
/// what it is filled from, and what it means.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "plait/record/step_report.h"

namespace plait {

using Integers = std::vector<std::int64_t>;
using Numbers = std::vector<double>;

struct StepField {
  /// Where it lies; a function's value is printed, and not read back.
  using Place =
      std::variant<int StepLine::*, std::int64_t StepLine::*, double StepLine::*,
                   Numbers StepLine::*, Integers StepLine::*, double (StepLine::*)() const>;
  /// What fills it: a rank's report (a list has an entry a rank, a number is the sum of all ranks);
  /// what is measured in the timeline, by rank or of all; nothing: the trainer.
  using Source = std::variant<std::monostate, int RankReport::*, std::int64_t RankReport::*,
                              Nanoseconds RankMetrics::*, double (StepMetrics::*)(int) const,
                              Nanoseconds StepMetrics::*, double (StepMetrics::*)() const>;

  std::string_view name;
  Place place;
  Source source;
  std::string_view meaning;

  /// Lists of what is measured are empty where there is no timeline, as in the reference.
  constexpr bool needs_timeline() const {
    return std::holds_alternative<Nanoseconds RankMetrics::*>(source) ||
           std::holds_alternative<double (StepMetrics::*)(int) const>(source);
  }
};

/// In the order in which they are printed.
inline constexpr std::array kStepFields{
    StepField{"step", &StepLine::step, {}, "from 1"},
    StepField{"loss", &StepLine::loss, {}, "mean over the step's tokens, in nats"},
    StepField{"grad_norm",
              &StepLine::grad_norm,
              {},
              "global norm of the gradients divided by M, before clipping"},
    StepField{"learning_rate", &StepLine::learning_rate, {}, "of this step"},
    StepField{"tokens", &StepLine::tokens, {}, "trained on in this step"},
    StepField{"step_ns", &StepLine::step_ns, {}, "the whole step, optimiser included"},
    StepField{"tokens_per_s", &StepLine::tokens_per_s, {}, "`tokens` over `step_ns`"},
    StepField{"bubble_share", &StepLine::bubble_share, &StepMetrics::bubble_share,
              "idle share of the compute lane between the first and the last action of any rank, "
              "0 … 1"},
    StepField{"exposed_comm_ns", &StepLine::exposed_comm_ns, &RankMetrics::exposed_comm_ns,
              "the part of the bubble after the awaited producer has ended"},
    StepField{"peak_activation_bytes", &StepLine::peak_activation_bytes,
              &RankReport::peak_activation_bytes,
              "most live bytes beside parameters, gradients, optimiser state and receive buffers"},
    StepField{
        "peak_state_bytes", &StepLine::peak_state_bytes, &RankReport::peak_state_bytes,
        "most live bytes of parameters, gradients and optimiser state; without what is on its "
        "way between replicas"},
    StepField{"cpu_ns", &StepLine::cpu_ns, &RankReport::cpu_ns, "CPU time of the rank's thread"},
    StepField{"pairs_braided", &StepLine::pairs_braided, &RankReport::pairs_braided,
              "how many pairs ran overlapped"},
    StepField{"pairs_in_sequence", &StepLine::pairs_in_sequence, &RankReport::pairs_in_sequence,
              "how many ran one member after the other"},
    StepField{"whole_backwards", &StepLine::whole_backwards, &RankReport::whole_backwards,
              "how many I ran as whole B, because a module cannot be split"},
    StepField{"fill_ns", &StepLine::fill_ns, &RankMetrics::fill_ns,
              "the part of the bubble before the rank's first compute"},
    StepField{"steady_ns", &StepLine::steady_ns, &RankMetrics::steady_ns,
              "the part between its first and its last"},
    StepField{"drain_ns", &StepLine::drain_ns, &RankMetrics::drain_ns, "the part after its last"},
    StepField{"span_ns", &StepLine::span_ns, &StepMetrics::span_ns,
              "from the first to the last action of any rank: what shares are shares of"},
    StepField{"mean_bubble_share", &StepLine::mean_bubble_share, &StepMetrics::mean_bubble_share,
              "of the pipeline: the mean over ranks"},
    StepField{"peer_wait_ns", &StepLine::peer_wait_ns, &RankMetrics::peer_wait_ns,
              "the part of the bubble in which another rank was still making the awaited value; "
              "with `exposed_comm_ns` it is what waiting costs"},
    StepField{
        "transfer_ns", &StepLine::transfer_ns, &RankMetrics::transfer_ns,
        "union of the times in which the rank's messages, exchanges and reductions were under "
        "way; that a peer has not posted its end yet is not counted"},
    StepField{"hidden_comm_ns", &StepLine::hidden_comm_ns, &RankMetrics::hidden_comm_ns,
              "the part of them that lies under the rank's own compute"},
    StepField{"overlap_efficiency", &StepLine::overlap_efficiency, &StepMetrics::overlap_efficiency,
              "hidden of transferred, over all ranks; 1 without communication"},
    StepField{"clock_error_ns",
              &StepLine::clock_error_ns,
              {},
              "how well the rank's clock is known on rank 0's, at most; 0 where it is the same "
              "clock ([runtime](runtime.md))"},
    StepField{"skipped",
              &StepLine::skipped,
              {},
              "1: a number was not finite, and the step left parameters and optimiser as they were "
              "(`run.on_not_finite`); its loss or norm is then `null`"},
    StepField{"checkpoint_ns",
              &StepLine::checkpoint_ns,
              {},
              "after the step, beside `step_ns`: how long rank 0 waited for the checkpoint before "
              "and copied this step's state ([checkpoint](checkpoint.md))"},
};

/// Calls `visit(field, member)` for each field that lies in a member of StepLine.
template <typename Visit>
void each_stored_field(const Visit& visit) {
  for (const StepField& field : kStepFields) {
    std::visit(
        [&](const auto place) {
          if constexpr (std::is_member_object_pointer_v<decltype(place)>) visit(field, place);
        },
        field.place);
  }
}

/// The table of the fields, as docs/job.md holds it.
std::string print_step_table();

}  // namespace plait
