#include <fmt/format.h>

#include <algorithm>

#include "tools/plait/completion.h"

namespace plait::tools {
namespace {

std::string in_quotes(std::string_view text) {
  std::string result = "'";
  for (const char letter : text) {
    if (letter == '\'' || letter == '\\') result += '\\';
    result += letter;
  }
  return result + "'";
}

/// "-l ranks" of "--ranks", "-s h" of "-h".
std::string print_name(const std::string& name) {
  return name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
}

/// `functions` gets what makes the words of a list.
std::string print_values(const CompletedCommand& command, const CompletedOption& option,
                         std::string& functions) {
  const std::string words = in_quotes(fmt::format("{}", fmt::join(option.words, " ")));
  switch (option.kind) {
    case ValueKind::kNone:
      return "";
    case ValueKind::kOpen:
      return " -x";
    case ValueKind::kFile:
      return " -r -F";
    case ValueKind::kWord:
      return " -x -a " + words;
    case ValueKind::kWordOrFile:
      return " -r -F -a " + words;
    case ValueKind::kWordList: {
      std::string name =
          "__plait_" + command.name + (option.names.empty() ? "" : option.names.front());
      std::replace(name.begin(), name.end(), '-', '_');
      functions += fmt::format("function {}\n  printf '%s\\n' {}\nend\n", name,
                               fmt::join(option.words, " "));
      return fmt::format(" -x -a '(__fish_complete_list , {})'", name);
    }
  }
  return "";
}

}  // namespace

std::string print_fish_completion(const std::vector<CompletedCommand>& commands) {
  std::string functions;
  std::string lines;
  for (const CompletedCommand& command : commands) {
    const std::string when = command.name.empty()
                                 ? "__fish_use_subcommand"
                                 : in_quotes("__fish_seen_subcommand_from " + command.name);
    const std::string begin = "complete -c plait -n " + when;
    for (const CompletedOption& flag : command.flags) {
      lines += begin;
      for (const std::string& name : flag.names) lines += print_name(name);
      lines += print_values(command, flag, functions) + " -d " + in_quotes(flag.description) + "\n";
    }
    if (command.name.empty()) continue;
    lines += fmt::format("complete -c plait -n __fish_use_subcommand -a {} -d {}\n", command.name,
                         in_quotes(command.description));
    if (command.argument.kind != ValueKind::kNone)
      lines += begin + print_values(command, command.argument, functions) + "\n";
  }
  return fmt::format(
      "# plait's completion for fish: plait completion fish | source\n\n"
      "{}complete -c plait -f\n{}",
      functions, lines);
}

}  // namespace plait::tools
