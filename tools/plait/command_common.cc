#include <fmt/core.h>

#include <cstdio>
#include <filesystem>
#include <vector>

#include "plait/ir/forms/text_forms.h"
#include "plait/schedule/source.h"
#include "tools/plait/commands.h"

namespace plait::tools {

int report(const char* command, const Error& error) {
  fmt::print(stderr, "plait {}: error: {}\n", command, error.text());
  return exit_code_of(error);
}

int exit_code_of(const Error& error) {
  switch (error.code) {
    case ErrorCode::kInvalidInput:
    case ErrorCode::kNotBuilt:
      return kExitUsage;
    case ErrorCode::kInterrupted:
      return kExitInterrupted;
    default:
      return kExitFailed;
  }
}

void FormatOption::add_to(CLI::App& command) {
  std::vector<std::string> names;
  for (const FormInfo& form : kForms) names.emplace_back(form.name);
  command.add_option("--format", name, "of what is written, csv unless given")
      ->check(CLI::IsMember(names));
}

std::string FormatOption::print(const Schedule& schedule) const {
  for (const FormInfo& form : kForms) {
    if (form.name == name) return form.print(schedule);
  }
  return kForms[0].print(schedule);  // not reached: the parser takes no other name
}

std::shared_ptr<ScheduleArguments> ScheduleArguments::add_to(CLI::App& command) {
  auto arguments = add_shape_to(command);
  command
      .add_option("schedule", arguments->schedule,
                  "a schedule's name (plait list) or a file (CSV, JSON, plait)")
      ->required();
  return arguments;
}

std::shared_ptr<ScheduleArguments> ScheduleArguments::add_shape_to(CLI::App& command) {
  auto arguments = std::make_shared<ScheduleArguments>();
  command.add_option("--ranks", arguments->ranks, "ranks P")->check(CLI::Range(1, 1 << 16));
  command.add_option("--microbatches", arguments->microbatches, "micro-batches M")
      ->check(CLI::Range(1, 1 << 24));
  command
      .add_option("--chunks", arguments->chunks,
                  "stages per rank V, where the schedule leaves a choice")
      ->check(CLI::Range(1, 1 << 10));
  command.add_flag("--any-m", arguments->any_m,
                   "also for micro-batches outside the schedule's own limits (docs/schedules.md)");
  command.add_option("--stages", arguments->stages, "of a file: stages S")
      ->check(CLI::Range(1, 1 << 20));
  command.add_option(
      "--placement", arguments->placement,
      "of a file: a name (plait list) or the rank of every stage, as in \"0 1 1 0\"; "
      "of a CSV inferred unless given");
  return arguments;
}

int ScheduleArguments::generated_stages() const {
  std::error_code ignored;
  if (std::filesystem::exists(schedule, ignored)) return 0;
  for (const GeneratorInfo& info : kGenerators) {
    if (info.name == schedule) return ranks * (chunks == 0 ? info.default_chunks : chunks);
  }
  return 0;
}

Expected<Schedule> ScheduleArguments::load(const ScheduleShape& base) const {
  ScheduleShape wanted = base;
  wanted.ranks = ranks;
  wanted.microbatches = microbatches;
  wanted.chunks = chunks;
  wanted.any_m = any_m;
  std::error_code ignored;
  if (!std::filesystem::exists(schedule, ignored)) {
    if (ranks == 0)
      return fail(ErrorCode::kInvalidInput, "a schedule by name needs --ranks", schedule);
    if (microbatches == 0)
      return fail(ErrorCode::kInvalidInput, "a schedule by name needs --microbatches", schedule);
    return schedule_by_name_or_file(schedule, wanted);
  }
  CsvShape shape;
  if (ranks > 0) shape.ranks = ranks;
  if (stages > 0) shape.stages = stages;
  if (microbatches > 0) shape.microbatches = microbatches;
  if (!placement.empty()) shape.placement = placement;
  return schedule_by_name_or_file(schedule, wanted, shape);
}

Expected<VerifiedSchedule> prove(Schedule schedule) {
  const std::string name = schedule.name;
  auto verified = verify(std::move(schedule));
  if (verified) return *std::move(verified);
  const Diagnostics& findings = verified.error();
  return fail(ErrorCode::kCheckFailed,
              fmt::format("the schedule breaks a rule ({} found, plait check lists them): {}",
                          findings.size(), findings.front().text()),
              name);
}

}  // namespace plait::tools
