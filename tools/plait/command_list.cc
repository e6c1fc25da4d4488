#include <fmt/core.h>

#include "plait/ir/placements.h"
#include "plait/passes/passes.h"
#include "plait/schedule/generators.h"
#include "tools/plait/commands.h"
#include "tools/plait/output.h"

namespace plait::tools {

void add_list(CLI::App& app, int& /*exit_code*/) {
  CLI::App* command = app.add_subcommand("list", "list schedules, placements and passes");
  command->callback([] {
    print("schedules\n");
    for (const GeneratorInfo& info : kGenerators) {
      print("  {:<24} {:<54} {:<36} {}\n", info.name, info.summary, info.needs, info.source);
    }
    print("placements\n");
    for (const PlacementInfo& info : kPlacements) print("  {:<24} {}\n", info.name, info.summary);
    print("passes\n");
    for (const PassInfo& info : kPasses) {
      const std::string number =
          info.number.empty()
              ? ""
              : fmt::format(" (=N, otherwise {}: {})", info.default_number, info.number);
      print("  {:<24} {}{}\n", info.name, info.summary, number);
    }
  });
}

}  // namespace plait::tools
