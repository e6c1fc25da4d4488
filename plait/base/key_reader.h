/// Reads the typed keys of a table and keeps the first error: where it is, what was found, what was
/// needed. The same for TOML and JSON.
///
///   FirstError error;
///   KeyReader keys(TomlNode(table), "costs.toml", error, "[link.between]");
///   keys.require("from", between.from, 0);          // must be there; an integer of 0 or more
///   keys.read("latency_ns", between.latency, 0);    // may be missing: the field stays as it is
///   keys.refuse_others();                           // an unknown key, with the nearest known one
///   PLAIT_TRY_VOID(error.result());
///
/// Errors by key: "costs.toml:7: to is -1, needed an integer of 0 or more". Errors by path, of
/// JSON: "t.json:/plait/step: found 0, needed an integer of 1 or more".
///
/// A `Node` is a view of one value of a document, which outlives it: TomlNode (base/toml_node.h) or
/// JsonNode (base/json_node.h). It has
///
///   exists()                              false of a key that is missing: it then holds nothing
///   integer(), number(), text(), flag()   empty of a value of another type
///   list()                                the entries, if it is a list
///   is_table(), find(key), keys()
///   place(document)                       where an error of the value is: "costs.toml:7"
///   shown()                               the value in a message, cut if it is long; "nothing"
#pragma once

#include <fmt/core.h>

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "plait/base/error.h"
#include "plait/base/nearest_name.h"

namespace plait {

/// Shared by all readers of a document.
class FirstError {
 public:
  bool ok() const { return !error_; }
  void set(Error error) {
    if (!error_) error_ = std::move(error);
  }
  Expected<void> result() const {
    if (error_) return tl::unexpected<Error>(*error_);
    return {};
  }

 private:
  std::optional<Error> error_;
};

template <typename T>
concept IntegerField = std::integral<T> && !std::same_as<T, bool>;

// take(node, field) stores a value. It returns nothing, or what a message demands of the value:
// "needed a string", "must be 0 to 7". The field is then as it was.

template <typename Node>
std::string take(const Node& node, std::string& field) {
  const auto value = node.text();
  if (!value) return "needed a string";
  field = *value;
  return {};
}

template <typename Node>
std::string take(const Node& node, bool& field) {
  const std::optional<bool> value = node.flag();
  if (!value) return "needed true or false";
  field = *value;
  return {};
}

template <typename Node>
std::string take(const Node& node, double& field) {
  const std::optional<double> value = node.number();
  if (!value) return "needed a number";
  field = *value;
  return {};
}

template <IntegerField Integer>
inline constexpr std::int64_t kLeast =
    std::signed_integral<Integer> ? std::int64_t{std::numeric_limits<Integer>::min()} : 0;
template <IntegerField Integer>
inline constexpr std::int64_t kGreatest =
    std::in_range<std::int64_t>(std::numeric_limits<Integer>::max())
        ? static_cast<std::int64_t>(std::numeric_limits<Integer>::max())
        : std::numeric_limits<std::int64_t>::max();

/// An integer from `least` to `most`.
template <typename Node, IntegerField Integer>
std::string take(const Node& node, Integer& field, std::int64_t least = kLeast<Integer>,
                 std::int64_t most = kGreatest<Integer>) {
  const std::optional<std::int64_t> value = node.integer();
  if (value && *value >= least && *value <= most) {
    field = static_cast<Integer>(*value);
    return {};
  }
  const bool open_below = std::signed_integral<Integer> && least == kLeast<Integer>;
  if (open_below && most == kGreatest<Integer>) return "needed an integer";
  if (value && *value > most) return fmt::format("must be {} to {}", least, most);
  if (most == kGreatest<Integer>) return fmt::format("needed an integer of {} or more", least);
  return fmt::format("needed an integer from {} to {}", least, most);
}

/// A list; `range` is of each entry.
template <typename Node, typename T, typename... Range>
std::string take(const Node& node, std::vector<T>& field, Range... range) {
  const auto entries = node.list();
  std::vector<T> values;
  for (std::size_t i = 0; entries && i < entries->size(); ++i) {
    T value{};
    if (take((*entries)[i], value, range...).empty()) values.push_back(std::move(value));
  }
  if (entries && values.size() == entries->size()) {
    field = std::move(values);
    return {};
  }
  return fmt::format("needed a list of {}", std::integral<T>         ? "integers"
                                            : std::floating_point<T> ? "numbers"
                                                                     : "strings");
}

template <typename Node, typename T, typename... Range>
std::string take(const Node& node, std::optional<T>& field, Range... range) {
  T value{};
  std::string demand = take(node, value, range...);
  if (demand.empty()) field = std::move(value);
  return demand;
}

template <typename Node>
class KeyReader {
 public:
  /// Errors by key. `file`: what they call the document. `name`: what errors of missing and unknown
  /// keys call the table; may be empty.
  KeyReader(Node table, std::string file, FirstError& error, std::string name = {})
      : KeyReader(std::move(table), ErrorPlace{.file = std::move(file)}, error, std::move(name)) {}
  /// `document`: also the line, of a document that is one of a file.
  KeyReader(Node table, ErrorPlace document, FirstError& error, std::string name = {})
      : table_(std::move(table)),
        document_(std::move(document)),
        error_(error),
        name_(std::move(name)) {}
  /// Errors by path; `path` is that of the table: "" for the document, "/plait".
  static KeyReader by_path(Node table, std::string file, const std::string& path,
                           FirstError& error) {
    KeyReader reader(std::move(table), std::move(file), error);
    reader.path_ = path;
    return reader;
  }

