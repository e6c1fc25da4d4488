#include <fmt/core.h>

#include "plait/draw/watch.h"
#include "plait/launch/signals.h"
#include "tools/plait/commands.h"
#include "tools/plait/output.h"
#include "tools/plait/terminal.h"

namespace plait::tools {
namespace {

constexpr int kPeriodMs = 500;

struct TopArguments {
  std::string run;
  bool once = false;
  int width = 0;
};

void leave_terminal(int /*signal*/) {
  Keys::leave();
  SecondScreen::leave();
}

Expected<void> print_once(RunFollower& run, int width) {
  PLAIT_TRY_VOID(run.refresh());
  ScreenStyle style = screen_style("");
  style.rows = 0;
  if (width > 0) style.columns = width;
  for (const std::string& line : draw_run(run.view(), style)) print("{}\n", line);
  return {};
}

/// Until q is pressed or a signal comes.
Expected<int> watch(RunFollower& run) {
  PLAIT_TRY_VOID(run.refresh());
  const StopSignals signals(leave_terminal);
  StopSignals::defer();
  const Keys keys;
  const SecondScreen screen;
  while (StopSignals::requested() == 0) {
    SecondScreen::show(draw_run(run.view(), screen_style("q ends the view, the run goes on")));
    if (Keys::wait(kPeriodMs) == 'q') return kExitOk;
    PLAIT_TRY_VOID(run.refresh());
  }
  return 128 + StopSignals::requested();
}

Expected<int> top(const TopArguments& arguments) {
  RunFollower run(arguments.run);
  if (!arguments.once && is_terminal()) {
    if (arguments.width > 0) {
      return fail(ErrorCode::kInvalidInput, "is of what is printed once, needed --once beside it",
                  "--width");
    }
    return watch(run);
  }
  PLAIT_TRY_VOID(print_once(run, arguments.width));
  return kExitOk;
}

}  // namespace

void add_top(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("top", "a run as it goes: loss, bubble, memory and the last step's lanes");
  auto arguments = std::make_shared<TopArguments>();
  command->add_option("run", arguments->run, "the run's folder")->required();
  command->add_flag("--once", arguments->once,
                    "print how it stands now and end, as where stdout is no terminal");
  command
      ->add_option("--width", arguments->width,
                   "of what is printed once: columns; otherwise the terminal's, or 160")
      ->check(CLI::Range(20, 100000));
  command->callback([arguments, &exit_code] {
    const Expected<int> result = top(*arguments);
    exit_code = result ? *result : report("top", result.error());
  });
}

}  // namespace plait::tools
