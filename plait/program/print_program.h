/// What a process has lowered, as text: what the processes of a run compare before the first step.
#pragma once

#include <string>
#include <vector>

#include "plait/program/rank_program.h"

namespace plait {

/// Lines "label: content", no label twice, for the programs of a column's ranks:
///   boundary 0 forward: float32 [2, 64, 96]
///   pipeline rank 1, collective 0 of the expert group: 1F0 counts 0
///   pipeline rank 1, instruction 0: 0RECV_F0 from rank 0
/// Collectives in the order in which the communication lane issues them. Ranks are pipeline ranks.
std::string print_programs(const std::vector<RankProgram>& programs);

}  // namespace plait
