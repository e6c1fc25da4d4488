#include <fmt/format.h>

#include "tools/plait/completion.h"

namespace plait::tools {
namespace {

/// For text between single quotes that _arguments or _describe reads.
std::string escaped(std::string_view text) {
  std::string result;
  for (const char letter : text) {
    if (letter == '\'') {
      result += "'\\''";
    } else {
      if (std::string_view("\\[]:$`").find(letter) != std::string_view::npos) result += '\\';
      result += letter;
    }
  }
  return result;
}

/// What _arguments does for a value: ":what it is:how to complete it".
std::string print_action(const CompletedOption& option) {
  const std::string words = fmt::format("{}", fmt::join(option.words, " "));
  switch (option.kind) {
    case ValueKind::kNone:
      return "";
    case ValueKind::kOpen:
      return ":value:";
    case ValueKind::kFile:
      return ":file:_files";
    case ValueKind::kWord:
      return fmt::format(":value:({})", words);
    case ValueKind::kWordOrFile:
      return fmt::format(R"x(:value:{{_alternative "names:name:({})" "files:file:_files"}})x",
                         words);
    case ValueKind::kWordList:
      return fmt::format(":values:_values -s , value {}", words);
  }
  return "";
}

std::string print_arguments(const CompletedCommand& command) {
  std::string text = "_arguments -S";
  for (const CompletedOption& flag : command.flags) {
    for (const std::string& name : flag.names) {
      // "--ranks=" takes "--ranks=4" and "--ranks 4".
      const bool joined = flag.kind != ValueKind::kNone && name.starts_with("--");
      text += fmt::format(" \\\n            '{}{}[{}]{}'", name, joined ? "=" : "",
                          escaped(flag.description), print_action(flag));
    }
  }
  if (command.argument.kind != ValueKind::kNone)
    text += fmt::format(" \\\n            '1{}'", print_action(command.argument));
  return text;
}

}  // namespace

std::string print_zsh_completion(const std::vector<CompletedCommand>& commands) {
  std::string described;
  std::string cases;
  std::string own_flags;
  for (const CompletedCommand& command : commands) {
    if (command.name.empty()) {
      for (const CompletedOption& flag : command.flags) {
        for (const std::string& name : flag.names)
          own_flags += fmt::format(" '(- *){}[{}]'", name, escaped(flag.description));
      }
      continue;
    }
    described += fmt::format("    '{}:{}'\n", command.name, escaped(command.description));
    cases += fmt::format("        {})\n          {}\n          ;;\n", command.name,
                         print_arguments(command));
  }
  return fmt::format(
      "#compdef plait\n"
      "# plait's completion for zsh: source <(plait completion zsh), or put it into a folder of "
      "$fpath as _plait\n\n"
      "_plait() {{\n"
      "  local -a commands line\n"
      "  local state\n"
      "  commands=(\n{}  )\n"
      "  _arguments -C{} '1: :->command' '*::: :->argument'\n"
      "  case $state in\n"
      "    command) _describe command commands ;;\n"
      "    argument)\n"
      "      words=($line[1] \"${{words[@]}}\")\n"
      "      (( CURRENT += 1 ))\n"
      "      case $line[1] in\n{}      esac\n"
      "      ;;\n"
      "  esac\n"
      "}}\n"
      "if [[ $funcstack[1] == _plait ]]; then _plait \"$@\"; else compdef _plait plait; fi\n",
      described, own_flags, cases);
}

}  // namespace plait::tools
