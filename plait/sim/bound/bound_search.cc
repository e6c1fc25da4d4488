#include <algorithm>
#include <cstddef>
#include <limits>
#include <unordered_map>
#include <utility>

#include "plait/sim/bound/bounds.h"

namespace plait {
namespace {

constexpr std::size_t kF = 0;
constexpr std::size_t kI = 1;
constexpr std::size_t kW = 2;
constexpr std::size_t kR = 3;  // what is recomputed, where anything is
constexpr int kNone = -1;
constexpr std::size_t kMostFailed = 32;  // kept for each count of actions done
constexpr Nanoseconds kNever = std::numeric_limits<Nanoseconds>::max();

std::size_t at(int index) { return static_cast<std::size_t>(index); }

/// The actions of one kind and stage: one after the other, each `delay` after the end of the same
/// micro-batch's action of row `before`.
struct Row {
  std::size_t kind = kF;
  Nanoseconds length = 0;
  int count = 0;
  int before = kNone;
  Nanoseconds delay = 0;
  std::vector<Nanoseconds> head;  ///< by micro-batch, from the other ranks
  std::vector<Nanoseconds> tail;
};

/// Rows of a rank, each after the one it waits for.
std::vector<Row> rows_of(const BoundProblem& problem, int rank) {
  std::vector<Row> rows;
  const auto add = [&](const BoundStage& stage, std::size_t kind, int before, Nanoseconds delay) {
    const bool again = kind == kR;
    const std::vector<TailLine> lines = again        ? stage.recompute_tail()
                                        : kind == kF ? stage.forward_tail
                                        : kind == kI ? stage.backward_tail
                                                     : std::vector<TailLine>{};
    const Nanoseconds head = again ? stage.recompute_head() : stage.head[kind];
    const Nanoseconds rate = again ? stage.recompute_rate() : stage.rate[kind];
    const Nanoseconds length = again ? stage.recompute : stage.length[kind];
    Row row{kind, length, stage.microbatches, before, delay, {}, {}};
    for (int k = 0; k < row.count; ++k) {
      row.head.push_back(head + k * rate);
      Nanoseconds tail = 0;
      for (const TailLine& line : lines)
        tail = std::max(tail, line.last + (row.count - 1 - k) * line.later);
      row.tail.push_back(tail);
    }
    rows.push_back(std::move(row));
    return static_cast<int>(rows.size()) - 1;
  };
  const int copy_stages = static_cast<int>(problem.stages().size()) / problem.copies();
  const std::vector<int>& held = problem.stages_of(rank);
  for (auto first = held.begin(); first != held.end();) {
    const int copy = *first / copy_stages;
    const auto last =
        std::find_if(first, held.end(), [&](int index) { return index / copy_stages != copy; });
    int before = kNone;
    Nanoseconds ready = 0;  // when the result of `before` counts, on its micro-batch's path
    for (auto it = first; it != last; ++it) {
      const BoundStage& stage = problem.stages()[at(*it)];
      before = add(stage, kF, before, stage.head[kF] - ready);
      ready = stage.head[kF] + stage.delay[kF];
      if (stage.recompute > 0) add(stage, kR, before, 0);
    }
    for (auto it = last; it != first && !problem.forward_only();) {
      const BoundStage& stage = problem.stages()[at(*--it)];
      before = add(stage, kI, before, stage.head[kI] - ready);
      ready = stage.head[kI] + stage.delay[kI];
      add(stage, kW, before, 0);
    }
    first = last;
  }
  return rows;
}

enum class Answer { kYes, kNo, kUnknown };

/// Depth-first search over a rank's orders.
class RankSearch {
 public:
  RankSearch(std::vector<Row> rows, int cap, std::int64_t nodes)
      : rows_(std::move(rows)), cap_(cap), limit_(nodes), done_(rows_.size()) {
    for (const Row& row : rows_) {
      end_.emplace_back(at(row.count));
      ready_.emplace_back(at(row.count));
    }
  }

  /// Can the step end by `target`?
  Answer ask(Nanoseconds target) {
    target_ = target;
    exceeded_ = kNever;
    nodes_ = 0;
    failed_.clear();
    return visit(0);
  }
  /// After a yes: when the order that was found ends. After a no: no order ends sooner.
  Nanoseconds found() const { return found_; }
  Nanoseconds exceeded() const { return exceeded_; }

