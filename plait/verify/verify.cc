#include "plait/verify/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>
#include <utility>

#include "plait/verify/rules.h"

namespace plait {
namespace {

using verify_detail::kRules;
using verify_detail::RuleInfo;
using verify_detail::RuleRole;
using verify_detail::RuleScope;

/// "no deadlock per edge, per pair or per rank, without buffering".
std::string no_deadlock(const std::vector<Matching>& matchings) {
  std::vector<std::string> names;
  for (const MatchingInfo& info : kMatchings) {
    if (std::find(matchings.begin(), matchings.end(), info.matching) != matchings.end())
      names.push_back(fmt::format("per {}", info.name));
  }
  if (names.empty()) return "deadlock not looked for";
  std::string text = "no deadlock " + names.front();
  for (std::size_t i = 1; i < names.size(); ++i)
    text += (i + 1 == names.size() ? " or " : ", ") + names[i];
  return text + ", without buffering";
}

bool applies(const RuleInfo& rule, RuleScope scope) {
  return rule.scope == RuleScope::kAny || rule.scope == scope;
}

Diagnostics run_rules(const Schedule& schedule, const VerifyOptions& options, RuleScope scope) {
  const verify_detail::Holders holders(schedule);
  const verify_detail::RuleInput input(schedule, options, holders);
  Diagnostics findings;
  std::array<Diagnostics, kRules.size()> by_rule;
  verify_detail::RankView view(input, scope == RuleScope::kLowered);
  for (int rank = 0; rank < schedule.placement.ranks; ++rank) {
    view.read(rank);
    for (std::size_t i = 0; i < kRules.size(); ++i) {
      if (kRules[i].check_rank != nullptr && applies(kRules[i], scope))
        kRules[i].check_rank(view, by_rule[i]);
    }
  }
  bool basis_holds = true;
  std::optional<bool> ends;  // of a lowered schedule: nothing is left to find for what follows it
  for (std::size_t i = 0; i < kRules.size(); ++i) {
    const RuleInfo& rule = kRules[i];
    bool runs = rule.check_schedule != nullptr && applies(rule, scope);
    if (runs && rule.role == RuleRole::kFollow) {
      runs = basis_holds;
      if (runs && scope == RuleScope::kLowered) {
        if (!ends) ends = verify_detail::step_ends(input);
        runs = !*ends;
      }
    }
    if (runs) rule.check_schedule(input, by_rule[i]);
    if (rule.role != RuleRole::kApart) basis_holds = basis_holds && by_rule[i].empty();
    std::move(by_rule[i].begin(), by_rule[i].end(), std::back_inserter(findings));
  }
  return findings;
}

}  // namespace

tl::expected<VerifiedSchedule, Diagnostics> verify(Schedule schedule,
                                                   const VerifyOptions& options) {
  // What is_lowered() looks up is only there if the shape holds.
  Diagnostics findings;
  verify_detail::check_shape(schedule, options, findings);
  if (!findings.empty()) return tl::unexpected<Diagnostics>(std::move(findings));
  const bool lowered = is_lowered(schedule);
  findings = run_rules(schedule, options, lowered ? RuleScope::kLowered : RuleScope::kComputeOnly);
  if (!findings.empty()) return tl::unexpected<Diagnostics>(std::move(findings));
  return VerifiedSchedule(std::move(schedule), options, lowered);
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
  std::size_t rules = 1;  // shape
  for (const RuleInfo& rule : kRules)
    rules += applies(rule, lowered_ ? RuleScope::kLowered : RuleScope::kComputeOnly) ? 1 : 0;
  std::string text = fmt::format(
      "{}: {} ranks, {} stages, {} micro-batches, {} compute actions, {} messages; {} rules hold, ",
      schedule_.name, schedule_.placement.ranks, schedule_.placement.stages(),
      schedule_.microbatches, compute_actions, messages, rules);
  return text + (lowered_ ? no_deadlock(options_.matchings) : "no circle if messages were free");
}

}  // namespace plait
