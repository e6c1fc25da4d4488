#include "plait/train/run_folder.h"

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <utility>

namespace plait {
namespace {

namespace fs = std::filesystem;

bool is_run_folder(const fs::path& path) {
  return fs::exists(path / "job.toml") && fs::exists(path / "metrics.jsonl");
}

tl::unexpected<Error> bad_folder(const std::string& path, std::string message) {
  return fail(ErrorCode::kInvalidInput, std::move(message), path);
}

}  // namespace

Expected<void> RunFolder::check(const std::string& path, ExistingFolder existing) {
  std::error_code error;
  const bool exists = fs::exists(path, error);
  if (exists && existing == ExistingFolder::kRefuse) {
    return bad_folder(path,
                      "the run folder exists already; --overwrite replaces it, or choose another "
                      "with run.folder");
  }
  if (exists && !fs::is_directory(path, error))
    return bad_folder(path, "the run folder cannot be made: a file is in its place");
  if (exists && !fs::is_empty(path, error) && !is_run_folder(path)) {
    return bad_folder(
        path,
        "is not the folder of a run (no job.toml with metrics.jsonl), --overwrite leaves it alone");
  }
  fs::path nearest = fs::absolute(path, error);
  while (!fs::exists(nearest, error) && nearest.has_relative_path())
    nearest = nearest.parent_path();
  if (!fs::is_directory(nearest, error)) {
    return bad_folder(
        path, fmt::format("the run folder cannot be made: {} is not a folder", nearest.string()));
  }
  if (access(nearest.c_str(), W_OK | X_OK) != 0) {
    return bad_folder(path, fmt::format("the run folder cannot be written: no right to write to {}",
                                        nearest.string()));
  }
  return {};
}

Expected<RunFolder> RunFolder::create(const std::string& path, ExistingFolder existing,
                                      std::string_view job) {
  PLAIT_TRY_VOID(check(path, existing));
  RunFolder folder;
  std::error_code error;
  folder.path_ = path;
  fs::path made = fs::absolute(path, error);
  while (!fs::exists(made, error)) {
    folder.topmost_made_ = made.string();
    made = made.parent_path();
  }
  if (folder.topmost_made_.empty()) {
    for (const fs::directory_entry& entry : fs::directory_iterator(path, error))
      fs::remove_all(entry.path(), error);
  }
  fs::create_directories(path, error);
  if (error)
    return bad_folder(path, fmt::format("the run folder cannot be made: {}", error.message()));
  std::ofstream job_file(folder.file("job.toml"), std::ios::binary);
  job_file << job;
  job_file.close();
  folder.metrics_.open(folder.file("metrics.jsonl"), std::ios::binary);
  if (!job_file || !folder.metrics_) return bad_folder(path, "the run folder cannot be written");
  return folder;
}

RunFolder::RunFolder(RunFolder&& other) noexcept
    : path_(std::move(other.path_)),
      topmost_made_(std::move(other.topmost_made_)),
      kept_(std::exchange(other.kept_, true)),
      metrics_(std::move(other.metrics_)) {}

RunFolder::~RunFolder() {
  if (kept_) return;
  std::error_code ignored;
  metrics_.close();
  if (!topmost_made_.empty()) {
    fs::remove_all(topmost_made_, ignored);
  } else {
    fs::remove(file("metrics.jsonl"), ignored);
    fs::remove(file("job.toml"), ignored);
  }
}

Expected<void> RunFolder::append_metrics(const std::string& line) {
  metrics_ << line << '\n' << std::flush;
  if (metrics_) return {};
  return fail(ErrorCode::kIo, "cannot be written", file("metrics.jsonl"));
}

}  // namespace plait
