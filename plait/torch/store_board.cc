#include "plait/torch/store_board.h"

#include <fmt/core.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <future>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <utility>

#include "plait/launch/process_state.h"

namespace plait {
namespace {

constexpr std::chrono::milliseconds kBeat{500};
/// A rank whose count has not risen in between says nothing.
constexpr std::chrono::milliseconds kPatience{1500};
constexpr std::chrono::milliseconds kStoreAnswers{4000};

std::string key_of(int rank) { return fmt::format("doing/{}", rank); }

/// "<count> <process>\n<what it does>".
struct Post {
  std::string count;
  std::string process;
  RankDoing doing;
};

std::optional<Post> parse(const std::string& text) {
  const std::size_t space = text.find(' '), line = text.find('\n');
  if (space == std::string::npos || line == std::string::npos || line < space) return {};
  Post post{text.substr(0, space), text.substr(space + 1, line - space - 1), {}};
  if (!read_doing(text.substr(line + 1), post.doing)) return {};
  return post;
}

}  // namespace

struct StoreBoard::State {
  c10::intrusive_ptr<c10d::Store> store;
  int rank = 0, ranks = 0;
  std::mutex mutex;
  std::condition_variable changed;
  std::string doing;  // what was posted last
  bool ends = false;
  bool ended = false;

  void write_posts() {
    const std::string process = this_process();
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return ends || !doing.empty(); });
    for (std::uint64_t count = 0; !ends; ++count) {
      const std::string text = fmt::format("{} {}\n{}", count, process, doing);
      lock.unlock();
      try {
        store->set(key_of(rank), std::vector<std::uint8_t>(text.begin(), text.end()));
      } catch (const std::exception&) {
        // The store has gone: a reader says so.
      }
      lock.lock();
      changed.wait_for(lock, kBeat, [&] { return ends; });
    }
    ended = true;
    changed.notify_all();
  }

  std::optional<Post> post_of(int of) const {
    if (!store->check({key_of(of)})) return {};
    return parse(store->get_to_str(key_of(of)));
  }

  std::vector<RankDoing> read() const {
    std::vector<std::optional<Post>> posts;
    bool all_known = true;
    for (int of = 0; of < ranks; ++of) {
      posts.push_back(of == rank ? std::nullopt : post_of(of));
      if (!posts.back()) continue;
      Post& post = *posts.back();
      const ProcessState found = state_of_process(post.process);
      if (found == ProcessState::kStopped) post.doing.state = RankState::kStopped;
      if (found == ProcessState::kGone) post.doing.state = RankState::kDead;
      all_known = all_known && found != ProcessState::kElsewhere;
    }
    if (!all_known) std::this_thread::sleep_for(kPatience);
    std::vector<RankDoing> all;
    for (int of = 0; of < ranks; ++of) {
      if (of == rank) continue;
      std::optional<Post>& post = posts[static_cast<std::size_t>(of)];
      if (!post) {
        all.push_back({of, RankState::kSilent, "", {}, 0});
        continue;
      }
      if (state_of_process(post->process) == ProcessState::kElsewhere) {
        const std::optional<Post> later = post_of(of);
        if (!later || later->count == post->count) post->doing.state = RankState::kSilent;
      }
      all.push_back(std::move(post->doing));
    }
    return all;
  }
};

StoreBoard::StoreBoard(c10::intrusive_ptr<c10d::Store> store, int rank, int ranks)
    : state_(std::make_shared<State>()) {
  state_->store = std::move(store);
  state_->rank = rank;
  state_->ranks = ranks;
  std::thread([state = state_] { state->write_posts(); }).detach();
}

// The thread may be held by a store that does not answer: it is not waited for without end.
StoreBoard::~StoreBoard() {
  std::unique_lock lock(state_->mutex);
  state_->ends = true;
  state_->changed.notify_all();
  state_->changed.wait_for(lock, kStoreAnswers, [&] { return state_->ended; });
}

void StoreBoard::post(const std::vector<RankDoing>& mine) {
  if (mine.empty()) return;
  std::string text = print_doing(mine.front());
  const std::lock_guard lock(state_->mutex);
  const bool is_first = state_->doing.empty();
  state_->doing = std::move(text);
  if (is_first) state_->changed.notify_all();
}

std::vector<RankDoing> StoreBoard::read() {
  auto done = std::make_shared<std::promise<std::vector<RankDoing>>>();
  std::future<std::vector<RankDoing>> result = done->get_future();
  std::thread([state = state_, done] {
    try {
      done->set_value(state->read());
    } catch (...) {
      done->set_exception(std::current_exception());
    }
  }).detach();
  if (result.wait_for(kStoreAnswers) == std::future_status::ready) {
    try {
      return result.get();
    } catch (const std::exception&) {
      // As where it does not answer.
    }
  }
  std::vector<RankDoing> all;
  for (int rank = 0; rank < state_->ranks; ++rank) {
    if (rank != state_->rank) all.push_back({rank, RankState::kSilent, "", {}, 0});
  }
  return all;
}

}  // namespace plait
