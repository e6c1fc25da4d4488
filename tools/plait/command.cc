#include <CLI/CLI.hpp>
#include <sstream>

#include "tools/plait/commands.h"
#include "tools/plait/output.h"

namespace plait::tools {

int run_command(int argc, char** argv) {
  reserve_standard_streams();
  CLI::App app{"plait: pipeline schedules, compiled, proven, run and shown"};
  app.set_version_flag("--version", "plait " PLAIT_VERSION);
  app.require_subcommand(1);
  int exit_code = kExitOk;
  add_list(app, exit_code);
  add_make(app, exit_code);
  add_show(app, exit_code);
  add_opt(app, exit_code);
  add_check(app, exit_code);
  add_simulate(app, exit_code);
  add_compare(app, exit_code);
  add_search(app, exit_code);
  add_braid(app, exit_code);
  add_view(app, exit_code);
  add_train(app, exit_code);
  add_top(app, exit_code);
  add_profile(app, exit_code);
  add_sample(app, exit_code);
  add_export(app, exit_code);
  add_completion(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::ostringstream help;
    const bool asked_for = app.exit(error, help) == 0;
    print_text(help.str());
    return finish_output(asked_for ? kExitOk : kExitUsage);
  }
  return finish_output(exit_code);
}

}  // namespace plait::tools
