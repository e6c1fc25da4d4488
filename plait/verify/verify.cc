#include "plait/verify/verify.h"

#include <fmt/format.h>

#include <utility>

#include "plait/verify/rules.h"

namespace plait {
namespace {

using verify_detail::ActionIndex;
using verify_detail::kRules;
using verify_detail::RuleInfo;
using verify_detail::RuleInput;
using verify_detail::RuleScope;

Diagnostics run_rules(const Schedule& schedule, RuleScope scope) {
  Diagnostics findings;
  verify_detail::check_shape_rule(schedule, findings);
  if (!findings.empty()) return findings;
  const ActionIndex index(schedule);
  const RuleInput input{schedule, index};
  for (const RuleInfo& rule : kRules) {
    if (rule.scope != RuleScope::kAny && rule.scope != scope) continue;
    if (rule.needs_sound && !findings.empty()) continue;
    rule.check(input, findings);
  }
  return findings;
}

}  // namespace

tl::expected<VerifiedSchedule, Diagnostics> verify(Schedule schedule) {
  const bool lowered = is_lowered(schedule);
  Diagnostics findings =
      run_rules(schedule, lowered ? RuleScope::kLowered : RuleScope::kComputeOnly);
  if (!findings.empty()) return tl::unexpected<Diagnostics>(std::move(findings));
  return VerifiedSchedule(std::move(schedule), lowered);
}

std::string Diagnostic::text() const {
  std::string text = fmt::format("error: {}: ", rule);
  if (rank >= 0)
    text += fmt::format("rank {}{}: ", rank,
                        position >= 0 ? fmt::format(" position {}", position) : "");
  text += message;
  for (const DiagnosticNote& other : notes) {
    text += "\nnote: ";
    if (other.rank >= 0) {
      text += fmt::format("rank {}{}: ", other.rank,
                          other.position >= 0 ? fmt::format(" position {}", other.position) : "");
    }
    text += other.message;
  }
  return text;
}

std::string VerifiedSchedule::summary() const {
  std::size_t compute_actions = 0;
  std::size_t messages = 0;
  verify_detail::for_each_action(schedule_, [&](verify_detail::Place, const Action& action) {
    compute_actions += is_compute(action.type) ? 1 : 0;
    messages += is_send(action.type) ? 1 : 0;
  });
  const RuleScope other = lowered_ ? RuleScope::kComputeOnly : RuleScope::kLowered;
  std::size_t rules = 1;  // shape
  for (const RuleInfo& rule : kRules) rules += rule.scope != other ? 1 : 0;
  return fmt::format(
      "{}: {} ranks, {} stages, {} micro-batches, {} compute actions, {} messages; {} rules hold, "
      "{}",
      schedule_.name, schedule_.placement.ranks, schedule_.placement.stages(),
      schedule_.microbatches, compute_actions, messages, rules,
      lowered_ ? "no deadlock per edge, per pair or per rank, without buffering"
               : "no circle if messages were free");
}

}  // namespace plait
