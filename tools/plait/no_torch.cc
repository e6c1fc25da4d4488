#include <cstdio>

#include "tools/plait/commands.h"
#include "tools/plait/measure.h"

namespace plait::tools {
namespace {

void add_missing(CLI::App& app, const char* name, int& exit_code) {
  CLI::App* command = app.add_subcommand(name, "(this build has no torch)");
  command->allow_extras();
  command->callback([name, &exit_code] {
    std::fprintf(stderr, "plait %s: this build has no torch; configure with -DPLAIT_TORCH=ON\n",
                 name);
    exit_code = kExitUsage;
  });
}

}  // namespace

Expected<void> compare_with_measured(const MeasureArguments&) {
  return fail(ErrorCode::kNotBuilt, "this build has no torch; configure with -DPLAIT_TORCH=ON",
              "--measure");
}

void add_train(CLI::App& app, int& exit_code) { add_missing(app, "train", exit_code); }
void add_profile(CLI::App& app, int& exit_code) { add_missing(app, "profile", exit_code); }
void add_sample(CLI::App& app, int& exit_code) { add_missing(app, "sample", exit_code); }

}  // namespace plait::tools
