#include "plait/job/compare_jobs.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace plait {
namespace {

/// Bits do not depend on these (docs/checkpoint.md).
constexpr std::array<std::string_view, 28> kFree{
    "model.init",
    "parallel.pipeline",
    "parallel.chunks",
    "parallel.schedule",
    "parallel.pairs",
    "parallel.braid",
    "parallel.recompute",
    "parallel.layers_per_stage",
    "parallel.token_bound",
    "parallel.memory_limit_bytes",
    "parallel.shard",
    "parallel.max_active_stages",
    "parallel.unshard_lookahead",
    "parallel.max_outstanding_sends",
    "run.validate_every",
    "run.log_every",
    "run.folder",
    "run.threads",
    "run.pin",
    "run.comm",
    "run.on_not_finite",
    "run.on_loss",
    "run.timeout_s",
    "run.start_timeout_s",
    "checkpoint.every",
    "checkpoint.keep_last",
    "checkpoint.keep_every",
    "checkpoint.copies",
};

std::string list_of(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += "\n  " + line;
  return text;
}

}  // namespace

bool changes_results(std::string_view key) {
  return std::find(kFree.begin(), kFree.end(), key) == kFree.end();
}

std::string KeyChange::text() const { return fmt::format("{} is {}, was {}", key, after, before); }

std::vector<KeyChange> compare_jobs(const JobConfig& before, const JobConfig& after) {
  std::vector<KeyChange> changes;
  for (const KeyInfo& key : job_keys()) {
    KeyChange change{fmt::format("{}.{}", key.section, key.name), print_key(key, before),
                     print_key(key, after)};
    if (change.before != change.after) changes.push_back(std::move(change));
  }
  return changes;
}

Expected<std::vector<std::string>> check_resumed_job(const JobConfig& before,
                                                     const JobConfig& after) {
  std::vector<std::string> notes, refused;
  for (const KeyChange& change : compare_jobs(before, after)) {
    if (!changes_results(change.key)) {
      notes.push_back(change.text());
      continue;
    }
    const auto origin = after.origins.by_key.find(change.key);
    const bool by_flag = origin != after.origins.by_key.end() && origin->second.starts_with("-");
    if (by_flag) {
      notes.push_back(fmt::format("{}, which changes results ({})", change.text(), origin->second));
    } else {
      refused.push_back(change.text());
    }
  }
  if (refused.empty()) return notes;
  return fail(ErrorCode::kInvalidInput,
              fmt::format("the job changes results that the checkpoint's job would have; --set "
                          "KEY=VALUE says that it is meant:{}",
                          list_of(refused)),
              "--resume");
}

}  // namespace plait
