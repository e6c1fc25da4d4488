#include "tools/plait/completion.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

#include "plait/ir/placements.h"
#include "plait/job/job_config.h"
#include "plait/passes/passes.h"
#include "plait/schedule/generators.h"

namespace plait::tools {
namespace {

enum class ValueKind : std::uint8_t {
  kOpen,        ///< a number, say: nothing to offer
  kFile,        ///< any file
  kWord,        ///< one of the words
  kWordOrFile,  ///< one of the words, or any file
  kWordList,    ///< several of the words, separated by commas
};

struct Value {
  ValueKind kind = ValueKind::kOpen;
  std::vector<std::string> words{};
};

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

std::vector<std::string> no_words() { return {}; }

/// Options of any sub-command whose values the parser does not check.
struct ValueSource {
  std::string_view option;
  ValueKind kind;
  std::vector<std::string> (*words)();
};
constexpr std::array kSources = {
    ValueSource{"schedule", ValueKind::kWordOrFile, names_of<kGenerators>},
    ValueSource{"files", ValueKind::kWordOrFile, names_of<kGenerators>},
    ValueSource{"--schedule", ValueKind::kWordOrFile, names_of<kGenerators>},
    ValueSource{"--schedules", ValueKind::kWordList, names_of<kGenerators>},
    ValueSource{"--passes", ValueKind::kWordList, names_of<kPasses>},
    ValueSource{"--placement", ValueKind::kWord, names_of<kPlacements>},
    ValueSource{"--set", ValueKind::kWord, settings},
    ValueSource{"job", ValueKind::kFile, no_words},
    ValueSource{"run", ValueKind::kFile, no_words},
    ValueSource{"--measure", ValueKind::kFile, no_words},
    ValueSource{"--costs", ValueKind::kFile, no_words},
    ValueSource{"--out", ValueKind::kFile, no_words},
    ValueSource{"--svg", ValueKind::kFile, no_words},
    ValueSource{"--timeline", ValueKind::kFile, no_words},
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

Value value_of(const CLI::Option& option) {
  const std::string name =
      option.get_positional() ? option.get_name(true) : "--" + option.get_lnames().front();
  for (const ValueSource& source : kSources) {
    if (source.option == name) return {source.kind, source.words()};
  }
  Value value{ValueKind::kWord, checked_words(option.get_type_name())};
  if (value.words.empty()) value.kind = ValueKind::kOpen;
  return value;
}

/// The words with "--passes" "=" "a" as "--passes=a", and how much of the last stands before the
/// piece that a shell replaces.
struct JoinedWords {
  std::vector<std::string> words{};
  std::size_t kept = 0;
};

JoinedWords join_at_equals(const std::vector<std::string>& pieces) {
  JoinedWords joined;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const bool equals = pieces[i] == "=" && i > 0;
    const bool behind = i > 1 && pieces[i - 1] == "=";
    joined.kept = 0;
    if (equals || behind) {
      joined.words.back() += pieces[i];
      joined.kept = joined.words.back().size() - (equals ? 0 : pieces[i].size());
    } else {
      joined.words.push_back(pieces[i]);
    }
  }
  return joined;
}

const CLI::Option* find_flag(const CLI::App& command, const std::string& name) {
  return name.starts_with("-") ? command.get_option_no_throw(name) : nullptr;
}

bool takes_value(const CLI::Option* option) {
  return option != nullptr && option->get_items_expected_max() > 0;
}

/// The nth argument that is no flag, the last of them if it takes several; or null.
const CLI::Option* find_argument(const CLI::App& command, std::size_t number) {
  const CLI::Option* found = nullptr;
  for (const CLI::Option* option : command.get_options()) {
    if (!option->get_positional()) continue;
    found = option;
    if (number-- == 0) return found;
  }
  return found != nullptr && found->get_items_expected_max() > 1 ? found : nullptr;
}

/// Collects the lines of an answer.
class Answer {
 public:
  /// Words begin with `before`, which a shell has in front of what is completed, less its first
  /// `kept` letters.
  Answer(std::string before, std::string_view begun, std::size_t kept)
      : before_(std::move(before)), begun_(begun), kept_(kept) {}

