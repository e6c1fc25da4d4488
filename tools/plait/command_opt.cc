#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>

#include "plait/passes/passes.h"
#include "tools/plait/commands.h"
#include "tools/plait/cost_arguments.h"
#include "tools/plait/output.h"

namespace plait::tools {
namespace {

struct OptOptions {
  std::string passes;
  std::optional<int> max_activations;
  FormatOption format;
};

/// The one pass that chooses by price is "pair" or "pair=N".
bool runs_pair(const std::string& passes) {
  for (std::size_t begin = 0; begin <= passes.size();) {
    const std::size_t end = std::min(passes.find(',', begin), passes.size());
    const std::string name = passes.substr(begin, end - begin);
    if (name.substr(0, name.find('=')) == "pair") return true;
    begin = end + 1;
  }
  return false;
}

/// Prices what passes try, if costs were given.
Expected<SchedulePrice> make_price(const CostArguments& arguments, const OptOptions& options,
                                   const Schedule& schedule) {
  const bool pairs = runs_pair(options.passes);
  if (arguments.is_given() && !pairs) {
    return fail(ErrorCode::kInvalidInput, "none of the passes chooses by costs, pair does",
                "--passes " + options.passes);
  }
  if (options.max_activations && !(arguments.is_given() && pairs)) {
    return fail(ErrorCode::kInvalidInput, "is for what pair chooses by costs, needed both",
                "--max-activations");
  }
  if (!arguments.is_given()) return SchedulePrice();
  PLAIT_TRY(const CostSettings settings, arguments.settings());
  PLAIT_TRY(CostModel costs, make_cost_model(settings, schedule.placement.stages()));
  return schedule_price(std::move(costs), options.max_activations);
}

Expected<std::string> optimise(const ScheduleArguments& arguments,
                               const CostArguments& cost_arguments, const OptOptions& options) {
  PLAIT_TRY(Schedule schedule, arguments.load());
  PLAIT_TRY(const SchedulePrice price, make_price(cost_arguments, options, schedule));
  PLAIT_TRY(schedule, run_passes(options.passes, std::move(schedule), price));
  return options.format.print(std::move(schedule));
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
  auto costs = CostArguments::add_to(*command);
  command
      ->add_option("--max-activations", options->max_activations,
                   "with costs: stage activations a rank may hold in what pair chooses")
      ->check(CLI::Range(0, 1 << 30));
  options->format.add_to(*command);
  command->callback([arguments, costs, options, &exit_code] {
    const Expected<std::string> text = optimise(*arguments, *costs, *options);
    if (text) {
      print_text(*text);
    } else {
      exit_code = report("opt", text.error());
    }
  });
}

}  // namespace plait::tools
