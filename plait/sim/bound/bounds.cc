#include "plait/sim/bound/bounds.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <utility>

namespace plait {
namespace {

constexpr std::size_t kF = 0;
constexpr std::size_t kI = 1;
constexpr std::size_t kW = 2;
constexpr Nanoseconds kNever = std::numeric_limits<Nanoseconds>::max();
constexpr int kExactJobs = 256;  // at each end of a stage's actions of one kind

std::size_t at(int index) { return static_cast<std::size_t>(index); }

const BoundStage& stage_at(const BoundProblem& problem, int index) {
  return problem.stages()[at(index)];
}

Nanoseconds per_microbatch(const BoundStage& stage) {
  return stage.length[kF] + stage.recompute + stage.length[kI] + stage.length[kW];
}

/// The least time of the rank's actions together.
Nanoseconds work_of(const BoundProblem& problem, int rank) {
  Nanoseconds work = 0;
  for (const int index : problem.stages_of(rank)) {
    const BoundStage& stage = stage_at(problem, index);
    work += stage.microbatches * per_microbatch(stage);
  }
  return work;
}

/// The earliest start of any of the rank's actions of a kind.
Nanoseconds first_start(const BoundProblem& problem, int rank, std::size_t kind) {
  Nanoseconds first = kNever;
  for (const int index : problem.stages_of(rank))
    first = std::min(first, stage_at(problem, index).head[kind]);
  return first;
}

/// The largest bound(rank) over the ranks that hold a stage; 0 if none does.
template <typename BoundOf>
Bound largest(const BoundProblem& problem, std::string_view name, BoundOf bound_of) {
  Bound bound{0, name, -1};
  for (int rank = 0; rank < problem.ranks(); ++rank) {
    if (problem.stages_of(rank).empty()) continue;
    if (const Nanoseconds makespan = bound_of(rank); makespan > bound.makespan) {
      bound.makespan = makespan;
      bound.rank = rank;
    }
  }
  return bound;
}

/// The most that `count` actions of one kind on a rank can take, at most M of each stage.
template <typename Length>
Nanoseconds most_of(const BoundProblem& problem, int rank, int count, Length length) {
  std::vector<std::pair<Nanoseconds, int>> stages;
  for (const int index : problem.stages_of(rank)) {
    const BoundStage& stage = stage_at(problem, index);
    stages.emplace_back(length(stage), stage.microbatches);
  }
  std::sort(stages.rbegin(), stages.rend());
  Nanoseconds most = 0;
  for (const auto& [each, available] : stages) {
    const int taken = std::min(count, available);
    most += taken * each;
    count -= taken;
  }
  return most;
}

int activations_through(const BoundProblem& problem, int rank) {
  int count = 0;
  for (const int index : problem.stages_of(rank)) count += stage_at(problem, index).microbatches;
  return count;
}

/// The actions of one kind and stage as jobs of the one-machine problem, some neighbours as one.
/// Micro-batches ascend, so heads do not fall and tails do not rise.
class JobQueue {
 public:
  JobQueue(const BoundStage& stage, std::size_t kind, std::vector<TailLine> tails)
      : microbatches_(stage.microbatches),
        first_head_(stage.head[kind]),
        rate_(stage.rate[kind]),
        each_(stage.length[kind]),
        tails_(std::move(tails)) {
    load();
  }
  static JobQueue of_recompute(const BoundStage& stage) { return JobQueue(stage); }

  /// kNever when all have run.
  Nanoseconds head() const { return head_; }
  Nanoseconds tail() const { return tail_; }
  Nanoseconds length() const { return length_; }

  /// Runs the first job for `time` of its length; true if it is done.
  bool run(Nanoseconds time) {
    length_ -= time;
    if (length_ > 0) return false;
    next_ += count_;
    load();
    return true;
  }

 private:
  explicit JobQueue(const BoundStage& stage)
      : microbatches_(stage.microbatches),
        first_head_(stage.recompute_head()),
        rate_(stage.recompute_rate()),
        each_(stage.recompute),
        tails_(stage.recompute_tail()) {
    load();
  }

  /// Several jobs count as one with the first one's head, the last one's tail and the sum of
  /// lengths: what is feasible for them is feasible for it, piece by piece, so the bound holds.
  void load() {
    if (next_ == microbatches_) {
      head_ = kNever;
      return;
    }
    const int from_end = microbatches_ - next_;
    count_ = std::max(1, (std::min(next_, from_end) - kExactJobs) / 8);
    head_ = first_head_ + next_ * rate_;
    length_ = count_ * each_;
    tail_ = 0;
    for (const TailLine& line : tails_)
      tail_ = std::max(tail_, line.last + (from_end - count_) * line.later);
  }

