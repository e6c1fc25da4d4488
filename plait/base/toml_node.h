/// A value of a TOML document for base/key_reader.h. Includes toml++: only for .cc files.
#pragma once

#include <fmt/core.h>

#include <toml++/toml.h>
#include <cstdint>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "plait/base/error.h"

namespace plait {

class TomlNode {
 public:
  TomlNode() = default;  ///< nothing
  explicit TomlNode(const toml::node& node) : node_(&node) {}

  bool exists() const { return node_ != nullptr; }
  std::optional<std::int64_t> integer() const { return exact<std::int64_t>(); }
  std::optional<double> number() const {
    return exists() && node_->is_number() ? node_->value<double>() : std::nullopt;
  }
  std::optional<std::string> text() const { return exact<std::string>(); }
  std::optional<bool> flag() const { return exact<bool>(); }
  std::optional<std::vector<TomlNode>> list() const {
    const toml::array* array = exists() ? node_->as_array() : nullptr;
    if (array == nullptr) return {};
    std::vector<TomlNode> entries;
    for (const toml::node& entry : *array) entries.emplace_back(entry);
    return entries;
  }
  bool is_table() const { return exists() && node_->is_table(); }
  TomlNode find(std::string_view key) const {
    const toml::node* found = is_table() ? node_->as_table()->get(key) : nullptr;
    return found == nullptr ? TomlNode() : TomlNode(*found);
  }
  std::vector<std::string_view> keys() const {
    std::vector<std::string_view> all;
    for (const auto& [key, value] : *node_->as_table()) all.push_back(key.str());
    return all;
  }
  ErrorPlace place(ErrorPlace document) const {
    document.line = static_cast<int>(node_->source().begin.line);
    return document;
  }
  /// Cut to 60 bytes.
  std::string shown() const {
    if (!exists()) return "nothing";
    std::ostringstream text;
    node_->visit([&](const auto& value) { text << value; });
    return text.str().size() > 60 ? text.str().substr(0, 57) + "…" : text.str();
  }

 private:
  template <typename T>
  std::optional<T> exact() const {
    return exists() ? node_->value_exact<T>() : std::nullopt;
  }

  const toml::node* node_ = nullptr;
};

/// Errors (kInvalidInput): what is no TOML, with file, line and column.
inline Expected<toml::table> parse_toml(std::string_view text, const std::string& file) {
  try {
    return toml::parse(text, file);
  } catch (const toml::parse_error& error) {
    const toml::source_position& place = error.source().begin;
    return fail(ErrorCode::kInvalidInput, std::string(error.description()),
                ErrorPlace{.file = file,
                           .line = static_cast<int>(place.line),
                           .column = static_cast<int>(place.column)});
  }
}

}  // namespace plait
