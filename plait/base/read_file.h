/// Reads a file that a user named.
#pragma once

#include <string>
#include <string_view>

#include "plait/base/error.h"

namespace plait {

/// All of the file. Errors (kInvalidInput): "the job file cannot be read", for `what` "job", also
/// of a folder.
Expected<std::string> read_file(const std::string& path, std::string_view what);

}  // namespace plait
