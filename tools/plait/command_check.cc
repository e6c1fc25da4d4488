#include <fmt/format.h>

#include <cstdio>
#include <utility>

#include "plait/passes/insert_comm.h"
#include "plait/schedule/source.h"
#include "plait/verify/verify.h"
#include "tools/plait/commands.h"

namespace plait::tools {
namespace {

int print_findings(const Diagnostics& findings) {
  for (const Diagnostic& finding : findings) fmt::print("{}\n", finding.text());
  fmt::print("{} {}\n", findings.size(), findings.size() == 1 ? "violation" : "violations");
  return kExitFailed;
}

void print_shape(const Schedule& schedule, bool lowered) {
  std::string table;
  for (const int rank : schedule.placement.rank_of_stage) table += fmt::format(" {}", rank);
  if (schedule.placement.stages() > 32) table = " …";
  fmt::print(
      "{}: {} ranks, {} stages, {} micro-batches, placement {} ({}), {}\n", schedule.name,
      schedule.placement.ranks, schedule.placement.stages(), schedule.microbatches,
      schedule.placement.name, table.substr(1),
      lowered ? "with communication" : "compute only: its communication is inserted for the proof");
}

int check(const ScheduleArguments& arguments) {
  Expected<Schedule> schedule = arguments.load();
  if (!schedule) return report("check", schedule.error());
  const bool lowered = is_lowered(*schedule);
  print_shape(*schedule, lowered);
  if (!lowered) {
    const auto in_order = verify(*schedule);
    if (!in_order) return print_findings(in_order.error());
    schedule = insert_comm(*schedule);
    if (!schedule) return report("check", schedule.error());
  }
  const auto verified = verify(*std::move(schedule));
  if (!verified) return print_findings(verified.error());
  fmt::print("proven: {}\n", verified->summary());
  return kExitOk;
}

}  // namespace

void add_check(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("check", "prove a schedule, or list every violation");
  auto arguments = ScheduleArguments::add_to(*command);
  command->callback([arguments, &exit_code] { exit_code = check(*arguments); });
}

}  // namespace plait::tools
