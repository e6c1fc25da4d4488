#include <cstdio>
#include <memory>
#include <string>

#include "tools/plait/commands.h"
#include "tools/plait/completion.h"

namespace plait::tools {

void add_completion(CLI::App& app, int& /*exit_code*/) {
  CLI::App* command =
      app.add_subcommand("completion", "print what completes commands, flags and names in a shell");
  auto shell = std::make_shared<std::string>();
  std::vector<std::string> names;
  for (const ShellInfo& info : kShells) names.emplace_back(info.name);
  command->add_option("shell", *shell, "the shell")->required()->check(CLI::IsMember(names));
  command->footer(
      "bash: source <(plait completion bash)\n"
      "zsh:  source <(plait completion zsh)\n"
      "fish: plait completion fish | source");
  command->callback([&app, shell] {
    for (const ShellInfo& info : kShells) {
      if (info.name != *shell) continue;
      const std::string script = info.print(completed_commands(app));
      std::fwrite(script.data(), 1, script.size(), stdout);
    }
  });
}

}  // namespace plait::tools
