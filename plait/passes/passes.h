/// The passes, in one table that the command line, the docs and the tests iterate.
#pragma once

#include <array>
#include <string_view>

#include "plait/passes/insert_comm.h"

namespace plait {

struct PassInfo {
  std::string_view name;
  std::string_view summary;
  Expected<Schedule> (*run)(const Schedule&);
};

inline constexpr std::array kPasses = {
    PassInfo{"insert-comm", "adds the sends and receives that carry values across ranks",
             insert_comm},
};

}  // namespace plait
