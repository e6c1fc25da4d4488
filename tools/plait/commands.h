/// The sub-commands: each adds itself to the parser; its callback sets the exit code.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/ir/forms/csv.h"
#include "plait/schedule/generators.h"
#include "tools/plait/lowering_arguments.h"

namespace plait::tools {

/// Exit codes of the command (docs/command.md).
enum ExitCode : int {
  kExitOk = 0,
  kExitFailed = 1,  ///< a check failed or a run did
  kExitUsage = 2,   ///< wrong use or input
  kExitInterrupted = 130,
  kExitPipe = 141,  ///< the reader of standard output went away: as if by SIGPIPE
  kExitTerminated = 143,
};

/// The whole command, from its arguments to its exit code. Once a process: it closes standard
/// output.
int run_command(int argc, char** argv);

void add_list(CLI::App& app, int& exit_code);
void add_make(CLI::App& app, int& exit_code);
void add_show(CLI::App& app, int& exit_code);
void add_opt(CLI::App& app, int& exit_code);
void add_check(CLI::App& app, int& exit_code);
void add_simulate(CLI::App& app, int& exit_code);
void add_compare(CLI::App& app, int& exit_code);
void add_search(CLI::App& app, int& exit_code);
void add_braid(CLI::App& app, int& exit_code);
void add_view(CLI::App& app, int& exit_code);
void add_train(CLI::App& app, int& exit_code);
void add_top(CLI::App& app, int& exit_code);
void add_profile(CLI::App& app, int& exit_code);
void add_sample(CLI::App& app, int& exit_code);
void add_export(CLI::App& app, int& exit_code);
void add_completion(CLI::App& app, int& exit_code);

/// Prints "plait COMMAND: error: …" to stderr and returns the error's exit code.
int report(const char* command, const Error& error);
int exit_code_of(const Error& error);

/// --format: the name of one of kForms (plait/ir/forms/text_forms.h), csv unless given; and
/// --dialect.
struct FormatOption {
  std::string name = "csv";
  DialectOption dialect;

  void add_to(CLI::App& command);
  /// A CSV in the newest dialect, any form in one that is asked for, otherwise as the lists are.
  Expected<std::string> print(Schedule schedule) const;
};

/// SCHEDULE with the flags that give or override its shape.
struct ScheduleArguments {
  std::string command;  ///< whose flags they are, for messages
  std::string schedule;
  int ranks = 0;
  int microbatches = 0;
  int chunks = 0;
  bool any_m = false;
  int stages = 0;
  std::string placement;

  static std::shared_ptr<ScheduleArguments> add_to(CLI::App& command);
  /// The flags alone, for a command that takes several schedules.
  static std::shared_ptr<ScheduleArguments> add_shape_to(CLI::App& command);
  /// `base`: what a cost-aware schedule is made for, beyond these flags.
  Expected<Schedule> load(const ScheduleShape& base = {}) const;
  /// Stages of a schedule that is given by name; 0: it is a file, or no schedule's name.
  int generated_stages() const;
  /// What the flags say a file holds.
  CsvShape shape_of_file() const;
  /// Errors: a flag that is given and says nothing about schedules by name, or about files, if that
  /// is all there is.
  Expected<void> check_flags(bool any_name, bool any_file) const;
  /// Prints what the user should know of how a file was taken, on stderr.
  void print_notes(const std::string& file, const std::vector<std::string>& notes) const;
};

}  // namespace plait::tools