 private:
  struct Choice {
    Nanoseconds start;
    Nanoseconds tail;
    std::size_t row;
  };
  struct Failed {
    Nanoseconds time;
    std::vector<Nanoseconds> pending;
  };
  struct CountsHash {
    std::size_t operator()(const std::vector<int>& counts) const {
      std::size_t hash = 1469598103934665603U;
      for (const int count : counts) hash = (hash ^ at(count)) * 1099511628211U;
      return hash;
    }
  };

  Answer visit(Nanoseconds makespan);
  Answer try_choices(Nanoseconds makespan);
  std::vector<Choice> choices() const;
  Nanoseconds start_of(std::size_t row) const;
  Nanoseconds bound();
  void estimate(bool with_cap);
  void collect_releases();
  Nanoseconds jackson();
  Nanoseconds drain_bound() const;
  std::vector<Nanoseconds> pending() const;
  bool known_to_fail(const std::vector<Nanoseconds>& pending) const;
  bool has_room() const { return cap_ == 0 || live_ < cap_; }

  std::vector<Row> rows_;
  int cap_;
  std::int64_t limit_;
  std::vector<int> done_;                      // by row
  std::vector<std::vector<Nanoseconds>> end_;  // by row and micro-batch, of those done
  Nanoseconds time_ = 0;
  int live_ = 0;

