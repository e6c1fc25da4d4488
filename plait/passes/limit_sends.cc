#include "plait/passes/limit_sends.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "plait/ir/action_text.h"
#include "plait/passes/check_input.h"
#include "plait/passes/passes.h"
#include "plait/passes/send_graph.h"

namespace plait {
namespace {

using passes_detail::kNone;
using passes_detail::SendGraph;
using passes_detail::Wait;

/// What one position on a rank's chain is known to depend on: a prefix of every other rank's chain.
class Past {
 public:
  explicit Past(const SendGraph& graph) : graph_(graph) {}

  void begin(std::size_t rank) {
    rank_ = rank;
    known_.assign(graph_.ranks(), 0);
    waits_.assign(graph_.ranks(), 0);
  }
  bool has(std::size_t rank, std::size_t position) const { return position < known_[rank]; }

  /// Adds a position of another rank and all that it depends on. Each position is added once.
  void add(std::size_t rank, std::size_t position) {
    todo_.assign(1, {rank, position});
    while (!todo_.empty()) {
      const auto [of, end] = todo_.back();
      todo_.pop_back();
      if (of == rank_) continue;
      for (std::size_t& next = known_[of]; next <= end; ++next) {
        if (const std::size_t sender = graph_.sender_of(of, next); sender != kNone)
          todo_.emplace_back(sender, graph_.send_position(of, next));
        const std::vector<Wait>& waits = graph_.waits(of);
        for (std::size_t& wait = waits_[of]; wait < waits.size() && waits[wait].before <= next;
             ++wait)
          todo_.emplace_back(waits[wait].receiver, waits[wait].receive);
      }
    }
  }

 private:
  const SendGraph& graph_;
  std::size_t rank_ = 0;
  std::vector<std::size_t> known_;  // by rank: length of the prefix
  std::vector<std::size_t> waits_;  // by rank: how many of its waits stand in it
  std::vector<std::pair<std::size_t, std::size_t>> todo_;
};

/// By value that one rank sends: the last position of the rank's chain on which its receive
/// depends. Waits that are added on this rank later change none of them: a way from the rank's last
/// position on it to the receive leads into the rank's chain no more.
class LastCause {
 public:
  explicit LastCause(const SendGraph& graph) : graph_(graph), last_(graph.values(), 0) {}

  void read(std::size_t rank) {
    begins_.clear();
    for (std::size_t other = 0; other < graph_.ranks(); ++other)
      begins_.push_back(graph_.chain(other).size());
    for (std::size_t at = graph_.chain(rank).size(); at-- > 0;) {
      todo_.clear();
      follow(rank, at);
      spread(rank, at);
    }
  }
  std::size_t of(std::size_t value) const { return last_[value]; }

 private:
  /// Adds what depends on a position at once, on other chains.
  void follow(std::size_t rank, std::size_t position) {
    if (const std::size_t value = graph_.sent(rank, position); value != kNone)
      todo_.emplace_back(graph_.receiver(value), graph_.receive_position(value));
    if (const std::size_t value = graph_.received(rank, position); value != kNone)
      todo_.emplace_back(graph_.sender(value), graph_.wait_position(value));
  }

  void spread(std::size_t rank, std::size_t at) {
    while (!todo_.empty()) {
      const auto [of, begin] = todo_.back();
      todo_.pop_back();
      if (of == rank) continue;
      for (std::size_t& first = begins_[of]; first > begin;) {
        --first;
        follow(of, first);
        const std::size_t value = graph_.received(of, first);
        if (value != kNone && graph_.sender(value) == rank) last_[value] = at;
      }
    }
  }

  const SendGraph& graph_;
  std::vector<std::size_t> last_;
  std::vector<std::size_t> begins_;  // by rank: what depends on the place at hand begins here
  std::vector<std::pair<std::size_t, std::size_t>> todo_;
};

/// Walks a rank's chain with the values that it has sent and not waited for, in the order of their
/// sends, and places its waits anew: those that stand there stay, unless one was moved before.
///
/// `visit(at)` is called before each position. Where a send would be outstanding beside `most`
/// others, `choose(at, pending)` says which of these is waited for before it. `placed(wait)` is
/// told of every wait that a position follows. False if choose() returned kNone; the graph is then
/// as it was.
template <typename Visit, typename Choose, typename Placed>
bool place_waits(SendGraph& graph, std::size_t rank, std::size_t most, const Visit& visit,
                 const Choose& choose, const Placed& placed) {
  std::vector<std::size_t> pending;
  std::set<std::size_t> moved;  // whose old waits still stand behind
  std::vector<Wait> all;
  const auto add = [&](const Wait& wait) {
    std::erase(pending, wait.value);
    all.push_back(wait);
    placed(wait);
  };
  const std::vector<Wait> old = graph.waits(rank);
  std::size_t next = 0;
  for (std::size_t at = 0; at < graph.chain(rank).size(); ++at) {
    visit(at);
    for (; next < old.size() && old[next].before <= at; ++next) {
      if (moved.erase(old[next].value) == 0) add(old[next]);
    }
    const std::size_t value = graph.sent(rank, at);
    if (value == kNone) continue;
    while (pending.size() + 1 > most) {
      const std::size_t chosen = choose(at, pending);
      if (chosen == kNone) return false;
      moved.insert(chosen);
      add(graph.wait(chosen, at));
    }
    pending.push_back(value);
  }
  for (; next < old.size(); ++next) {
    if (moved.erase(old[next].value) == 0) all.push_back(old[next]);
  }
  graph.set_waits(rank, std::move(all));
  return true;
}

/// Moves the waits of one rank after the other.
class WaitMover {
 public:
  WaitMover(SendGraph& graph, int most)
      : graph_(graph), most_(static_cast<std::size_t>(most)), past_(graph), causes_(graph) {}

