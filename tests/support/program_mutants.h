/// Programs that are wrong in one place, which the second proof must see.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

#include "plait/program/check_program.h"

namespace plait::testing {

/// Changes each instruction of each of the `right` programs in turn. `mutate(program, instruction)`
/// is false if there is nothing of the kind to change there. Every change is caught, and there is
/// one.
template <typename Mutate>
void expect_caught(const VerifiedSchedule& schedule, const std::vector<RankProgram>& right,
                   const char* kind, Mutate mutate) {
  int tried = 0;
  for (std::size_t rank = 0; rank < right.size(); ++rank) {
    for (std::size_t i = 0; i < right[rank].instructions.size(); ++i) {
      std::vector<RankProgram> programs = right;
      if (!mutate(programs[rank], programs[rank].instructions[i])) continue;
      ++tried;
      EXPECT_FALSE(check_programs(schedule, programs).empty()) << kind << " at " << i;
    }
  }
  EXPECT_GT(tried, 0) << kind;
}

}  // namespace plait::testing
