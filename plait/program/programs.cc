#include "plait/program/programs.h"

#include <fmt/core.h>

#include <string>
#include <utility>

#include "plait/passes/lowering.h"
#include "plait/passes/passes.h"
#include "plait/program/check_program.h"

namespace plait {
namespace {

/// A file may say itself where gradients are reduced.
bool has_reductions(const Schedule& schedule) {
  for (const std::vector<Action>& list : schedule.ranks) {
    for (const Action& action : list) {
      if (action.type == ActionType::kReduceGrad) return true;
    }
  }
  return false;
}

}  // namespace

Expected<VerifiedSchedule> prove_lowered(Schedule schedule, Reductions reductions) {
  const std::string name = schedule.name;
  if (reductions == Reductions::kInserted && !has_reductions(schedule)) {
    const bool waits = has_waits(schedule);
    PLAIT_TRY(schedule, insert_reduce_grad(std::move(schedule), {}));
    if (waits) {
      PLAIT_TRY(schedule, insert_reduce_wait(std::move(schedule), {}));
    }
  }
  if (!is_lowered(schedule)) {
    PLAIT_TRY(schedule, insert_messages(std::move(schedule)));
  }
  auto verified = verify(std::move(schedule));
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
