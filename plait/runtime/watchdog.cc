#include "plait/runtime/watchdog.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <utility>

#include "plait/base/write_file.h"

namespace plait {
namespace {

/// Between two looks at the executors, and between two posts on the board.
constexpr std::chrono::milliseconds kLook{20};
constexpr Nanoseconds kPost = 500'000'000;

/// Of a rank that stalls so many instructions are written down.
constexpr std::size_t kLastInstructions = 200;

}  // namespace

Watchdog::Watchdog(const std::vector<Executor*>& executors, Options options)
    : options_(std::move(options)), timeout_(0) {
  for (Executor* executor : executors) watched_.push_back(std::make_unique<Watched>(executor));
  thread_ = std::thread([this] { watch(); });
}

Watchdog::~Watchdog() {
  stop_.store(true, std::memory_order_release);
  thread_.join();
}

/// Whether an executor has gone on since the last look.
bool Watchdog::look(Nanoseconds time) {
  bool changed = false;
  for (const auto& one : watched_) {
    const std::uint32_t changes = one->executor->changes().load(std::memory_order_acquire);
    if (changes == one->changes) continue;
    one->changes = changes;
    one->last_change.store(time, std::memory_order_relaxed);
    changed = true;
  }
  time_.store(time, std::memory_order_relaxed);
  return changed;
}

void Watchdog::watch() {
  RunningClock running(options_.clock);
  Nanoseconds last_change = running.read();
  Nanoseconds post_due = last_change;
  while (!stop_.load(std::memory_order_acquire)) {
    std::this_thread::sleep_for(kLook);
    const Nanoseconds time = running.read();
    const bool changed = look(time);
    if (options_.board != nullptr && time >= post_due) {
      options_.board->post(doings());
      post_due = time + kPost;
    }
    if (options_.report_wanted && options_.report_wanted()) options_.on_report(report());
    const Nanoseconds timeout = timeout_.load(std::memory_order_relaxed);
    if (changed || ranks_in_step_.load(std::memory_order_acquire) == 0 || timeout == 0) {
      last_change = time;
    } else if (time - last_change > timeout) {
      end_step(timeout);
      return;
    }
  }
}

void Watchdog::end_step(Nanoseconds timeout) {
  std::string message = fmt::format("nothing has completed for {:.1f} s: {}",
                                    static_cast<double>(timeout) / 1e9, report());
  const Error before{ErrorCode::kTimeout, message, ""};
  for (const auto& one : watched_) one->executor->fail_step(before);
  message += write_last_instructions();
  options_.abort({ErrorCode::kTimeout, std::move(message), ""});
}

RankDoing Watchdog::doing_of(const Executor& executor, Nanoseconds since) const {
  Executor::Doing now = executor.doing();
  RankDoing doing{executor.rank(),
                  now.computes ? RankState::kComputes : RankState::kWaits,
                  std::move(now.instruction),
                  {},
                  since};
  if (!now.in_step) {
    // Between two steps a rank waits for all others, or does what no instruction stands for.
    for (int rank = 0; rank < options_.grid.ranks(); ++rank) doing.awaited.push_back(rank);
  } else if (now.awaited_group) {
    doing.awaited = options_.grid.members(*now.awaited_group, executor.rank());
  } else if (now.awaited_rank >= 0) {
    doing.awaited = {now.awaited_rank};
  }
  std::erase(doing.awaited, executor.rank());
  return doing;
}

/// A rank has an executor for each of its programs, of which one at most is in a step.
std::vector<RankDoing> Watchdog::doings() const {
  std::map<int, RankDoing> by_rank;
  const Nanoseconds time = time_.load(std::memory_order_relaxed);
  for (const auto& one : watched_) {
    const Nanoseconds since = time - one->last_change.load(std::memory_order_relaxed);
    RankDoing doing = doing_of(*one->executor, since);
    const auto [found, is_first] = by_rank.emplace(doing.rank, doing);
    if (is_first) continue;
    const Nanoseconds least = std::min(found->second.since, since);
    if (!doing.instruction.empty()) found->second = std::move(doing);
    found->second.since = least;
  }
  std::vector<RankDoing> all;
  for (auto& [rank, doing] : by_rank) all.push_back(std::move(doing));
  return all;
}

std::string Watchdog::report() {
  std::vector<RankDoing> mine = doings();
  if (options_.board == nullptr) return describe_stall(mine);
  const std::lock_guard lock(board_mutex_);
  std::vector<RankDoing> all = options_.board->read();
  const int first = mine.empty() ? 0 : mine.front().rank;
  const bool another_reports = std::any_of(all.begin(), all.end(), [&](const RankDoing& one) {
    return one.rank < first && one.state <= RankState::kWaits;
  });
  if (another_reports) {
    std::string text;
    for (const RankDoing& one : mine) text += (text.empty() ? "" : "; ") + describe(one);
    return text;
  }
  all.insert(all.end(), mine.begin(), mine.end());
  return describe_stall(all);
}

/// What could not be written, for the message; empty: nothing.
std::string Watchdog::write_last_instructions() const {
  if (options_.folder.empty()) return "";
  std::map<int, std::string> by_rank;
  for (const auto& one : watched_) {
    if (!one->executor->doing().in_step) continue;
    std::string& text = by_rank[one->executor->rank()];
    for (const std::string& line : one->executor->last_completed(kLastInstructions))
      text += line + "\n";
    text += fmt::format("{}, and did not complete it\n", one->executor->status());
  }
  std::string missing;
  for (const auto& [rank, text] : by_rank) {
    const std::string path = fmt::format("{}/rank-{}.stall", options_.folder, rank);
    if (const Expected<void> written = write_file_atomically(path, text); !written)
      missing += "\n" + written.error().text();
  }
  return missing;
}

}  // namespace plait
