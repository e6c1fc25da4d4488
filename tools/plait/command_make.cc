#include <cstdio>
#include <string>
#include <utility>

#include "plait/passes/passes.h"
#include "tools/plait/commands.h"
#include "tools/plait/output.h"

namespace plait::tools {
namespace {

struct MakeOptions {
  FormatOption format;
  bool lower = false;
};

Expected<std::string> make(const ScheduleArguments& arguments, const MakeOptions& options) {
  PLAIT_TRY(Schedule schedule, arguments.load());
  if (options.lower) {
    PLAIT_TRY(schedule, run_passes(kLoweringPasses, std::move(schedule)));
  }
  return options.format.print(schedule);
}

}  // namespace

void add_make(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("make", "write a schedule");
  auto arguments = ScheduleArguments::add_to(*command);
  auto options = std::make_shared<MakeOptions>();
  options->format.add_to(*command);
  command->add_flag("--lower", options->lower,
                    "as torch lowers: unshard and reshard, reduce-grad, sends and receives");
  command->callback([arguments, options, &exit_code] {
    const Expected<std::string> text = make(*arguments, *options);
    if (text) {
      print_text(*text);
    } else {
      exit_code = report("make", text.error());
    }
  });
}

}  // namespace plait::tools
