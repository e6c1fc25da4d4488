#include "plait/runtime/stall.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

namespace plait {
namespace {

using Json = nlohmann::json;

constexpr const char* kSaysNothing = "says nothing: it is stopped, dead or gone from the network";

/// A report has a line for so many ranks.
constexpr std::size_t kMostLines = 40;

/// The higher, the more likely it is the cause. 0: it waits itself.
int weight(RankState state) {
  switch (state) {
    case RankState::kDead:
      return 4;
    case RankState::kStopped:
      return 3;
    case RankState::kSilent:
      return 2;
    case RankState::kComputes:
      return 1;
    case RankState::kWaits:
      break;
  }
  return 0;
}

/// Walks from rank to awaited rank, each rank once.
class Search {
 public:
  explicit Search(const std::vector<RankDoing>& ranks) {
    for (const RankDoing& one : ranks) {
      ranks_[one.rank] = &one;
      for (const int awaited : one.awaited) ranks_.emplace(awaited, nullptr);
    }
  }

  StallCause run() {
    // Those that wait first: a chain that explains something is better than a lone rank.
    for (const bool waits : {true, false}) {
      for (const auto& [rank, doing] : ranks_) {
        const bool is_waiting = doing != nullptr && doing->state == RankState::kWaits;
        if (is_waiting == waits) visit(rank);
      }
    }
    return std::move(best_);
  }

 private:
  RankState state_of(int rank) const {
    const RankDoing* doing = ranks_.at(rank);
    return doing == nullptr ? RankState::kSilent : doing->state;
  }

  void offer(int of_cause) {
    if (of_cause <= best_weight_) return;
    best_weight_ = of_cause;
    best_ = {path_, of_cause == 0};
  }

  /// Iterative: a chain may be as long as there are ranks.
  void visit(int start) {
    struct Frame {
      int rank;
      std::size_t next;
    };
    std::vector<Frame> frames;
    const auto enter = [&](int rank) {
      const auto [seen, is_new] = seen_.emplace(rank, true);
      if (!is_new) {
        if (seen->second) offer(0);  // it is on the path: a circle
        return;
      }
      path_.push_back(rank);
      frames.push_back({rank, 0});
      if (const int of_cause = weight(state_of(rank)); of_cause > 0) offer(of_cause);
    };
    enter(start);
    while (!frames.empty()) {
      Frame& top = frames.back();
      const RankDoing* doing = ranks_.at(top.rank);
      if (doing != nullptr && doing->state == RankState::kWaits &&
          top.next < doing->awaited.size()) {
        enter(doing->awaited[top.next++]);
        continue;
      }
      seen_[top.rank] = false;
      path_.pop_back();
      frames.pop_back();
    }
  }

  std::map<int, const RankDoing*> ranks_;  // null: awaited, and nothing is known of it
  std::map<int, bool> seen_;               // whether it is on the path
  std::vector<int> path_;
  StallCause best_;
  int best_weight_ = -1;
};

/// "is in 2W4", "waits in 0RECV_B0 from rank 1", "is dead, was in 2W4".
std::string predicate(const RankDoing& doing) {
  const bool between = doing.instruction.empty();
  switch (doing.state) {
    case RankState::kComputes:
      return between ? "works between two steps" : "is in " + doing.instruction;
    case RankState::kWaits:
      return between ? "waits between two steps" : "waits in " + doing.instruction;
    case RankState::kStopped:
      return "is stopped (SIGSTOP) " + (between ? "between two steps" : "in " + doing.instruction);
    case RankState::kDead:
      return "is dead, was " + (between ? "between two steps" : "in " + doing.instruction);
    case RankState::kSilent:
      break;
  }
  return std::string(kSaysNothing) + "; was " +
         (between ? "between two steps" : "in " + doing.instruction);
}

/// Behind "the cause is rank 1, which ".
std::string fault(const RankDoing* doing) {
  if (doing == nullptr || doing->state == RankState::kSilent) return kSaysNothing;
  if (doing->state == RankState::kStopped) return "is stopped (SIGSTOP)";
  if (doing->state == RankState::kDead) return "is dead";
  return predicate(*doing);
}

std::string describe_cause(const StallCause& cause, const std::vector<RankDoing>& ranks) {
  std::string waits;
  for (std::size_t i = 0; i + 1 < cause.chain.size(); ++i) {
    waits += i == 0 ? fmt::format("rank {} waits for rank {}", cause.chain[0], cause.chain[1])
                    : fmt::format(", which waits for rank {}", cause.chain[i + 1]);
  }
  if (cause.circle) return "the ranks wait for one another: " + waits;
  const int last = cause.chain.back();
  const auto found = std::find_if(ranks.begin(), ranks.end(),
                                  [&](const RankDoing& one) { return one.rank == last; });
  return fmt::format("the cause is rank {}, which {}{}", last,
                     fault(found == ranks.end() ? nullptr : &*found),
                     waits.empty() ? "" : ": " + waits);
}

}  // namespace

StallCause find_cause(const std::vector<RankDoing>& ranks) { return Search(ranks).run(); }

std::string describe(const RankDoing& doing) {
  return fmt::format("rank {} {}, for {:.1f} s", doing.rank, predicate(doing),
                     static_cast<double>(doing.since) / 1e9);
}

std::string describe_stall(const std::vector<RankDoing>& ranks) {
  if (ranks.empty()) return "no rank is in a step";
  const StallCause cause = find_cause(ranks);
  std::vector<const RankDoing*> shown;
  for (const RankDoing& one : ranks) shown.push_back(&one);
  const auto place = [&](const RankDoing* one) {
    const bool chained =
        std::find(cause.chain.begin(), cause.chain.end(), one->rank) != cause.chain.end();
    return std::pair(ranks.size() > kMostLines && !chained, one->rank);
  };
  std::stable_sort(shown.begin(), shown.end(),
                   [&](const RankDoing* a, const RankDoing* b) { return place(a) < place(b); });
  const std::size_t left_out = shown.size() - std::min(shown.size(), kMostLines);
  shown.resize(shown.size() - left_out);
  std::string text = describe_cause(cause, ranks);
  for (const RankDoing* one : shown) text += "\n  " + describe(*one);
  if (left_out > 0) text += fmt::format("\n  and {} more ranks", left_out);
  return text;
}

std::string print_doing(const RankDoing& doing) {
  return Json({doing.rank, static_cast<int>(doing.state), doing.instruction, doing.awaited,
               doing.since})
      .dump();
}

bool read_doing(const std::string& text, RankDoing& doing) {
  try {
    const Json json = Json::parse(text);
    json.at(0).get_to(doing.rank);
    doing.state = static_cast<RankState>(std::clamp(json.at(1).get<int>(), 0, 4));
    json.at(2).get_to(doing.instruction);
    json.at(3).get_to(doing.awaited);
    json.at(4).get_to(doing.since);
    return true;
  } catch (const Json::exception&) {
    return false;
  }
}

}  // namespace plait
