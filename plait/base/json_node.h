/// A value of a JSON document for base/key_reader.h. Includes nlohmann-json: only for .cc files.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "plait/base/error.h"

namespace plait {

/// A value as a message shows it: short, and what is no UTF-8 replaced.
template <typename Json>
std::string shown_json(const Json& value) {
  if (value.is_array()) return "an array";
  if (value.is_object()) return "an object";
  return value.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 40);
}

/// "syntax error …" of the library's "[json.exception.parse_error.101] parse error at …: syntax …".
inline std::string reason_of(const nlohmann::detail::exception& error) {
  const std::string what = error.what();
  const std::size_t colon = what.find(": ");
  return colon == std::string::npos ? what : what.substr(colon + 2);
}

/// `Json` keeps its keys sorted (nlohmann::json) or as they stand (nlohmann::ordered_json). A value
/// has no line: who reads it names the file, and of what is nested the path to it.
template <typename Json>
class JsonNode {
 public:
  JsonNode() = default;  ///< nothing
  explicit JsonNode(const Json& node) : node_(&node) {}

  bool exists() const { return node_ != nullptr; }
  std::optional<std::int64_t> integer() const {
    // An unsigned number past the greatest signed one would come out negative.
    constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    if (!exists() || !node_->is_number_integer()) return {};
    if (node_->is_number_unsigned() && node_->template get<std::uint64_t>() > kMost) return {};
    return node_->template get<std::int64_t>();
  }
  std::optional<double> number() const {
    if (!exists() || !node_->is_number()) return {};
    return node_->template get<double>();
  }
  std::optional<std::string> text() const {
    if (!exists() || !node_->is_string()) return {};
    return node_->template get<std::string>();
  }
  std::optional<bool> flag() const {
    if (!exists() || !node_->is_boolean()) return {};
    return node_->template get<bool>();
  }
  std::optional<std::vector<JsonNode>> list() const {
    if (!exists() || !node_->is_array()) return {};
    std::vector<JsonNode> entries;
    for (const Json& entry : *node_) entries.emplace_back(entry);
    return entries;
  }
  bool is_null() const { return exists() && node_->is_null(); }
  bool is_table() const { return exists() && node_->is_object(); }
  JsonNode find(std::string_view key) const {
    if (!is_table()) return {};
    const auto found = node_->find(key);
    return found == node_->end() ? JsonNode() : JsonNode(*found);
  }
  std::vector<std::string_view> keys() const {
    std::vector<std::string_view> all;
    for (const auto& [key, value] : node_->items()) all.push_back(key);
    return all;
  }
  ErrorPlace place(ErrorPlace document) const { return document; }
  /// Of a short list also its entries.
  std::string shown() const {
    constexpr std::size_t kShort = 8;
    if (!exists()) return "nothing";
    if (!node_->is_array() || node_->size() > kShort) return shown_json(*node_);
    std::string text;
    for (const Json& entry : *node_) text += (text.empty() ? "[" : ",") + shown_json(entry);
    return text.empty() ? "[]" : text + "]";
  }

 private:
  const Json* node_ = nullptr;
};

}  // namespace plait