  int microbatches_;
  Nanoseconds first_head_;
  Nanoseconds rate_;
  Nanoseconds each_;
  std::vector<TailLine> tails_;
  int next_ = 0;
  int count_ = 0;
  Nanoseconds head_ = 0;
  Nanoseconds length_ = 0;
  Nanoseconds tail_ = 0;
};

std::vector<JobQueue> jobs_of(const BoundProblem& problem, int rank) {
  std::vector<JobQueue> queues;
  for (const int index : problem.stages_of(rank)) {
    const BoundStage& stage = stage_at(problem, index);
    queues.emplace_back(stage, kF, stage.forward_tail);
    if (problem.forward_only()) continue;
    queues.emplace_back(stage, kI, stage.backward_tail);
    queues.emplace_back(stage, kW, std::vector<TailLine>{});
    if (stage.recompute > 0) queues.push_back(JobQueue::of_recompute(stage));
  }
  return queues;
}

/// Jackson's rule: of the released jobs always the one with the largest tail, also in the middle of
/// another. Within a queue that is the first one.
Nanoseconds jackson(std::vector<JobQueue> queues) {
  Nanoseconds time = 0;
  Nanoseconds makespan = 0;
  while (true) {
    JobQueue* best = nullptr;
    Nanoseconds rival = -1;  // the largest tail of the other released jobs
    Nanoseconds next_head = kNever;
    for (JobQueue& queue : queues) {
      if (queue.head() > time) {
        next_head = std::min(next_head, queue.head());
      } else if (best == nullptr || queue.tail() > best->tail()) {
        if (best != nullptr) rival = best->tail();
        best = &queue;
      } else {
        rival = std::max(rival, queue.tail());
      }
    }
    if (best == nullptr) {
      if (next_head == kNever) return makespan;
      time = next_head;
      continue;
    }
    do {
      const Nanoseconds step = std::min(best->length(), next_head - time);
      const Nanoseconds tail = best->tail();
      time += step;
      if (best->run(step)) makespan = std::max(makespan, time + tail);
    } while (time < next_head && best->head() <= time && best->tail() >= rival);
  }
}

}  // namespace

// Nothing runs on the rank before the first F of its first stage can (an I or a W comes after the F
// of its stage), and it does one thing at a time.
Bound work_bound(const BoundProblem& problem) {
  return largest(problem, "work",
                 [&](int rank) { return first_start(problem, rank, kF) + work_of(problem, rank); });
}

// Sort the actions of one kind and stage by their starts: the (k+1)-th starts no sooner than
// head + k * rate. Sort them by their ends: after the one that j others follow, the largest of its
// tail lines passes (set_paths has both proofs). The (k+1)-th to start is the (k+1)-th to end, for
// a rank does one thing at a time. So the rank's actions in any schedule are a feasible schedule of
// one machine with these heads and tails, and the best one with preemption is not longer. Jackson's
// rule finds that: let the latest end plus tail be of job J at time t with tail q, and let the
// machine work without a pause on jobs of tails >= q since time u, the latest such. Just before u
// it was idle or on a job of a smaller tail, so none of these jobs was released before u; they must
// run after u, and one of them ends last, at t or later, with a tail of at least q.
Bound one_machine_bound(const BoundProblem& problem) {
  return largest(problem, "one-machine", [&](int rank) { return jackson(jobs_of(problem, rank)); });
}

// Let A be the rank's cap and more than A activations go through it. Before the earliest start T of
// its I's neither I nor W starts, so only F's (and their R's: F stands for both here, a backward
// for R, I and W), and at most A of them, as none is released before T. Let E be the end of its
// last F: at that time some W has ended (more than A F's started), so E > T. After E only the at
// most A live activations have an I or a W left, and at least the smallest tail q of its F's passes
// until the end of the step. So the other work, all of it but these A F's and A backwards, lies
// between T and E:
//   makespan >= T + (work - A F's - A backwards) + q.
// Leaving out either end: no work starts before the rank's head H, and none need be after E's tail:
//   makespan >= H + work,  >= H + (work - A backwards) + q,  >= T + (work - A F's).
// The largest of the four is written below as head and tail added to the work.
Bound capped_bound(const BoundProblem& problem) {
  return largest(problem, "capped", [&](int rank) -> Nanoseconds {
    const int cap = problem.activations(rank);
    if (cap == 0 || activations_through(problem, rank) <= cap) return 0;
    Nanoseconds shortest_tail = kNever;
    for (const int index : problem.stages_of(rank))
      shortest_tail = std::min(shortest_tail, stage_at(problem, index).forward_tail.front().last);
    const Nanoseconds forwards = most_of(problem, rank, cap, [](const BoundStage& stage) {
      return stage.length[kF] + stage.recompute;
    });
    const Nanoseconds backwards = most_of(problem, rank, cap, [](const BoundStage& stage) {
      return stage.recompute + stage.length[kI] + stage.length[kW];
    });
    const Nanoseconds head =
        std::max(first_start(problem, rank, kF), first_start(problem, rank, kI) - forwards);
    return head + work_of(problem, rank) + std::max<Nanoseconds>(0, shortest_tail - backwards);
  });
}

// An activation of stage s lives from the start of its F to the end of its W (or B): at least
// L(s) = (head of I - head of F) + I + W, for the path between the two is the same for all
// micro-batches. All live between the rank's head H and the end of the step, at most A at a time:
//   A * (makespan - H) >= sum of M * L(s) over its stages.
Bound residence_bound(const BoundProblem& problem) {
  return largest(problem, "residence", [&](int rank) -> Nanoseconds {
    const int cap = problem.activations(rank);
    if (cap == 0) return 0;
    __int128 lives = 0;
    for (const int index : problem.stages_of(rank)) {
      const BoundStage& stage = stage_at(problem, index);
      lives += static_cast<__int128>(stage.microbatches) *
               (stage.head[kI] - stage.head[kF] + stage.delay[kI] + stage.delay[kW]);
    }
    return first_start(problem, rank, kF) + static_cast<Nanoseconds>((lives + cap - 1) / cap);
  });
}

Bound best_bound(const BoundProblem& problem) {
  Bound best = work_bound(problem);
  for (const Bound& other :
       {one_machine_bound(problem), capped_bound(problem), residence_bound(problem)}) {
    if (other.makespan > best.makespan) best = other;
  }
  return best;
}

Expected<Bound> best_bound(const BoundInput& input) {
  PLAIT_TRY(const BoundProblem problem, BoundProblem::make(input));
  return best_bound(problem);
}

}  // namespace plait
