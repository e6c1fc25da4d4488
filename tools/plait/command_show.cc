#include <cstdio>

#include "plait/draw/ascii.h"
#include "tools/plait/commands.h"
#include "tools/plait/output.h"
#include "tools/plait/terminal.h"

namespace plait::tools {
namespace {

AsciiStyle style_of_stdout(int width) {
  return {has_colours(), width > 0 ? width : terminal_size().columns};
}

}  // namespace

void add_show(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("show", "draw a schedule: colours on a terminal, letters in a pipe");
  auto arguments = ScheduleArguments::add_to(*command);
  auto width = std::make_shared<int>(0);
  command->add_option("--width", *width, "columns; otherwise the terminal's, or 160")
      ->check(CLI::Range(20, 100000));
  command->callback([arguments, width, &exit_code] {
    const Expected<std::string> picture = arguments->load().and_then(
        [&](const Schedule& schedule) { return draw_schedule(schedule, style_of_stdout(*width)); });
    if (picture) {
      print_text(*picture);
    } else {
      exit_code = report("show", picture.error());
    }
  });
}

}  // namespace plait::tools
