#include "tools/plait/completion.h"

#include <algorithm>

#include "plait/ir/placements.h"
#include "plait/job/job_config.h"
#include "plait/passes/passes.h"
#include "plait/schedule/generators.h"

namespace plait::tools {
namespace {

template <const auto& kTable>
std::vector<std::string> names_of() {
  std::vector<std::string> names;
  for (const auto& row : kTable) names.emplace_back(row.name);
  return names;
}

/// "run.steps=" of every key of a job file.
std::vector<std::string> settings() {
  std::vector<std::string> names;
  for (const KeyInfo& key : job_keys())
    names.push_back(std::string(key.section) + "." + std::string(key.name) + "=");
  return names;
}

/// Values out of a table that the parser does not check: they may be something else too.
struct ValueSource {
  std::string_view option;
  ValueKind kind;
  std::vector<std::string> (*words)();
};
constexpr std::array kSources = {
    ValueSource{"schedule", ValueKind::kWordOrFile, names_of<kGenerators>},
    ValueSource{"files", ValueKind::kWordOrFile, names_of<kGenerators>},
    ValueSource{"--schedule", ValueKind::kWordOrFile, names_of<kGenerators>},
    ValueSource{"--passes", ValueKind::kWordList, names_of<kPasses>},
    ValueSource{"--placement", ValueKind::kWord, names_of<kPlacements>},
    ValueSource{"--set", ValueKind::kWord, settings},
};

/// The words of a check by CLI::IsMember, which the parser shows as "TEXT:{csv,plait,json}".
std::vector<std::string> checked_words(const std::string& type) {
  const std::size_t open = type.find(":{");
  const std::size_t close = type.find('}', std::min(open, type.size()));
  std::vector<std::string> words;
  if (close == std::string::npos) return words;
  for (std::size_t begin = open + 2; begin < close;) {
    const std::size_t end = std::min(type.find(',', begin), close);
    words.push_back(type.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

/// Kind and words of an option's value.
void find_values(const CLI::Option& option, CompletedOption& completed) {
  if (option.get_items_expected_max() == 0) return;
  const std::string name =
      completed.names.empty() ? option.get_name(true) : completed.names.front();
  const auto source = std::find_if(kSources.begin(), kSources.end(),
                                   [&](const ValueSource& one) { return one.option == name; });
  if (source != kSources.end()) {
    completed.kind = source->kind;
    completed.words = source->words();
    return;
  }
  const std::string type = option.get_type_name();
  completed.words = checked_words(type);
  const bool text = type.starts_with("TEXT");
  completed.kind = !completed.words.empty() ? ValueKind::kWord
                   : text                   ? ValueKind::kFile
                                            : ValueKind::kOpen;
}

CompletedCommand completed_command(const CLI::App& app) {
  CompletedCommand command{app.get_name(), app.get_description()};
  for (const CLI::Option* option : app.get_options()) {
    CompletedOption completed;
    for (const std::string& name : option->get_lnames()) completed.names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) completed.names.push_back("-" + name);
    completed.description = option->get_description();
    find_values(*option, completed);
    if (completed.names.empty()) {
      command.argument = std::move(completed);
    } else {
      command.flags.push_back(std::move(completed));
    }
  }
  return command;
}

}  // namespace

std::vector<CompletedCommand> completed_commands(const CLI::App& app) {
  std::vector<CompletedCommand> commands{completed_command(app)};
  commands.front().name.clear();
  commands.front().argument.kind = ValueKind::kWord;
  for (const CLI::App* command : app.get_subcommands({})) {
    commands.push_back(completed_command(*command));
    commands.front().argument.words.push_back(command->get_name());
  }
  return commands;
}

}  // namespace plait::tools
