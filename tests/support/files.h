/// For tests: the files of the repository. Tests run from its root.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

namespace plait::testing {

inline std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path << ": not there; tests run from the repository's root";
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// tests/golden/<name>; torch's own end lines with \r\n, which are read as \n.
inline std::string read_golden(const std::string& name) {
  std::string text = read_text("tests/golden/" + name);
  std::erase(text, '\r');
  return text;
}

}  // namespace plait::testing
