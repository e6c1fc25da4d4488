#include <cstdio>
#include <string>
#include <utility>

#include "plait/passes/passes.h"
#include "tools/plait/commands.h"

namespace plait::tools {
namespace {

struct OptOptions {
  std::string passes;
  FormatOption format;
};

Expected<std::string> optimise(const ScheduleArguments& arguments, const OptOptions& options) {
  PLAIT_TRY(Schedule schedule, arguments.load());
  PLAIT_TRY(schedule, run_passes(options.passes, std::move(schedule)));
  return options.format.print(schedule);
}

}  // namespace

void add_opt(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("opt", "run passes over a schedule and write the result");
  auto arguments = ScheduleArguments::add_to(*command);
  auto options = std::make_shared<OptOptions>();
  command
      ->add_option("--passes", options->passes,
                   "names (plait list) or name=N, separated by commas, run in this order")
      ->required();
  options->format.add_to(*command);
  command->callback([arguments, options, &exit_code] {
    const Expected<std::string> text = optimise(*arguments, *options);
    if (text) {
      std::fwrite(text->data(), 1, text->size(), stdout);
    } else {
      exit_code = report("opt", text.error());
    }
  });
}

}  // namespace plait::tools
