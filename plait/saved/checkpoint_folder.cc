#include "plait/saved/checkpoint_folder.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>

namespace plait {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStep = "step-";

std::string folder_of(const std::string& run) { return fmt::format("{}/{}", run, kCheckpoints); }

std::optional<int> step_of(const std::string& name) {
  if (!name.starts_with(kStep)) return {};
  int step = -1;
  const char* const end = name.data() + name.size();
  const auto parsed = std::from_chars(name.data() + kStep.size(), end, step);
  if (parsed.ec != std::errc() || parsed.ptr != end || step < 0) return {};
  return step;
}

tl::unexpected<Error> io_error(const std::string& path, std::string_view what) {
  return fail(ErrorCode::kIo, fmt::format("cannot {}: {}", what, std::strerror(errno)), path);
}

/// The names in a folder live in it: they are on the disk when the folder is.
Expected<void> flush_folder(const std::string& path) {
  const int handle = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (handle < 0) return io_error(path, "be opened");
  // File systems that cannot flush a folder say so.
  const bool flushed =
      ::fsync(handle) == 0 || errno == EINVAL || errno == ENOTSUP || errno == EROFS;
  const int reason = errno;
  ::close(handle);
  errno = reason;
  if (flushed) return {};
  return io_error(path, "be flushed to the disk");
}

/// `path` under a name that no reader takes for a checkpoint, then gone.
void remove_out_of_sight(const std::string& path) {
  const fs::path whole(path);
  const fs::path aside =
      whole.parent_path() / fmt::format(".{}.{}.removed", whole.filename().string(), ::getpid());
  std::error_code ignored;
  fs::remove_all(aside, ignored);
  std::error_code error;
  fs::rename(whole, aside, error);
  if (!error) fs::remove_all(aside, ignored);
}

/// Errors: it is no whole checkpoint.
Expected<Manifest> read_whole(const std::string& folder) {
  PLAIT_TRY(Manifest manifest, read_manifest(folder));
  const std::optional<int> step = step_of(fs::path(folder).lexically_normal().filename().string());
  if (step && *step != manifest.step) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("says step {}, its folder step {}", manifest.step, *step),
                fmt::format("{}/{}", folder, kManifestFile));
  }
  PLAIT_TRY_VOID(check_files(folder, manifest));
  return manifest;
}

}  // namespace

std::string UnfinishedCheckpoint::path() const {
  return fmt::format("{}/.{}{}.{}", folder_of(run), kStep, step, mark);
}

Expected<void> make_unfinished(const UnfinishedCheckpoint& one) {
  std::error_code error;
  fs::create_directories(one.path(), error);
  if (!error) return {};
  return fail(ErrorCode::kIo, fmt::format("cannot be made: {}", error.message()), one.path());
}

Expected<void> finish_checkpoint(const UnfinishedCheckpoint& one) {
  const std::string name = checkpoint_path(one.run, one.step);
  PLAIT_TRY_VOID(flush_folder(one.path()));
  std::error_code error;
  if (fs::exists(name, error)) remove_out_of_sight(name);
  if (::rename(one.path().c_str(), name.c_str()) != 0) return io_error(name, "be named");
  PLAIT_TRY_VOID(flush_folder(folder_of(one.run)));
  return flush_folder(one.run);
}

void remove_unfinished(const UnfinishedCheckpoint& one) {
  std::error_code ignored;
  fs::remove_all(one.path(), ignored);
}

void remove_all_unfinished(const std::string& run) {
  std::error_code error;
  std::vector<fs::path> left;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_of(run), error)) {
    if (entry.path().filename().string().starts_with(fmt::format(".{}", kStep)))
      left.push_back(entry.path());
  }
  for (const fs::path& one : left) fs::remove_all(one, error);
}

std::vector<int> steps_to_remove(std::vector<int> steps, int step, const Keeping& keeping) {
  std::erase_if(steps, [&](int one) { return one > step; });
  std::sort(steps.begin(), steps.end());
  const std::size_t kept = std::min(steps.size(), static_cast<std::size_t>(keeping.last));
  steps.resize(steps.size() - kept);
  std::erase_if(steps, [&](int one) { return keeping.every > 0 && one % keeping.every == 0; });
  return steps;
}

void prune_checkpoints(const std::string& run, int step, const Keeping& keeping) {
  for (const int old : steps_to_remove(checkpoint_steps(run), step, keeping))
    remove_out_of_sight(checkpoint_path(run, old));
}

std::vector<int> checkpoint_steps(const std::string& run) {
  std::vector<int> steps;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_of(run), error)) {
    if (const auto step = step_of(entry.path().filename().string())) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::string checkpoint_path(const std::string& run, int step) {
  return fmt::format("{}/{}{}", folder_of(run), kStep, step);
}

Expected<FoundCheckpoint> find_checkpoint(const std::string& folder) {
  std::error_code error;
  if (fs::exists(fmt::format("{}/{}", folder, kManifestFile), error)) {
    PLAIT_TRY(Manifest manifest, read_whole(folder));
    return FoundCheckpoint{folder, std::move(manifest), {}};
  }
  FoundCheckpoint found;
  const std::vector<int> steps = checkpoint_steps(folder);
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    found.folder = checkpoint_path(folder, *step);
    Expected<Manifest> manifest = read_whole(found.folder);
    if (manifest) {
      found.manifest = *std::move(manifest);
      return found;
    }
    found.passed_over.push_back(std::move(manifest).error());
  }
  std::string damaged;
  for (const Error& one : found.passed_over) damaged += "\n  " + one.text();
  return fail(ErrorCode::kInvalidInput,
              damaged.empty() ? fmt::format("holds no checkpoint to resume from, needed "
                                            "{}/{}<n>, which a run with checkpoint.every writes",
                                            kCheckpoints, kStep)
                              : "each of its checkpoints is damaged:" + damaged,
              folder);
}

}  // namespace plait