  /// The key's value, which may not exist. From now on the key is a known one.
  Node find(std::string_view key) {
    known_.push_back(key);
    return table_.find(key);
  }
  /// True if the key is there and its value was taken.
  template <typename T, typename... Range>
  bool read(std::string_view key, T& field, Range... range) {
    const Node node = find(key);
    if (!node.exists()) return false;
    const std::string demand = take(node, field, range...);
    if (!demand.empty()) wrong(key, node, demand);
    return demand.empty();
  }
  template <typename T, typename... Range>
  bool require(std::string_view key, T& field, Range... range) {
    if (read(key, field, range...)) return true;
    const Node node = table_.find(key);
    if (node.exists()) return false;
    path_ ? wrong(key, node, take(node, field, range...)) : missing(key);
    return false;
  }
  /// Of the table that is the key's value, an error if it is none. Reads of it then find nothing.
  KeyReader inner(std::string_view key) {
    const Node node = find(key);
    if (!node.is_table()) wrong(key, node, "needed an object");
    return by_path(node, document_.file, fmt::format("{}/{}", path_.value_or(""), key), error_);
  }
  /// Calls `visit` with a reader of each table of [[key]]; they share this one's first error.
  template <typename Visit>
  void each_table(std::string_view key, const std::string& name, const Visit& visit) {
    const Node node = find(key);
    if (!node.exists()) return;
    const auto entries = node.list();
    const bool tables = entries && std::all_of(entries->begin(), entries->end(),
                                               [](const Node& one) { return one.is_table(); });
    if (!tables) return wrong(key, node, fmt::format("needed tables [{}]", name));
    for (const Node& one : *entries) visit(KeyReader(one, document_, error_, name));
  }

  /// "KEY is FOUND, DEMAND", or by path "found FOUND, DEMAND".
  void wrong(std::string_view key, const Node& node, std::string_view demand) {
    if (!ok()) return;
    if (path_) return fail_at(key, fmt::format("found {}, {}", node.shown(), demand));
    set(fmt::format("{} is {}, {}", key, node.shown(), demand), node, key);
  }
  void missing(std::string_view key) {
    set(fmt::format("{} is missing{}", key, in_table()), table_, key);
  }
  /// An error of `node`, a part of this reader's document.
  void fail(std::string message, const Node& node, ErrorCode code = ErrorCode::kInvalidInput) {
    set(std::move(message), node, {}, code);
  }
  /// An error by path, of the key's value.
  void fail_at(std::string_view key, std::string message) {
    ErrorPlace place = document_;
    place.key = fmt::format("{}/{}", path_.value_or(""), key);
    error_.set(plait::fail(ErrorCode::kInvalidInput, std::move(message), std::move(place)).value());
  }
  /// The first key that was not looked for is an error.
  void refuse_others() {
    if (!ok()) return;
    for (const std::string_view key : table_.keys()) {
      if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
      refuse(key, fmt::format("'{}'", nearest_name(key, known_)));
    }
  }
  /// `key` is unknown, `suggestion` may be meant.
  void refuse(std::string_view key, std::string_view suggestion) {
    set(fmt::format("key '{}' is not known{}, did you mean {}?", key, in_table(), suggestion),
        table_.find(key), key);
  }

  ErrorPlace place(const Node& node) const {
    ErrorPlace place = node.place(document_);
    place.key = path_.value_or("");
    return place;
  }
  bool ok() const { return error_.ok(); }
  Expected<void> result() const { return error_.result(); }
  const Node& table() const { return table_; }

 private:
  /// An error of `node`, which has to do with `key`. What is read by path says the table's.
  void set(std::string message, const Node& node, std::string_view key,
           ErrorCode code = ErrorCode::kInvalidInput) {
    ErrorPlace at = place(node);
    if (!path_) at.key = key;
    error_.set(plait::fail(code, std::move(message), std::move(at)).value());
  }
  std::string in_table() const { return name_.empty() ? "" : " in " + name_; }

  Node table_;
  ErrorPlace document_;
  FirstError& error_;
  std::string name_;
  std::optional<std::string> path_;
  std::vector<std::string_view> known_;
};

}  // namespace plait
