#include "plait/verify/verify.h"

#include <fmt/core.h>

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

/// The rules over a schedule of one scope; findings by rule.
class RuleRun {
 public:
  RuleRun(const Schedule& schedule, const VerifyOptions& options, RuleScope scope)
      : holders_(schedule), input_{schedule, options, holders_}, scope_(scope) {}

  Diagnostics run() {
    if (!run_on_ranks()) {  // met a stray: find all of them and check the ranks anew
      input_.find_strays();
      by_rule_ = {};
      run_on_ranks();
    }
    bool basis_holds = true;
    Diagnostics findings;
    for (std::size_t i = 0; i < kRules.size(); ++i) {
      if (kRules[i].check_schedule != nullptr && may_find(kRules[i], basis_holds))
        kRules[i].check_schedule(input_, by_rule_[i]);
      if (kRules[i].role != RuleRole::kApart) basis_holds = basis_holds && by_rule_[i].empty();
      std::move(by_rule_[i].begin(), by_rule_[i].end(), std::back_inserter(findings));
    }
    return findings;
  }

 private:
  /// False if it met a stray while input_.strays is empty.
  bool run_on_ranks() {
    verify_detail::RankView view(input_, scope_ == RuleScope::kLowered);
    messages_held_ = scope_ == RuleScope::kLowered;
    waits_ = false;
    for (int rank = 0; rank < input_.schedule.placement.ranks; ++rank) {
      if (!view.read(rank)) return false;
      for (std::size_t i = 0; i < kRules.size(); ++i) {
        if (kRules[i].check_rank != nullptr && applies(kRules[i], scope_))
          kRules[i].check_rank(view, by_rule_[i]);
      }
      messages_held_ = messages_held_ && verify_detail::holds_its_messages(view);
      waits_ = waits_ || view.waits();
    }
    return true;
  }

  /// False if a rule over the whole schedule does not apply or is known to find nothing.
  bool may_find(const RuleInfo& rule, bool basis_holds) {
    if (!applies(rule, scope_)) return false;
    if (rule.check_schedule == verify_detail::check_message_match) return !messages_held_;
    if (rule.check_schedule == verify_detail::check_send_wait ||
        rule.check_schedule == verify_detail::check_reduce_wait)
      return waits_;
    if (rule.role != RuleRole::kFollow) return true;
    if (!basis_holds || scope_ != RuleScope::kLowered) return basis_holds;
    if (!ends_) ends_ = verify_detail::step_ends(input_);
    return !*ends_;
  }

  verify_detail::Holders holders_;
  verify_detail::RuleInput input_;
  RuleScope scope_;
  std::array<Diagnostics, kRules.size()> by_rule_;
  bool messages_held_ = false;
  bool waits_ = false;        // the schedule has some
  std::optional<bool> ends_;  // of a lowered schedule whose basis holds
};

}  // namespace

tl::expected<VerifiedSchedule, Diagnostics> verify(Schedule schedule,
                                                   const VerifyOptions& options) {
  // is_lowered() indexes the placement by stage, which is safe only if the shape holds.
  Diagnostics findings;
  verify_detail::check_shape(schedule, options, findings);
  if (!findings.empty()) return tl::unexpected<Diagnostics>(std::move(findings));
  const bool lowered = is_lowered(schedule);
  findings =
      RuleRun(schedule, options, lowered ? RuleScope::kLowered : RuleScope::kComputeOnly).run();
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
  verify_detail::for_each_action(schedule_, [&](verify_detail::Location, const Action& action) {
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
  return text +
         (lowered_ ? no_deadlock(options_.matchings) : "no circle of waits, messages not counted");
}

}  // namespace plait
