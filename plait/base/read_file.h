/// Reads a file that a user named.
#pragma once

#include <string>
#include <string_view>

#include "plait/base/error.h"

namespace plait {

/// The name of standard input, wherever a file is read.
inline constexpr std::string_view kStandardInput = "-";

/// All of the file; pipes and devices are read to their end, "-" is standard input. Errors
/// (kInvalidInput): "the job file cannot be read: No such file or directory", for `what` "job"; a
/// pointer of git-lfs in place of the file; standard input a second time, which would be empty. Not
/// thread-safe for "-".
Expected<std::string> read_file(const std::string& path, std::string_view what);

}  // namespace plait
