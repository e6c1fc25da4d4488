/// What a shell completes: read off the parser and our tables, so that no name is written twice.
#pragma once

#include <CLI/CLI.hpp>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace plait::tools {

enum class ValueKind : std::uint8_t {
  kNone,        ///< a flag without a value
  kOpen,        ///< a number, say: nothing to offer
  kFile,        ///< any file
  kWord,        ///< one of the words
  kWordOrFile,  ///< one of the words, or any file
  kWordList,    ///< several of the words, separated by commas
};

struct CompletedOption {
  std::vector<std::string> names{};  ///< "--help", "-h"; empty: the command's argument
  std::string description{};
  ValueKind kind = ValueKind::kNone;
  std::vector<std::string> words{};
};

struct CompletedCommand {
  std::string name;  ///< empty: plait itself, whose argument is the sub-command
  std::string description;
  std::vector<CompletedOption> flags{};
  CompletedOption argument{};
};

/// plait itself, then its sub-commands in the order of --help.
std::vector<CompletedCommand> completed_commands(const CLI::App& app);

std::string print_bash_completion(const std::vector<CompletedCommand>& commands);
std::string print_zsh_completion(const std::vector<CompletedCommand>& commands);
std::string print_fish_completion(const std::vector<CompletedCommand>& commands);

struct ShellInfo {
  std::string_view name;
  std::string (*print)(const std::vector<CompletedCommand>&);
};

inline constexpr std::array kShells = {
    ShellInfo{"bash", print_bash_completion},
    ShellInfo{"zsh", print_zsh_completion},
    ShellInfo{"fish", print_fish_completion},
};

}  // namespace plait::tools
