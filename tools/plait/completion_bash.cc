#include <fmt/format.h>

#include "tools/plait/completion.h"

namespace plait::tools {
namespace {

// Needs bash 4. Words come as bash breaks them: "--passes=a" is three, of which the last is
// replaced, so the pieces are put together first and what stands before the last is cut off again.
constexpr std::string_view kFunction = R"bash(
_plait() {
  local whole=${COMP_WORDS[COMP_CWORD]} at=$COMP_CWORD kind words
  local last=${whole#=}
  while ((at > 1)) && [[ $whole == =* || ${COMP_WORDS[at - 1]} == = ]]; do
    at=$((at - 1))
    whole=${COMP_WORDS[at]}$whole
  done
  local command=${COMP_WORDS[1]} flag= value=$whole
  if ((at == 1)); then command=; fi
  if [[ $whole == -*=* ]]; then
    flag=${whole%%=*}
    value=${whole#*=}
  elif [[ ${COMP_WORDS[at - 1]} == -* ]]; then
    flag=${COMP_WORDS[at - 1]}
    _plait_value "$command" "$flag"
    if [[ $kind == none ]]; then flag=; fi
  fi
  _plait_value "$command" "$flag"
  if [[ -z $flag && $value == -* ]]; then
    kind=word
    _plait_flags "$command"
  fi
  local listed= found=()
  if [[ $kind == list ]]; then listed=${value%"${value##*,}"}; fi
  if [[ -n $words ]]; then
    mapfile -t found < <(compgen -P "$listed" -W "$words" -- "${value#"$listed"}")
  fi
  if [[ $kind == file || $kind == word_or_file ]]; then
    mapfile -t -O "${#found[@]}" found < <(compgen -f -- "$value")
    compopt -o filenames 2>/dev/null
  fi
  local before=${whole%"$value"} cut=${whole%"$last"} one
  COMPREPLY=()
  for one in "${found[@]}"; do
    one=$before$one
    COMPREPLY+=("${one#"$cut"}")
  done
  if [[ $kind == list || ${COMPREPLY[0]-} == *= ]]; then compopt -o nospace 2>/dev/null; fi
  return 0
}
complete -F _plait plait
)bash";

const char* name_of(ValueKind kind) {
  switch (kind) {
    case ValueKind::kNone:
      return "none";
    case ValueKind::kOpen:
      return "open";
    case ValueKind::kFile:
      return "file";
    case ValueKind::kWord:
      return "word";
    case ValueKind::kWordOrFile:
      return "word_or_file";
    case ValueKind::kWordList:
      return "list";
  }
  return "";
}

/// "    'make --ranks' | 'make -r') kind=open words='' ;;"
std::string print_case(const CompletedCommand& command, const CompletedOption& option) {
  std::string patterns = option.names.empty() ? fmt::format("'{} '", command.name) : "";
  for (const std::string& name : option.names)
    patterns += fmt::format("{}'{} {}'", patterns.empty() ? "" : " | ", command.name, name);
  return fmt::format("    {}) kind={} words='{}' ;;\n", patterns, name_of(option.kind),
                     fmt::join(option.words, " "));
}

}  // namespace

std::string print_bash_completion(const std::vector<CompletedCommand>& commands) {
  std::string flags;
  std::string values;
  for (const CompletedCommand& command : commands) {
    flags += fmt::format("    '{}') words='", command.name);
    for (const CompletedOption& flag : command.flags) {
      flags += fmt::format("{} ", fmt::join(flag.names, " "));
      if (flag.kind != ValueKind::kNone) values += print_case(command, flag);
    }
    flags += "' ;;\n";
    if (command.argument.kind != ValueKind::kNone) values += print_case(command, command.argument);
  }
  return fmt::format(
      "# plait's completion for bash: source <(plait completion bash)\n\n"
      "# COMMAND: sets words to its flags.\n"
      "_plait_flags() {{\n  words=\n  case $1 in\n{}  esac\n}}\n\n"
      "# COMMAND FLAG, or COMMAND and nothing: sets kind and words of the flag's value, or of the "
      "argument.\n"
      "_plait_value() {{\n  kind=none words=\n  case \"$1 $2\" in\n{}  esac\n}}\n{}",
      flags, values, kFunction);
}

}  // namespace plait::tools
