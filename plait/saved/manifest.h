/// manifest.json of a checkpoint: which files it is made of. A folder without one is no checkpoint.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "plait/base/error.h"
#include "plait/saved/file_hash.h"

namespace plait {

inline constexpr std::string_view kManifestFile = "manifest.json";
/// "rank-3.safetensors": the slices that rank 3 speaks for.
std::string rank_file(int rank);

struct Manifest {
  int step = 0;   ///< steps that the run had done
  int ranks = 0;  ///< that wrote it, each a rank-<r>.safetensors
  std::map<std::string, FileSeal> files;

  friend bool operator==(const Manifest&, const Manifest&) = default;
};

std::string print_manifest(const Manifest& manifest);

/// `path`: for messages. Errors (kInvalidInput): those of read_manifest() but for the first.
Expected<Manifest> parse_manifest(const std::string& path, std::string_view text);
/// Errors (kInvalidInput): the folder has none; it is torn, of another version, names a file
/// outside of the folder, or lacks a rank's.
Expected<Manifest> read_manifest(const std::string& folder);

/// Reads every file of the checkpoint. Errors (kInvalidInput): the first that is missing or whose
/// size or hash is another, with both. Cost: O(bytes).
Expected<void> check_files(const std::string& folder, const Manifest& manifest);

}  // namespace plait
