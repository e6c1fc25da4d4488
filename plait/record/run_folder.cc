#include "plait/record/run_folder.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "plait/base/write_file.h"

namespace plait {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrevious = ".previous";

tl::unexpected<Error> bad_folder(const std::string& path, std::string message) {
  return fail(ErrorCode::kInvalidInput, std::move(message), path);
}

/// The names in a folder, in order, without that of its lock.
std::vector<std::string> entries_of(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    std::string name = entry.path().filename().string();
    if (name != FolderLock::kFile) names.push_back(std::move(name));
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// Also what a write leaves that was cut short: job.toml.<process>.tmp.
bool is_written_by_runs(const std::string& name) {
  if (name.starts_with("rank-") && (name.ends_with(".log") || name.ends_with(".stall")))
    return true;
  return std::any_of(
      kRunFolderEntries.begin(), kRunFolderEntries.end(), [&](std::string_view entry) {
        return name == entry ||
               (name.starts_with(std::string(entry) + '.') && name.ends_with(".tmp"));
      });
}

Expected<fs::path> absolute(const std::string& path) {
  std::error_code error;
  fs::path whole = fs::absolute(path, error);
  if (!error) return whole.lexically_normal();
  return bad_folder(path,
                    fmt::format("the run folder cannot be made: the working directory is gone "
                                "({})",
                                error.message()));
}

tl::unexpected<Error> exists_already(const std::string& path) {
  return bad_folder(path,
                    "the run folder exists already; --overwrite replaces it, --resume goes on in "
                    "it, or choose another with run.folder");
}

Expected<void> check_replaceable(const std::string& path) {
  const std::vector<std::string> names = entries_of(path);
  if (names.empty()) return {};
  if (!std::binary_search(names.begin(), names.end(), "job.toml") &&
      !std::binary_search(names.begin(), names.end(), kPrevious)) {
    return bad_folder(path,
                      "is not the folder of a run (no job.toml), --overwrite leaves it alone");
  }
  const auto foreign = std::find_if_not(names.begin(), names.end(), is_written_by_runs);
  if (foreign == names.end()) return {};
  return bad_folder(
      path, fmt::format("holds {}, which no run writes, --overwrite leaves it alone", *foreign));
}

}  // namespace

Expected<void> RunFolder::check(const std::string& path, ExistingFolder existing) {
  std::error_code error;
  if (fs::exists(path, error)) {
    if (!fs::is_directory(path, error))
      return bad_folder(path, "the run folder cannot be made: a file is in its place");
    PLAIT_TRY_VOID(FolderLock::check(path));
    if (existing == ExistingFolder::kRefuse) return exists_already(path);
    if (existing == ExistingFolder::kOverwrite) PLAIT_TRY_VOID(check_replaceable(path));
  } else if (existing == ExistingFolder::kResume) {
    return bad_folder(path, "is not there, needed the folder of the run that is to go on");
  }
  PLAIT_TRY(fs::path nearest, absolute(path));
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
                                      std::string_view job, std::string_view metrics) {
  PLAIT_TRY_VOID(check(path, existing));
  RunFolder folder;
  folder.path_ = path;
  folder.kept_ = false;  // from here on the destructor undoes
  PLAIT_TRY_VOID(folder.make_folders());
  PLAIT_TRY(FolderLock lock, FolderLock::take(path));
  folder.lock_.emplace(std::move(lock));
  // Another run may have come and gone since the check.
  if (existing == ExistingFolder::kRefuse && !entries_of(path).empty()) {
    folder.lock_.reset();
    return exists_already(path);
  }
  if (existing == ExistingFolder::kResume) {
    folder.kept_ = true;
  } else {
    PLAIT_TRY_VOID(folder.set_previous_aside());
  }
  if (!write_file_atomically(folder.file("job.toml"), std::string(job)))
    return bad_folder(path, "the run folder cannot be written");
  if (!write_file_atomically(folder.file("metrics.jsonl"), metrics) ||
      !folder.metrics_.open(folder.file("metrics.jsonl")))
    return bad_folder(path, "the run folder cannot be written");
  return folder;
}

Expected<void> RunFolder::make_folders() {
  std::error_code error;
  std::vector<fs::path> missing;
  PLAIT_TRY(const fs::path whole, absolute(path_));
  for (fs::path folder = whole; !fs::exists(folder, error) && folder.has_relative_path();
       folder = folder.parent_path()) {
    if (folder.has_filename()) missing.push_back(folder);
  }
  for (auto folder = missing.rbegin(); folder != missing.rend(); ++folder) {
    const bool made = fs::create_directory(*folder, error);
    if (error)
      return bad_folder(path_, fmt::format("the run folder cannot be made: {}", error.message()));
    if (made) made_.insert(made_.begin(), folder->string());
  }
  return {};
}

Expected<void> RunFolder::set_previous_aside() {
  std::vector<std::string> names = entries_of(path_);
  if (names.empty()) return {};
  std::error_code error;
  const fs::path previous = file(kPrevious);
  if (fs::exists(previous, error)) {
    // A job was killed before its first step: what it replaced is still there, the rest is nothing.
    std::erase(names, kPrevious);
    for (const std::string& name : names) fs::remove_all(file(name), error);
  } else {
    fs::create_directory(previous, error);
    for (const std::string& name : names) {
      if (!error) fs::rename(file(name), previous / name, error);
    }
  }
  previous_ = true;
  if (error)
    return bad_folder(path_,
                      fmt::format("the earlier run cannot be replaced: {}", error.message()));
  return {};
}

RunFolder::RunFolder(RunFolder&& other) noexcept
    : path_(std::move(other.path_)),
      made_(std::move(other.made_)),
      previous_(other.previous_),
      kept_(std::exchange(other.kept_, true)),
      metrics_(std::move(other.metrics_)),
      lock_(std::move(other.lock_)) {}

RunFolder::~RunFolder() {
  if (!kept_) undo();
}

void RunFolder::undo() {
  metrics_.close();
  if (lock_) undo_files();  // without it, what is there is another run's
  lock_.reset();
  std::error_code ignored;
  // Only if they are empty: another job may have begun beside this one.
  for (const std::string& folder : made_) fs::remove(folder, ignored);
}

void RunFolder::undo_files() {
  std::error_code ignored;
  if (previous_) {
    const fs::path previous = file(kPrevious);
    const std::vector<std::string> names = entries_of(previous);
    for (const std::string& name : names) {
      fs::remove_all(file(name), ignored);
      fs::rename(previous / name, file(name), ignored);
    }
    for (const std::string& name : {std::string("job.toml"), std::string("metrics.jsonl")}) {
      if (!std::binary_search(names.begin(), names.end(), name)) fs::remove(file(name), ignored);
    }
    fs::remove(previous, ignored);
    return;
  }
  fs::remove(file("job.toml"), ignored);
  fs::remove(file("metrics.jsonl"), ignored);
  for (const std::string& name : entries_of(path_)) {
    if (name.starts_with("rank-") && is_written_by_runs(name)) fs::remove(file(name), ignored);
  }
}

void RunFolder::keep() {
  if (kept_) return;
  kept_ = true;
  std::error_code ignored;
  if (previous_) fs::remove_all(file(kPrevious), ignored);
}

}  // namespace plait
