#include <fmt/core.h>

#include <cstdio>
#include <utility>
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
  dialect.add_to(command);
}

Expected<std::string> FormatOption::print(Schedule schedule) const {
  if (name == "csv" || !dialect.name.empty()) {
    PLAIT_TRY(schedule, in_dialect(std::move(schedule), dialect.dialect()));
  }
  for (const FormInfo& form : kForms) {
    if (form.name == name) return form.print(schedule);
  }
  return kForms[0].print(schedule);  // not reached: the parser takes no other name
}

std::shared_ptr<ScheduleArguments> ScheduleArguments::add_to(CLI::App& command) {
  auto arguments = add_shape_to(command);
  command
      .add_option(
          "schedule", arguments->schedule,
          "a schedule's name (plait list) or a file (CSV, JSON, plait; - is standard input)")
      ->required();
  return arguments;
}

std::shared_ptr<ScheduleArguments> ScheduleArguments::add_shape_to(CLI::App& command) {
  auto arguments = std::make_shared<ScheduleArguments>();
  arguments->command = command.get_name();
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
  const Expected<const GeneratorInfo*> generator = find_schedule(schedule);
  if (!generator || *generator == nullptr) return 0;
  return ranks * (chunks == 0 ? (*generator)->default_chunks : chunks);
}

CsvShape ScheduleArguments::shape_of_file() const {
  CsvShape shape;
  if (ranks > 0) shape.ranks = ranks;
  if (stages > 0) shape.stages = stages;
  if (microbatches > 0) shape.microbatches = microbatches;
  if (!placement.empty()) shape.placement = placement;
  return shape;
}

Expected<void> ScheduleArguments::check_flags(bool any_name, bool any_file) const {
  struct Flag {
    const char* name;
    bool given;
    bool used;
    const char* needed;
  };
  for (const auto& [name, given, used, needed] :
       {Flag{"--stages", stages > 0, any_file,
             "is of a file, needed --chunks, the stages a rank, beside a schedule's name"},
        Flag{"--placement", !placement.empty(), any_file,
             "is of a file, a schedule by name has its own"},
        Flag{"--chunks", chunks > 0, any_name,
             "is of a schedule by name, needed --stages to say what a file holds"},
        Flag{"--any-m", any_m, any_name, "is of a schedule by name, a file is taken as it is"},
        Flag{"--ranks", ranks > 0, any_name || any_file,
             "is of a schedule, a timeline has its own"},
        Flag{"--microbatches", microbatches > 0, any_name || any_file,
             "is of a schedule, a timeline has its own"}}) {
    if (given && !used) return fail(ErrorCode::kInvalidInput, needed, name);
  }
  return {};
}

void ScheduleArguments::print_notes(const std::string& file,
                                    const std::vector<std::string>& notes) const {
  for (const std::string& note : notes)
    fmt::print(stderr, "plait {}: note: {}: {}\n", command, file, note);
}

Expected<Schedule> ScheduleArguments::load(const ScheduleShape& base) const {
  PLAIT_TRY(const GeneratorInfo* const generator, find_schedule(schedule));
  PLAIT_TRY_VOID(check_flags(generator != nullptr, generator == nullptr));
  if (generator == nullptr) {
    std::vector<std::string> notes;
    PLAIT_TRY(Schedule read, schedule_by_name_or_file(schedule, base, shape_of_file(), &notes));
    print_notes(schedule, notes);
    return read;
  }
  if (ranks == 0)
    return fail(ErrorCode::kInvalidInput, "a schedule by name needs --ranks", schedule);
  if (microbatches == 0)
    return fail(ErrorCode::kInvalidInput, "a schedule by name needs --microbatches", schedule);
  ScheduleShape wanted = base;
  wanted.ranks = ranks;
  wanted.microbatches = microbatches;
  wanted.chunks = chunks;
  wanted.any_m = any_m;
  return generate(generator->name, wanted);
}

}  // namespace plait::tools
