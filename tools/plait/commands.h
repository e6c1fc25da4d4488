/// The sub-commands: each adds itself to the parser; its callback sets the exit code.
#pragma once

#include <CLI/CLI.hpp>

namespace plait::tools {

/// Exit codes of the command (docs/command.md).
enum ExitCode : int {
  kExitOk = 0,
  kExitFailed = 1,  ///< a check failed or a run did
  kExitUsage = 2,   ///< wrong use or input
  kExitInterrupted = 130,
  kExitTerminated = 143,
};

void add_train(CLI::App& app, int& exit_code);
void add_sample(CLI::App& app, int& exit_code);

}  // namespace plait::tools
