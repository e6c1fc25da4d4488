#include "plait/program/programs.h"

#include <fmt/core.h>

#include <string>
#include <utility>

#include "plait/passes/lowering.h"
#include "plait/passes/passes.h"
#include "plait/program/check_program.h"

namespace plait {
namespace {

/// A file may say itself where gradients are reduced, and parameters unsharded.
bool has(const Schedule& schedule, ActionType type) {
  return holds(schedule, [&](ActionType one) { return one == type; });
}

Expected<Schedule> insert_reductions(Schedule schedule, ShardMode shard) {
  const bool waits = has_waits(schedule), frees = shard >= ShardMode::kGradients;
  PLAIT_TRY(schedule, insert_reduce_grad(std::move(schedule), {}));
  if (!waits && !frees) return schedule;
  return insert_reduce_wait(std::move(schedule), {.number = frees ? 1 : 0, .price = {}});
}

Expected<Schedule> insert_unshards(Schedule schedule, const LoweringWork& work) {
  LoweringOptions options;
  if (work.max_active_stages > 0) options.max_active_stages = work.max_active_stages;
  options.unshard_lookahead = work.unshard_lookahead;
  return insert_unshards(std::move(schedule), options);
}

}  // namespace

Expected<VerifiedSchedule> prove_lowered(Schedule schedule, const ReplicaWork& replicas,
                                         const LoweringWork& work) {
  const std::string name = schedule.name;
  VerifyOptions rules;
  if (has(schedule, ActionType::kUnshard)) {
    if (work.max_active_stages > 0) rules.max_active_stages = work.max_active_stages;
  } else if (replicas.shard != ShardMode::kNone) {
    PLAIT_TRY(schedule, insert_unshards(std::move(schedule), work));
  }
  if (replicas.reduces && !has(schedule, ActionType::kReduceGrad)) {
    PLAIT_TRY(schedule, insert_reductions(std::move(schedule), replicas.shard));
  }
  if (!is_lowered(schedule)) {
    PLAIT_TRY(schedule, insert_messages(std::move(schedule)));
  }
  if (work.max_outstanding_sends > 0) {
    PLAIT_TRY(schedule, wait_for_sends(std::move(schedule), work.max_outstanding_sends));
  }
  auto verified = verify(std::move(schedule), rules);
  if (verified) return *std::move(verified);
  std::string findings;
  for (const Diagnostic& diagnostic : verified.error()) findings += "\n" + diagnostic.text();
  return fail(ErrorCode::kInvalidInput, fmt::format("schedule {} cannot run, {} violations:{}",
                                                    name, verified.error().size(), findings));
}

Expected<std::vector<RankProgram>> lower_all(const VerifiedSchedule& schedule,
                                             const LowerOptions& options) {
  std::vector<RankProgram> programs;
  for (int rank = 0; rank < schedule.placement().ranks; ++rank) {
    PLAIT_TRY(RankProgram program, lower(schedule, rank, options));
    programs.push_back(std::move(program));
  }
  const std::vector<ProgramViolation> violations = check_programs(schedule, programs);
  if (violations.empty()) return programs;
  return fail(ErrorCode::kCheckFailed,
              fmt::format("the lowered program of rank {} is wrong at instruction {}: {}",
                          violations.front().rank, violations.front().instruction,
                          violations.front().message));
}

}  // namespace plait