  /// False if before some send none may be waited for.
  bool run() {
    for (std::size_t rank = 0; rank < graph_.ranks(); ++rank) {
      if (!move_waits_of(rank)) return false;
    }
    return true;
  }

 private:
  bool move_waits_of(std::size_t rank) {
    past_.begin(rank);
    causes_.read(rank);
    return place_waits(
        graph_, rank, most_,
        [&](std::size_t at) {
          if (const std::size_t sender = graph_.sender_of(rank, at); sender != kNone)
            past_.add(sender, graph_.send_position(rank, at));
        },
        [&](std::size_t at, const std::vector<std::size_t>& pending) {
          return choose(at, pending);
        },
        [&](const Wait& wait) { past_.add(wait.receiver, wait.receive); });
  }

  /// The pending send that is waited for before the send at a position, kNone if none may be.
  std::size_t choose(std::size_t at, const std::vector<std::size_t>& pending) const {
    std::size_t may = kNone;
    for (const std::size_t value : pending) {
      if (past_.has(graph_.receiver(value), graph_.receive_position(value))) return value;
      if (may == kNone && causes_.of(value) < at) may = value;
    }
    return may;
  }

  SendGraph& graph_;
  std::size_t most_;
  Past past_;
  LastCause causes_;
};

/// All lists at once, with at most `most` sends of a rank that are not received.
class CappedRun {
 public:
  CappedRun(const SendGraph& graph, std::size_t most)
      : graph_(graph),
        most_(most),
        next_(graph.ranks()),
        next_wait_(graph.ranks()),
        open_(graph.ranks()),
        received_at_(graph.values(), kNone) {}

  bool run() {
    for (std::size_t rank = graph_.ranks(); rank-- > 0;) ready_.push_back(rank);
    while (!ready_.empty()) {
      const std::size_t rank = ready_.back();
      ready_.pop_back();
      while (next_[rank] < graph_.chain(rank).size() && advance(rank)) {
      }
    }
    for (std::size_t rank = 0; rank < graph_.ranks(); ++rank) {
      if (next_[rank] < graph_.chain(rank).size()) return false;
    }
    return true;
  }

  /// The waits of each rank, for a run that came to its end: before a send beside `most` others,
  /// that for the one received first.
  void place_all_waits(SendGraph& graph) const {
    const auto first_received = [&](std::size_t, const std::vector<std::size_t>& pending) {
      return *std::min_element(pending.begin(), pending.end(), [&](std::size_t a, std::size_t b) {
        return received_at_[a] < received_at_[b];
      });
    };
    for (std::size_t rank = 0; rank < graph.ranks(); ++rank) {
      place_waits(
          graph, rank, most_, [](std::size_t) {}, first_received, [](const Wait&) {});
    }
  }

  /// Of a run that stands still: from a rank to the one it waits for, until one is met twice.
  std::string circle() const {
    std::size_t rank = 0;
    while (next_[rank] == graph_.chain(rank).size()) ++rank;
    std::vector<std::size_t> path;
    while (std::find(path.begin(), path.end(), rank) == path.end()) {
      path.push_back(rank);
      rank = awaited(rank).rank;
    }
    path.erase(path.begin(), std::find(path.begin(), path.end(), rank));
    std::string text;
    for (const std::size_t at : path) {
      const Awaited next = awaited(at);
      text += fmt::format("{}rank {} ({}) waits for {} on rank {}", text.empty() ? "" : ", ", at,
                          print_action_at(graph_.chain(at), next_[at]), print_action(next.action),
                          next.rank);
    }
    return text;
  }

 private:
  struct Awaited {
    std::size_t rank;
    Action action;
  };

