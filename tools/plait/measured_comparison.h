/// `compare --measure`: what costs forecast for schedules of a job, beside what happens.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/sim/cost_file.h"

namespace plait::tools {

struct MeasureArguments {
  std::string job;
  std::vector<std::string> settings;   ///< section.key=value
  int ranks = 0;                       ///< 0: the job's
  int microbatches = 0;                ///< 0: the job's
  std::vector<std::string> schedules;  ///< none: all that the job can run
  int steps = 10;                      ///< of each schedule in each round, without warm-up
  int rounds = 3;
  double link_latency_us = 0;  ///< of an emulated link between the ranks
  double link_mb_per_s = 0;    ///< out of each rank; 0: no limit
  /// None: profiled under the job's schedule in each round. Read by the program that measures, as
  /// standard input can be read once.
  std::function<Expected<CostSettings>()> costs;
  bool json = false;
};

/// Runs every schedule with the same layers on its stages, round by round, so that what slows the
/// machine for a while slows all of them, and prints a table or JSON. Writes no files.
Expected<void> compare_with_measured(const MeasureArguments& arguments);

}  // namespace plait::tools
