/// For messages about wrong values in TOML files: the value as it was found.
#pragma once

#include <sstream>
#include <string>

namespace plait {

/// A toml::node as text, cut to 60 bytes. A template, so that our headers need no TOML.
template <typename Node>
std::string shown_value(const Node& node) {
  std::string text;
  node.visit([&](const auto& value) {
    std::ostringstream stream;
    stream << value;
    text = stream.str();
  });
  return text.size() > 60 ? text.substr(0, 57) + "…" : text;
}

}  // namespace plait