  bool is_received(std::size_t value) const { return received_at_[value] != kNone; }

  bool advance(std::size_t rank) {
    const std::size_t at = next_[rank];
    const std::vector<Wait>& waits = graph_.waits(rank);
    for (; next_wait_[rank] < waits.size() && waits[next_wait_[rank]].before <= at;
         ++next_wait_[rank]) {
      if (!is_received(waits[next_wait_[rank]].value)) return false;
    }
    if (const std::size_t value = graph_.received(rank, at); value != kNone) {
      const std::size_t sender = graph_.sender(value);
      if (next_[sender] <= graph_.send_position(rank, at)) return false;
      received_at_[value] = received_++;
      --open_[sender];
      ready_.push_back(sender);
    }
    if (const std::size_t value = graph_.sent(rank, at); value != kNone) {
      if (open_[rank] == most_) return false;
      ++open_[rank];
      ready_.push_back(graph_.receiver(value));
    }
    ++next_[rank];
    return true;
  }

  /// What keeps a rank from its next action. Of a send: the first of its rank's to be received.
  Awaited awaited(std::size_t rank) const {
    const std::size_t at = next_[rank];
    const std::vector<Wait>& waits = graph_.waits(rank);
    if (next_wait_[rank] < waits.size() && waits[next_wait_[rank]].before <= at)
      return receive_of(waits[next_wait_[rank]].value);
    if (const std::size_t value = graph_.received(rank, at); value != kNone)
      return {graph_.sender(value), other_end(graph_.chain(rank)[at])};
    for (std::size_t i = 0; i < at; ++i) {
      const std::size_t value = graph_.sent(rank, i);
      if (value != kNone && !is_received(value)) return receive_of(value);
    }
    return {rank, {}};  // not reached: a send waits for one before it
  }
  Awaited receive_of(std::size_t value) const {
    const std::size_t receiver = graph_.receiver(value);
    return {receiver, graph_.chain(receiver)[graph_.receive_position(value)]};
  }

  const SendGraph& graph_;
  std::size_t most_;
  std::vector<std::size_t> next_;
  std::vector<std::size_t> next_wait_;
  std::vector<std::size_t> open_;         // by rank: its sends that are not received
  std::vector<std::size_t> received_at_;  // by value: place in the run's order
  std::size_t received_ = 0;
  std::vector<std::size_t> ready_;
};

Expected<SendGraph> read_graph(const Schedule& schedule) {
  PLAIT_TRY_VOID(passes_detail::check_input(schedule, passes_detail::Communication::kTaken));
  PLAIT_TRY_VOID(passes_detail::check_lowered(schedule));
  PLAIT_TRY(SendGraph graph, SendGraph::read(schedule));
  CappedRun free(graph, kNone);
  if (free.run()) return graph;
  return fail(ErrorCode::kCheckFailed,
              fmt::format("the order's own waits stand in a circle: {}", free.circle()),
              schedule.name);
}

FewestSends find_fewest(const SendGraph& graph) {
  std::size_t enough = graph.most_sends();
  std::size_t few = 0;  // does not work
  while (few + 1 < enough) {
    const std::size_t middle = few + (enough - few) / 2;
    (CappedRun(graph, middle).run() ? enough : few) = middle;
  }
  if (enough == 0) return {0, "no value crosses ranks"};
  if (enough == 1) return {1, "a send is outstanding until its wait"};
  CappedRun stuck(graph, enough - 1);
  stuck.run();
  return {static_cast<int>(enough),
          fmt::format("with {}, ranks wait in a circle: {}", enough - 1, stuck.circle())};
}

}  // namespace

Expected<FewestSends> fewest_outstanding_sends(const Schedule& schedule) {
  PLAIT_TRY(const SendGraph graph, read_graph(schedule));
  return find_fewest(graph);
}

Expected<Schedule> limit_sends(Schedule schedule, int most) {
  PLAIT_TRY(SendGraph graph, read_graph(schedule));
  SendGraph moved = graph;
  if (WaitMover(moved, most).run()) return std::move(moved).write(std::move(schedule));
  CappedRun run(graph, static_cast<std::size_t>(most));
  if (!run.run()) {
    const FewestSends fewest = find_fewest(graph);
    return fail(ErrorCode::kInvalidInput,
                fmt::format("found {} outstanding sends a rank, needed at least {}: {}", most,
                            fewest.number, fewest.proof),
                schedule.name);
  }
  run.place_all_waits(graph);
  return std::move(graph).write(std::move(schedule));
}

Expected<Schedule> limit_sends_pass(Schedule schedule, const PassOptions& options) {
  return limit_sends(std::move(schedule), options.number);
}

}  // namespace plait
