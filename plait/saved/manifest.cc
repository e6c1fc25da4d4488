#include "plait/saved/manifest.h"

#include <fmt/core.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "plait/base/json_node.h"
#include "plait/base/key_reader.h"
#include "plait/base/read_file.h"

namespace plait {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kFormat = "plait checkpoint";
constexpr int kVersion = 1;
constexpr std::size_t kHashDigits = 32;

/// A name that stands for a file of the folder itself.
bool is_plain_name(const std::string& name) {
  return !name.empty() && name.front() != '.' &&
         name.find_first_of(std::string_view("/\0", 2)) == std::string::npos;
}

}  // namespace

std::string rank_file(int rank) { return fmt::format("rank-{}.safetensors", rank); }

std::string print_manifest(const Manifest& manifest) {
  Json files = Json::object();
  for (const auto& [name, seal] : manifest.files)
    files[name] = {{"bytes", seal.bytes}, {"xxh3_128", seal.xxh3_128}};
  const Json json = {{"format", kFormat},
                     {"version", kVersion},
                     {"step", manifest.step},
                     {"ranks", manifest.ranks},
                     {"files", files}};
  return json.dump(1) + "\n";
}

Expected<Manifest> read_manifest(const std::string& folder) {
  const std::string path = fmt::format("{}/{}", folder, kManifestFile);
  PLAIT_TRY(const std::string text, read_file(path, "manifest"));
  return parse_manifest(path, text);
}

Expected<Manifest> parse_manifest(const std::string& path, std::string_view text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object())
    return fail(ErrorCode::kInvalidInput, "is no JSON object: it is torn or another file", path);
  FirstError error;
  KeyReader keys(JsonNode<Json>(json), path, error);
  std::string format;
  int version = 0;
  keys.require("format", format);
  keys.require("version", version);
  PLAIT_TRY_VOID(error.result());
  if (format != kFormat || version != kVersion) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("is of '{}' version {}, needed '{}' version {}", format, version,
                            kFormat, kVersion),
                path);
  }
  Manifest manifest;
  keys.require("step", manifest.step, 0);
  keys.require("ranks", manifest.ranks, 1);
  const JsonNode<Json> files = keys.find("files");
  if (!files.is_table()) keys.fail("files is no table, needed one of files", files);
  PLAIT_TRY_VOID(error.result());
  for (const std::string_view name : files.keys()) {
    const std::string file(name);
    KeyReader of_file(files.find(name), path, error, file);
    FileSeal seal;
    of_file.require("bytes", seal.bytes, 0);
    of_file.require("xxh3_128", seal.xxh3_128);
    if (!is_plain_name(file) || seal.xxh3_128.size() != kHashDigits)
      of_file.fail(fmt::format("'{}' is no file of a checkpoint with its hash", file), files);
    manifest.files[file] = std::move(seal);
  }
  PLAIT_TRY_VOID(error.result());
  // A rank that is not named ends the loop: at most as many turns as there are files.
  for (int rank = 0; rank < manifest.ranks; ++rank) {
    if (manifest.files.contains(rank_file(rank))) continue;
    return fail(
        ErrorCode::kInvalidInput,
        fmt::format("names no {}, needed one of each of {} ranks", rank_file(rank), manifest.ranks),
        path);
  }
  return manifest;
}

Expected<void> check_files(const std::string& folder, const Manifest& manifest) {
  for (const auto& [name, seal] : manifest.files) {
    const std::string path = fmt::format("{}/{}", folder, name);
    std::error_code error;
    const std::uintmax_t bytes = std::filesystem::file_size(path, error);
    if (error) return fail(ErrorCode::kInvalidInput, "is missing", path);
    if (bytes != static_cast<std::uintmax_t>(seal.bytes)) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("has {} bytes, the manifest says {}", bytes, seal.bytes), path);
    }
    PLAIT_TRY(const FileSeal found, seal_of(path));
    if (found == seal) continue;
    return fail(ErrorCode::kInvalidInput,
                fmt::format("is damaged: its XXH3-128 is {}, the manifest says {}", found.xxh3_128,
                            seal.xxh3_128),
                path);
  }
  return {};
}

}  // namespace plait
