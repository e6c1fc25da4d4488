#include "tools/plait/commands.h"

namespace plait::tools {

void add_train(CLI::App& app, int&) { app.add_subcommand("train", "train a job"); }
void add_sample(CLI::App& app, int&) { app.add_subcommand("sample", "write text"); }

}  // namespace plait::tools