  Nanoseconds target_ = 0;
  Nanoseconds exceeded_ = kNever;
  Nanoseconds found_ = kNever;
  std::int64_t nodes_ = 0;
  std::unordered_map<std::vector<int>, std::vector<Failed>, CountsHash> failed_;
  std::vector<std::vector<Nanoseconds>> ready_;  // by row and micro-batch: no sooner than this
  std::vector<Nanoseconds> releases_;            // ends of W's to come, no sooner than this
  std::vector<int> next_;
};

Nanoseconds RankSearch::start_of(std::size_t index) const {
  const Row& row = rows_[index];
  const int k = done_[index];
  if (k == row.count || (row.kind == kF && !has_room())) return kNever;
  Nanoseconds start = std::max(time_, row.head[at(k)]);
  if (row.before != kNone) {
    if (done_[at(row.before)] <= k) return kNever;
    start = std::max(start, end_[at(row.before)][at(k)] + row.delay);
  }
  return start;
}

// What can come next. Left out without loss:
// - what starts when an I or a W could have ended: that one can be put before it, which delays
//   nothing and holds no activation longer;
// - of W's that could all start now and are as long: all but the first. Whatever order has another
//   one here can swap the two: both are ready, both release one activation.
std::vector<RankSearch::Choice> RankSearch::choices() const {
  std::vector<Choice> result;
  Nanoseconds first_end = kNever;
  std::size_t first_row = rows_.size();
  for (std::size_t row = 0; row < rows_.size(); ++row) {
    const Nanoseconds start = start_of(row);
    if (start == kNever) continue;
    const bool seen = rows_[row].kind == kW && start == time_ &&
                      std::any_of(result.begin(), result.end(), [&](const Choice& other) {
                        return rows_[other.row].kind == kW && other.start == time_ &&
                               rows_[other.row].length == rows_[row].length;
                      });
    if (seen) continue;
    result.push_back({start, rows_[row].tail[at(done_[row])], row});
    if (rows_[row].kind != kF && start + rows_[row].length < first_end) {
      first_end = start + rows_[row].length;
      first_row = row;
    }
  }
  std::erase_if(result, [&](const Choice& choice) {
    return choice.start >= first_end && choice.row != first_row;
  });
  std::sort(result.begin(), result.end(), [](const Choice& a, const Choice& b) {
    if (a.start != b.start) return a.start < b.start;
    if (a.tail != b.tail) return a.tail > b.tail;
    return a.row < b.row;
  });
  return result;
}

/// The least start of every action to come: after its micro-batch's action before it, after those
/// of its row, and, if F's, after as many W's as must have released an activation.
void RankSearch::estimate(bool with_cap) {
  const std::size_t room = at(cap_ - live_);
  for (std::size_t index = 0; index < rows_.size(); ++index) {
    const Row& row = rows_[index];
    Nanoseconds earliest = time_;
    for (int k = done_[index]; k < row.count; ++k) {
      earliest = std::max(earliest, row.head[at(k)]);
      if (row.before != kNone) {
        const std::size_t before = at(row.before);
        const Nanoseconds end =
            k < done_[before] ? end_[before][at(k)] : ready_[before][at(k)] + rows_[before].length;
        earliest = std::max(earliest, end + row.delay);
      }
      const std::size_t later = at(k - done_[index]);
      if (with_cap && row.kind == kF && later >= room && later - room < releases_.size())
        earliest = std::max(earliest, releases_[later - room]);
      ready_[index][at(k)] = earliest;
      earliest += row.length;
    }
  }
}

void RankSearch::collect_releases() {
  releases_.clear();
  for (std::size_t index = 0; index < rows_.size(); ++index) {
    if (rows_[index].kind != kW) continue;
    for (int k = done_[index]; k < rows_[index].count; ++k)
      releases_.push_back(ready_[index][at(k)] + rows_[index].length);
  }
  std::sort(releases_.begin(), releases_.end());
  // One after the other.
  Nanoseconds shortest = kNever;
  for (const Row& row : rows_) {
    if (row.kind == kW) shortest = std::min(shortest, row.length);
  }
  for (std::size_t i = 1; i < releases_.size(); ++i)
    releases_[i] = std::max(releases_[i], releases_[i - 1] + shortest);
}

/// The one-machine bound (bounds.cc) of what is left, with the starts of estimate().
Nanoseconds RankSearch::jackson() {
  next_ = done_;
  Nanoseconds time = time_;
  Nanoseconds makespan = 0;
  std::vector<Nanoseconds> left(rows_.size());
  for (std::size_t row = 0; row < rows_.size(); ++row) left[row] = rows_[row].length;
  while (true) {
    std::size_t best = rows_.size();
    Nanoseconds next = kNever;
    for (std::size_t row = 0; row < rows_.size(); ++row) {
      const int k = next_[row];
      if (k == rows_[row].count) continue;
      if (ready_[row][at(k)] > time) {
        next = std::min(next, ready_[row][at(k)]);
      } else if (best == rows_.size() ||
                 rows_[row].tail[at(k)] > rows_[best].tail[at(next_[best])]) {
        best = row;
      }
    }
    if (best == rows_.size()) {
      if (next == kNever) return makespan;
      time = next;
      continue;
    }
    const Nanoseconds step = std::min(left[best], next - time);
    time += step;
    left[best] -= step;
    if (left[best] > 0) continue;
    makespan = std::max(makespan, time + rows_[best].tail[at(next_[best]++)]);
    left[best] = rows_[best].length;
  }
}

/// As capped_bound(): after the last F only as many backwards as may live are left.
Nanoseconds RankSearch::drain_bound() const {
  Nanoseconds work = 0;
  Nanoseconds longest_recompute = 0;
  Nanoseconds longest_input = 0;
  Nanoseconds longest_weight = 0;
  Nanoseconds shortest_tail = kNever;
  for (std::size_t index = 0; index < rows_.size(); ++index) {
    const Row& row = rows_[index];
    work += (row.count - done_[index]) * row.length;
    if (row.kind == kR) longest_recompute = std::max(longest_recompute, row.length);
    if (row.kind == kI) longest_input = std::max(longest_input, row.length);
    if (row.kind == kW) longest_weight = std::max(longest_weight, row.length);
    if (row.kind == kF && done_[index] < row.count)
      shortest_tail = std::min(shortest_tail, row.tail.back());
  }
  if (cap_ == 0 || shortest_tail == kNever) return 0;
  return time_ + work - cap_ * (longest_recompute + longest_input + longest_weight) + shortest_tail;
}

Nanoseconds RankSearch::bound() {
  estimate(false);
  for (int pass = 0; pass < 3 && cap_ > 0; ++pass) {
    collect_releases();
    estimate(true);
  }
  return std::max(jackson(), drain_bound());
}

/// When what is ready to come next, or waits on its way through other ranks, can start.
std::vector<Nanoseconds> RankSearch::pending() const {
  std::vector<Nanoseconds> result;
  for (std::size_t index = 0; index < rows_.size(); ++index) {
    const Row& row = rows_[index];
    if (row.before == kNone) continue;
    for (int k = done_[index]; k < done_[at(row.before)]; ++k)
      result.push_back(std::max(time_, end_[at(row.before)][at(k)] + row.delay));
  }
  return result;
}

/// A state with the same actions done, at which all was ready no later, has failed.
bool RankSearch::known_to_fail(const std::vector<Nanoseconds>& pending) const {
  const auto found = failed_.find(done_);
  if (found == failed_.end()) return false;
  return std::any_of(found->second.begin(), found->second.end(), [&](const Failed& failed) {
    if (failed.time > time_) return false;
    for (std::size_t i = 0; i < pending.size(); ++i) {
      if (failed.pending[i] > pending[i]) return false;
    }
    return true;
  });
}

Answer RankSearch::visit(Nanoseconds makespan) {
  if (++nodes_ > limit_) return Answer::kUnknown;
  bool all = true;
  for (std::size_t row = 0; row < rows_.size(); ++row) all = all && done_[row] == rows_[row].count;
  if (all) {
    found_ = makespan;
    return Answer::kYes;
  }
  if (const Nanoseconds least = bound(); least > target_) {
    exceeded_ = std::min(exceeded_, least);
    return Answer::kNo;
  }
  std::vector<Nanoseconds> waiting = pending();
  if (known_to_fail(waiting)) return Answer::kNo;
  const Answer answer = try_choices(makespan);
  if (answer == Answer::kNo) {
    std::vector<Failed>& failed = failed_[done_];
    if (failed.size() < kMostFailed) failed.push_back({time_, std::move(waiting)});
  }
  return answer;
}

Answer RankSearch::try_choices(Nanoseconds makespan) {
  const Nanoseconds time = time_;
  const int live = live_;
  Answer answer = Answer::kNo;
  for (const Choice& choice : choices()) {
    const Row& row = rows_[choice.row];
    const Nanoseconds end = choice.start + row.length;
    if (end + choice.tail > target_) {
      exceeded_ = std::min(exceeded_, end + choice.tail);
      continue;
    }
    end_[choice.row][at(done_[choice.row]++)] = end;
    time_ = end;
    if (row.kind == kF) ++live_;
    if (row.kind == kW) --live_;
    answer = visit(std::max(makespan, end + choice.tail));
    --done_[choice.row];
    time_ = time;
    live_ = live;
    if (answer != Answer::kNo) break;
  }
  return answer;
}

}  // namespace

// The rank's actions of one row, numbered by their starts, keep these rules in every schedule:
// one at a time; the k-th not before its head, and its tail passes after it (bounds.cc); the k-th
// not before the k-th end of the row before it plus the path between them, because k micro-batches
// have come that way; an F only while fewer than A activations live. So the schedule is one of the
// orders searched here, and none of these ends sooner than the search's answer. Micro-batches of a
// stage are alike, so that taking them in order is no restriction. Where pairs may run, lengths
// stand for them as bounds.cc says, and what lies between a row's end and the next row's start is
// the path between them. That R precedes its own I is left out, but on the last stage's path.
RelaxationBound one_rank_relaxation(const BoundProblem& problem, const SearchLimit& limit) {
  RelaxationBound result{best_bound(problem), true};
  Bound& best = result.bound;
  for (int rank = 0; rank < problem.ranks(); ++rank) {
    std::vector<Row> rows = rows_of(problem, rank);
    std::int64_t actions = 0;
    for (const Row& row : rows) actions += row.count;
    if (actions == 0) continue;
    if (actions > limit.actions) {
      result.exact = false;
      continue;
    }
    RankSearch search(std::move(rows), problem.activations(rank), limit.nodes);
    Nanoseconds low = best.makespan;  // no order ends sooner
    Nanoseconds high = kNever;        // the search ran out of nodes, or an order ends then
    bool open = false;
    for (Nanoseconds target = low; low < high;) {
      const Answer answer = search.ask(target);
      if (answer == Answer::kNo) {
        low = std::max(low, std::min(search.exceeded(), high));
      } else {
        open = answer == Answer::kUnknown;
        high = answer == Answer::kYes ? std::min(target, search.found()) : target;
        if (target == low) break;
      }
      target = high == kNever ? low + low / 16 : low + (high - low) / 2;
    }
    if (open) result.exact = false;
    if (low > best.makespan) best = {low, "one-rank", rank};
  }
  return result;
}

}  // namespace plait
