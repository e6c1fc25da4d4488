#include "plait/train/checkpoint_saver.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "plait/base/write_file.h"

namespace plait {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using std::chrono::milliseconds;

std::string done_file(int rank) { return fmt::format("rank-{}.done", rank); }

/// Seen whole or not at all; it need not outlive the machine.
void write_done(const std::string& path, const Json& json) {
  const std::string unfinished = path + ".tmp";
  std::ofstream(unfinished) << json.dump();
  std::error_code ignored;
  fs::rename(unfinished, path, ignored);
}

}  // namespace

Expected<std::unique_ptr<CheckpointSaver>> CheckpointSaver::begin(const CheckpointOptions& options,
                                                                  Exchange& exchange) {
  std::unique_ptr<CheckpointSaver> saver(new CheckpointSaver(options, exchange));
  std::string mark;
  if (saver->first()) {
    remove_all_unfinished(options.run);
    mark = fmt::format("{}-{}", ::getpid(),
                       std::chrono::system_clock::now().time_since_epoch().count());
  }
  PLAIT_TRY(const std::vector<std::string> marks, exchange.all_gather(mark));
  saver->mark_ = marks.front();
  return saver;
}

CheckpointSaver::~CheckpointSaver() {
  abandoned_ = true;
  if (thread_.joinable()) thread_.join();
}

Expected<void> CheckpointSaver::take(const TrainState& state, int step) {
  PLAIT_TRY_VOID(finish());
  current_ = {options_.run, mark_, step};
  snapshot_.take(state);
  return {};
}

void CheckpointSaver::start() {
  ended_ = false;
  others_ended_ = false;
  thread_ = std::thread([this] {
    write_own();
    if (first()) result_ = conclude();
    ended_ = true;
  });
}

// Rank 0 says no name until every rank has said how its file went, so this says it in any case.
void CheckpointSaver::write_own() const {
  const std::string folder = current_.path();
  const std::string path = fmt::format("{}/{}", folder, rank_file(exchange_.rank()));
  Expected<void> made = make_unfinished(current_);
  Expected<FileSeal> seal =
      made ? snapshot_.write(path) : tl::unexpected<Error>(std::move(made).error());
  const std::string done = fmt::format("{}/{}", folder, done_file(exchange_.rank()));
  if (seal) {
    write_done(done, {{"bytes", seal->bytes}, {"xxh3_128", seal->xxh3_128}});
  } else {
    write_done(done, {{"error", seal.error().message}, {"where", seal.error().where}});
  }
}

/// True when all ranks have said it. Errors: a rank's.
Expected<bool> CheckpointSaver::read_done(Manifest& manifest) const {
  for (int rank = 0; rank < manifest.ranks; ++rank) {
    if (manifest.files.contains(rank_file(rank))) continue;
    std::ifstream stream(fmt::format("{}/{}", current_.path(), done_file(rank)));
    std::stringstream text;
    if (!stream || !(text << stream.rdbuf())) return false;
    const Json json = Json::parse(text.str(), nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) return false;
    if (json.contains("error"))
      return fail(ErrorCode::kIo, json["error"].get<std::string>(),
                  json["where"].get<std::string>());
    manifest.files[rank_file(rank)] = {json["bytes"].get<std::int64_t>(),
                                       json["xxh3_128"].get<std::string>()};
  }
  return true;
}

Expected<void> CheckpointSaver::conclude() {
  Manifest manifest;
  manifest.step = current_.step;
  manifest.ranks = exchange_.ranks();
  constexpr milliseconds kLeast{1}, kMost{50};
  for (milliseconds pause = kLeast; !abandoned_; pause = std::min(2 * pause, kMost)) {
    const bool last_look = others_ended_;
    PLAIT_TRY(const bool all, read_done(manifest));
    if (all) break;
    if (last_look) return fail(ErrorCode::kIo, "a rank could not write its part", current_.path());
    std::this_thread::sleep_for(pause);
  }
  if (abandoned_) return {};
  const std::string folder = current_.path();
  PLAIT_TRY_VOID(write_file_atomically(fmt::format("{}/{}", folder, kCheckpointJob), options_.job));
  FileHash job;
  job.update(std::as_bytes(std::span(options_.job)));
  manifest.files[std::string(kCheckpointJob)] = job.seal();
  std::error_code ignored;
  for (int rank = 0; rank < manifest.ranks; ++rank)
    fs::remove(fmt::format("{}/{}", folder, done_file(rank)), ignored);
  PLAIT_TRY_VOID(
      write_file_atomically(fmt::format("{}/{}", folder, kManifestFile), print_manifest(manifest)));
  PLAIT_TRY_VOID(finish_checkpoint(current_));
  prune_checkpoints(options_.run, current_.step, options_.keeping);
  return {};
}

// A disk may take longer than the timeout of an exchange: the ranks meet while they wait.
Expected<void> CheckpointSaver::finish() {
  if (!thread_.joinable()) return {};
  constexpr milliseconds kLook{1}, kMeet{500};
  for (bool all = false; !all;) {
    const auto due = std::chrono::steady_clock::now() + kMeet;
    while (!ended_ && std::chrono::steady_clock::now() < due) std::this_thread::sleep_for(kLook);
    PLAIT_TRY(const std::vector<std::string> ended, exchange_.all_gather(ended_ ? "1" : "0"));
    all = std::find(ended.begin(), ended.end(), "0") == ended.end();
    others_ended_ = std::find(ended.begin() + 1, ended.end(), "0") == ended.end();
  }
  thread_.join();
  if (result_) return {};
  remove_unfinished(current_);
  const Error error{
      ErrorCode::kIo,
      fmt::format("no checkpoint of step {}: {}", current_.step, result_.error().message),
      result_.error().where};
  result_ = {};
  if (options_.on_warning) options_.on_warning(error);
  return {};
}

}  // namespace plait
