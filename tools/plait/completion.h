/// What a shell offers behind the words of an unfinished command: read off the parser and our
/// tables, so that no name is written twice.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace plait::tools {

/// The lines that `plait __complete` prints. `words` are those behind "plait"; the last, which may
/// be empty, is the one to complete. A line is "WORD" or "WORD<tab>what it is", where WORD replaces
/// the last word; ":files" also offers files, ":nospace" leaves the cursor at the word's end. Bash
/// makes words of their own of a "=" and of what follows it: these are put together first, and WORD
/// replaces the last of them. Cost: O(words, flags, names).
std::vector<std::string> complete(const CLI::App& app, const std::vector<std::string>& words);

}  // namespace plait::tools
