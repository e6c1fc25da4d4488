/// The sub-commands that need torch. `plait` parses what they take, so that it starts at once, says
/// what is wrong and completes flags; `plait-torch`, the same program linked with torch, runs them.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "tools/plait/job_arguments.h"

namespace plait::tools {

struct TrainOptions {
  std::shared_ptr<JobArguments> job;
  std::string comm, steps;
  bool dry_run = false;
  bool overwrite = false;
  bool resume = false;
  std::string resume_from;
  bool reference = false;
  bool save_gradients = false;
  bool watch = false;
  bool check_finite = false;
  int record_step = 0;
  double link_latency_us = 0;
  double link_mb_per_s = 0;
  int port = 0;
  std::string launcher;
  std::vector<std::string> arguments{};  ///< as given, for the ranks
};

struct ProfileOptions {
  std::shared_ptr<JobArguments> job;
  int steps = 20;
  std::string out;
};

struct SampleOptions {
  std::string run;
  std::string prompt;
  int tokens = 400;
  double temperature = 0.8;
  std::optional<std::uint64_t> seed{};  ///< none: 1
};

struct ExportOptions {
  std::string checkpoint;
  std::string out;
};

// command_train.cc, command_profile.cc, command_sample.cc and command_export.cc in plait-torch; in
// plait they start plait-torch in this process's place (torch_program.cc). So does
// `compare --measure`:
// measured_comparison.h.
Expected<int> train(const TrainOptions& options);
Expected<void> profile(const ProfileOptions& options);
Expected<void> sample(const SampleOptions& options);
Expected<void> export_model(const ExportOptions& options);

/// This process's arguments, without its name.
std::vector<std::string> given_arguments();

}  // namespace plait::tools