  void offer(const std::string& word, const std::string& meaning = {}) {
    if (!word.starts_with(begun_)) return;
    lines_.push_back((before_ + word).substr(kept_) + (meaning.empty() ? "" : "\t" + meaning));
    no_space_ = no_space_ || word.ends_with("=");
  }
  void offer_value(const CLI::Option& option) {
    const Value value = value_of(option);
    if (value.kind == ValueKind::kWordList) {
      const std::size_t comma = begun_.rfind(',');
      if (comma != std::string_view::npos) {
        before_ += begun_.substr(0, comma + 1);
        begun_.remove_prefix(comma + 1);
      }
      no_space_ = true;
    }
    for (const std::string& word : value.words) offer(word);
    files_ = value.kind == ValueKind::kFile || value.kind == ValueKind::kWordOrFile;
  }
  std::vector<std::string> lines() && {
    if (files_) lines_.emplace_back(":files");
    if (no_space_) lines_.emplace_back(":nospace");
    return std::move(lines_);
  }

 private:
  std::string before_;
  std::string_view begun_;
  std::size_t kept_;
  std::vector<std::string> lines_{};
  bool files_ = false;
  bool no_space_ = false;
};

/// Where the last word stands.
struct Position {
  const CLI::App* command = nullptr;
  const CLI::Option* flag = nullptr;  ///< that waits for its value
  std::size_t arguments = 0;          ///< that are no flags, before it
};

Position find_position(const CLI::App& app, const std::vector<std::string>& words) {
  Position here{&app};
  for (std::size_t i = 0; i + 1 < words.size(); ++i) {
    if (here.flag != nullptr) {
      here.flag = nullptr;
    } else if (words[i].starts_with("-")) {
      const CLI::Option* flag = find_flag(*here.command, words[i]);
      if (takes_value(flag)) here.flag = flag;
    } else if (const auto below = here.command->get_subcommands(
                   [&](const CLI::App* command) { return command->get_name() == words[i]; });
               !below.empty()) {
      here = {below.front()};
    } else {
      ++here.arguments;
    }
  }
  return here;
}

}  // namespace

std::vector<std::string> complete(const CLI::App& app, const std::vector<std::string>& words) {
  if (words.empty()) return {};
  const JoinedWords joined = join_at_equals(words);
  const std::string& last = joined.words.back();
  const Position here = find_position(app, joined.words);
  const std::size_t equals = last.find('=');
  if (here.flag == nullptr && last.starts_with("-") && equals != std::string::npos) {
    const CLI::Option* flag = find_flag(*here.command, last.substr(0, equals));
    if (!takes_value(flag)) return {};
    Answer answer(last.substr(0, equals + 1), std::string_view(last).substr(equals + 1),
                  joined.kept);
    answer.offer_value(*flag);
    return std::move(answer).lines();
  }
  Answer answer("", last, joined.kept);
  if (here.flag != nullptr) {
    answer.offer_value(*here.flag);
  } else if (last.starts_with("-")) {
    for (const CLI::Option* option : here.command->get_options()) {
      for (const std::string& name : option->get_lnames())
        answer.offer("--" + name, option->get_description());
      for (const std::string& name : option->get_snames())
        answer.offer("-" + name, option->get_description());
    }
  } else {
    for (const CLI::App* below : here.command->get_subcommands({})) {
      if (!below->get_group().empty()) answer.offer(below->get_name(), below->get_description());
    }
    if (const CLI::Option* argument = find_argument(*here.command, here.arguments))
      answer.offer_value(*argument);
  }
  return std::move(answer).lines();
}

}  // namespace plait::tools
