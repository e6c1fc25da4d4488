#include <array>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tools/plait/commands.h"
#include "tools/plait/completion.h"
#include "tools/plait/output.h"

namespace plait::tools {
namespace {

// Each asks the command itself, whose lines completion.h describes.
constexpr std::string_view kBash =
    R"bash(# plait's completion for bash: source <(plait completion bash)
_plait() {
  local lines line value=${COMP_WORDS[COMP_CWORD]#=}
  mapfile -t lines < <("$1" __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  COMPREPLY=()
  for line in "${lines[@]}"; do
    case $line in
      :files) compopt -o filenames 2>/dev/null; mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$value") ;;
      :nospace) compopt -o nospace 2>/dev/null ;;
      *) COMPREPLY+=("${line%%$'\t'*}") ;;
    esac
  done
}
complete -F _plait plait
)bash";

constexpr std::string_view kZsh = R"zsh(#compdef plait
# plait's completion for zsh: source <(plait completion zsh)
_plait() {
  local line files; local -a shown nospace
  for line in "${(@f)$("${words[1]}" __complete -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)}"; do
    case $line in
      :files) files=yes ;;
      :nospace) nospace=(-S '') ;;
      ?*) shown+=("${${line//:/\\:}/$'\t'/:}") ;;
    esac
  done
  (( ${#shown} )) && _describe plait shown "${nospace[@]}"
  [[ -n $files ]] && { compset -P "--*="; _files }
}
compdef _plait plait
)zsh";

constexpr std::string_view kFish =
    R"fish(# plait's completion for fish: plait completion fish | source
function __plait
  set -l words (commandline -opc) (commandline -ct)
  for line in ($words[1] __complete -- $words[2..-1] 2>/dev/null)
    switch $line
      case :files
        set -l flag (string match -r '^--[^=]*=' -- $words[-1])
        printf "$flag%s\n" (__fish_complete_path (string replace -r '^--[^=]*=' '' -- $words[-1]))
      case ':*'
      case '*'
        printf '%s\n' $line
    end
  end
end
complete -c plait -f -a '(__plait)'
)fish";

struct ShellInfo {
  std::string_view name;
  std::string_view script;
};
constexpr std::array kShells = {ShellInfo{"bash", kBash}, ShellInfo{"zsh", kZsh},
                                ShellInfo{"fish", kFish}};

/// What the scripts ask; hidden from --help.
void add_complete(CLI::App& app) {
  CLI::App* command = app.add_subcommand("__complete", "")->group("");
  auto words = std::make_shared<std::vector<std::string>>();
  command->add_option("words", *words);
  command->callback([&app, words] {
    for (const std::string& line : complete(app, *words)) std::printf("%s\n", line.c_str());
  });
}

}  // namespace

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
  command->callback([shell] {
    for (const ShellInfo& info : kShells) {
      if (info.name == *shell) print_text(info.script);
    }
  });
  add_complete(app);
}

}  // namespace plait::tools
