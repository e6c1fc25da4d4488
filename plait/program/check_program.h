/// The second proof: what lowering added to a verified schedule is right.
#pragma once

#include <string>
#include <vector>

#include "plait/program/rank_program.h"

namespace plait {

struct ProgramViolation {
  int rank = -1;
  int instruction = -1;
  std::string message;
};

/// Checks all ranks' programs against the schedule they were lowered from: every action counted by
/// its stage, micro-batch and type, whatever its type; the same actions in the same order, the same
/// messages, every operand the right value, every writer before its reader, every slot free when it
/// is written, nothing left at the end; every UNSHARD of cut parameters gathers them as often as
/// the mode asks, no part computes before its stage's gathers have ended or behind its RESHARD, and
/// no gather begins before what was resharded earlier is freed. Follows the instructions by itself
/// and uses nothing of lower(). Cost: O(instructions).
std::vector<ProgramViolation> check_programs(const VerifiedSchedule& schedule,
                                             const std::vector<RankProgram>& programs);

}  // namespace plait
