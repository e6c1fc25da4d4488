/// For tests: a comm whose every choice is a seed's, and a driver of all lanes of all ranks on one
/// thread. A deadlock is a state: no lane can run and no message can move.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "plait/runtime/driver.h"
#include "plait/runtime/executor.h"
#include "plait/runtime/reference.h"

namespace plait::testing {

enum class Matching { kKey, kEdge, kPair, kRank };

struct WorldOptions {
  Matching matching = Matching::kKey;
  bool buffered = false;  ///< a send completes when it is posted, not when it is received
  int fail_message = -1;  ///< the n-th message that moves fails instead
};

/// Completes a message as a comm does that holds no locks.
inline void complete(CompletionSink& sink, std::uint32_t token, Value value) {
  sink.completed(token, std::move(value));
  sink.settled();
}

/// Posted messages and collectives wait until move() lets one through.
class TestWorld {
 public:
  TestWorld(int ranks, WorldOptions options) : TestWorld(Grid{ranks, 1, 1}, options) {}
  TestWorld(const Grid& grid, WorldOptions options) : grid_(grid), options_(options) {
    for (int rank = 0; rank < grid.ranks(); ++rank)
      comms_.push_back(std::make_unique<RankComm>(*this, rank));
  }

  Comm& comm(int rank) { return *comms_[static_cast<std::size_t>(rank)]; }
  /// The most sends of one rank so far that were posted and had not moved.
  int most_outstanding() const { return most_outstanding_; }

  /// What can move: a message of a column, or a collective.
  struct Movable {
    std::tuple<int, int, int, int> message{};  ///< column, direction, stage, micro-batch
    const Collective* collective = nullptr;
    int first = -1;  ///< rank of its group
  };
  /// What could move now, in a fixed order.
  std::vector<Movable> movable() const {
    std::vector<Movable> found;
    for (const auto& [key, ends] : open_) {
      // No transport moves a message from a rank to itself.
      if (ends.has_send && ends.has_receive && ends.message.source != ends.message.destination &&
          heads(std::get<0>(key), ends.message))
        found.push_back({key, nullptr, -1});
    }
    for (const auto& [group, by_rank] : collectives_) {
      const std::size_t members = grid_.members(group.first, group.second).size();
      if (by_rank.size() < members) continue;
      bool same = true;
      for (const auto& [rank, queue] : by_rank)
        same = same && !queue.empty() && is_same(queue.front(), by_rank.begin()->second.front());
      if (same) found.push_back({{}, &by_rank.begin()->second.front().collective, group.second});
    }
    return found;
  }

  void move(const Movable& which) {
    if (which.collective != nullptr) return move_collective(which);
    const auto place = open_.find(which.message);
    Ends ends = std::move(place->second);
    open_.erase(place);
    --outstanding_[grid_.rank_of(ends.message.source, std::get<0>(which.message))];
    for (const bool sender : {true, false}) {
      auto& queue = queues_[queue_of(std::get<0>(which.message), ends.message, sender)];
      std::erase(queue, which.message);
    }
    if (moved_++ == options_.fail_message) {
      ends.receive_sink->completed(ends.receive_token, fail(ErrorCode::kPeer, "the link broke"));
      return;
    }
    if (!options_.buffered) complete(*ends.send_sink, ends.send_token, Value());
    complete(*ends.receive_sink, ends.receive_token, std::move(ends.value));
  }

 private:
  using Key = std::tuple<int, int, int, int>;
  struct Ends {
    Message message;
    Value value;
    bool has_send = false;
    bool has_receive = false;
    std::uint32_t send_token = 0;
    std::uint32_t receive_token = 0;
    CompletionSink* send_sink = nullptr;
    CompletionSink* receive_sink = nullptr;
  };
  struct Share {
    Collective collective;
    std::unique_ptr<ExchangeValue> value;
    std::uint32_t token = 0;
    CompletionSink* sink = nullptr;
  };
  class RankComm final : public Comm {
   public:
    RankComm(TestWorld& world, int rank) : world_(world), rank_(rank) {}
    void send(const Message& message, Value value, std::uint32_t token,
              CompletionSink& sink) override {
      Ends& ends = world_.post(world_.grid_.column_of(rank_), message, true);
      ends.has_send = true;
      ends.value = std::move(value);
      ends.send_token = token;
      ends.send_sink = &sink;
      int& outstanding = world_.outstanding_[rank_];
      world_.most_outstanding_ = std::max(world_.most_outstanding_, ++outstanding);
      if (world_.options_.buffered) complete(sink, token, Value());
    }
    void recv(const Message& message, const ValueSpec&, std::uint32_t token,
              CompletionSink& sink) override {
      Ends& ends = world_.post(world_.grid_.column_of(rank_), message, false);
      ends.has_receive = true;
      ends.receive_token = token;
      ends.receive_sink = &sink;
    }
    void collective(const Collective& which, std::unique_ptr<ExchangeValue> value,
                    std::uint32_t token, CompletionSink& sink) override {
      const int first = world_.grid_.members(which.group, rank_).front();
      world_.collectives_[{which.group, first}][rank_].push_back(
          {which, std::move(value), token, &sink});
    }
    void abort(const Error&) override {}

   private:
    TestWorld& world_;
    int rank_;
  };

  static bool is_same(const Share& one, const Share& other) {
    const auto key = [](const Collective& of) {
      return std::tuple(of.kind, of.direction, of.stage, of.part, of.microbatch);
    };
    return key(one.collective) == key(other.collective);
  }

  void move_collective(const Movable& which) {
    std::map<int, std::deque<Share>>& by_rank =
        collectives_.at({which.collective->group, which.first});
    std::vector<Share> shares;
    for (auto& [rank, queue] : by_rank) {
      shares.push_back(std::move(queue.front()));
      queue.pop_front();
    }
    for (std::size_t member = 0; member < shares.size(); ++member) {
      std::vector<Value> came;
      for (const Share& from : shares)
        came.push_back(from.value->share_for(static_cast<int>(member)));
      const Share& to = shares[member];
      complete(*to.sink, to.token, to.value->join(std::move(came)));
    }
  }

  static Key key_of(int column, const Message& message) {
    return {column, static_cast<int>(message.direction), message.sender_stage, message.microbatch};
  }
  Ends& post(int column, const Message& message, bool sender) {
    queues_[queue_of(column, message, sender)].push_back(key_of(column, message));
    Ends& ends = open_[key_of(column, message)];
    ends.message = message;
    return ends;
  }
  using QueueKey = std::tuple<int, int, int, Key>;
  QueueKey queue_of(int column, const Message& message, bool sender) const {
    const int here = grid_.rank_of(sender ? message.source : message.destination, column);
    const int peer = grid_.rank_of(sender ? message.destination : message.source, column);
    switch (options_.matching) {
      case Matching::kKey:
        return {here, peer, sender ? 1 : 0, key_of(column, message)};
      case Matching::kEdge:
        return {here, peer, sender ? 1 : 0, {}};
      case Matching::kPair:
        return {here, peer, 0, {}};
      case Matching::kRank:
        return {here, -1, 0, {}};
    }
    return {};
  }
  bool heads(int column, const Message& message) const {
    return queues_.at(queue_of(column, message, true)).front() == key_of(column, message) &&
           queues_.at(queue_of(column, message, false)).front() == key_of(column, message);
  }

  Grid grid_;
  WorldOptions options_;
  std::vector<std::unique_ptr<RankComm>> comms_;
  std::map<Key, Ends> open_;
  std::map<QueueKey, std::deque<Key>> queues_;
  /// By group and its first rank: each rank's, in the order in which it issued them.
  std::map<std::pair<Group, int>, std::map<int, std::deque<Share>>> collectives_;
  int moved_ = 0;
  std::map<int, int> outstanding_;  // by rank: sends that have not moved
  int most_outstanding_ = 0;
};

enum class Outcome { kEnded, kDeadlock, kFailed };

/// Runs one step of all ranks, one instruction or message at a time, in an order drawn from `seed`.
inline Outcome run_seeded(std::vector<std::unique_ptr<Executor>>& executors, TestWorld& world,
                          unsigned seed, std::string* trace = nullptr) {
  std::mt19937 random(seed);
  for (auto& executor : executors) executor->begin_step();
  const auto lanes = static_cast<unsigned>(executors.size()) * 2;
  while (true) {
    std::vector<unsigned> order(lanes + 1);
    for (unsigned i = 0; i <= lanes; ++i) order[i] = i;
    for (unsigned i = lanes; i > 0; --i) std::swap(order[i], order[random() % (i + 1)]);
    bool progress = false;
    for (const unsigned choice : order) {
      if (choice == lanes) {
        const std::vector<TestWorld::Movable> movable = world.movable();
        if (movable.empty()) continue;
        world.move(movable[random() % movable.size()]);
        progress = true;
      } else {
        Executor& executor = *executors[choice / 2];
        const Lane lane = choice % 2 == 0 ? Lane::kCompute : Lane::kCommunication;
        const std::uint32_t before = executor.changes().load();
        const std::size_t open = world.movable().size();
        const LaneStatus status = executor.advance(lane, 1);
        if (status == LaneStatus::kFailed) return Outcome::kFailed;
        progress = executor.changes().load() != before || status == LaneStatus::kReady ||
                   world.movable().size() != open;
      }
      if (trace != nullptr && progress) *trace += std::to_string(choice) + ' ';
      if (progress) break;
    }
    bool finished = true;
    for (auto& executor : executors) finished = finished && executor->finished();
    if (finished) return Outcome::kEnded;
    if (!progress) return Outcome::kDeadlock;
  }
}

/// The ways in which threads drive executors.
struct Driving {
  Wait wait;
  Chaining chaining;
};
inline constexpr std::array kDrivings{
    Driving{Wait::kSpin, Chaining::kOwnThread}, Driving{Wait::kSleep, Chaining::kOwnThread},
    Driving{Wait::kSpin, Chaining::kOnCompletion}, Driving{Wait::kSleep, Chaining::kOnCompletion}};

/// Numbers instead of tensors.
class Numbers final : public Payload {
 public:
  explicit Numbers(std::vector<double> list) : numbers(std::move(list)) {}
  Bytes bytes() const override { return static_cast<Bytes>(numbers.size() * sizeof(double)); }
  std::vector<double> numbers;
};

inline Value numbers(std::vector<double> list) {
  return std::make_unique<Numbers>(std::move(list));
}
inline const std::vector<double>& numbers_in(const Value& value) {
  return static_cast<const Numbers&>(*value).numbers;
}

/// A stage on plain arrays whose results depend on which micro-batch it is given and on the order
/// in which its gradient adds up.
class ArrayStage final : public Stage {
 public:
  ArrayStage(int stage, int stages) : stage_(stage), last_(stage == stages - 1) {}

  Expected<ForwardResult> forward(PartOf which, Value input, bool for_backward) override {
    const int microbatch = which.microbatch;
    std::vector<double> x =
        input ? numbers_in(input) : std::vector<double>{microbatch + 0.25, 1.0 / (microbatch + 1)};
    std::vector<double> y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i)
      y[i] = x[i] * (1.0 + 0.1 * stage_) + 0.01 * static_cast<double>(i);
    ForwardResult result;
    if (last_) {
      loss += y[0] * 0.5 + loss * 0.001;
    } else {
      result.output = numbers(std::move(y));
    }
    if (for_backward) result.saved = numbers(std::move(x));
    return result;
  }
  Expected<BackwardInputResult> backward_input(PartOf which, Value saved,
                                               Value output_gradient) override {
    const int microbatch = which.microbatch;
    std::vector<double> gradient = gradient_of(microbatch, output_gradient);
    std::vector<double> for_weight = numbers_in(saved);
    for_weight.insert(for_weight.end(), gradient.begin(), gradient.end());
    BackwardInputResult result;
    result.input_gradient = input_gradient(gradient);
    result.saved_for_weight = numbers(std::move(for_weight));
    return result;
  }
  Expected<void> backward_weight(PartOf, Value saved_for_weight) override {
    const std::vector<double>& both = numbers_in(saved_for_weight);
    accumulate({both[0], both[1]}, {both[2], both[3]});
    return {};
  }
  Expected<Value> backward(PartOf which, Value saved, Value output_gradient) override {
    const int microbatch = which.microbatch;
    const std::vector<double> gradient = gradient_of(microbatch, output_gradient);
    accumulate(numbers_in(saved), gradient);
    return input_gradient(gradient);
  }

  double loss = 0;
  double weight_gradient = 0;

 private:
  std::vector<double> gradient_of(int microbatch, const Value& output_gradient) const {
    return last_ ? std::vector<double>{1.0 + microbatch, 0.5} : numbers_in(output_gradient);
  }
  Value input_gradient(const std::vector<double>& gradient) const {
    if (stage_ == 0) return nullptr;
    std::vector<double> result(gradient.size());
    for (std::size_t i = 0; i < gradient.size(); ++i)
      result[i] = gradient[i] * (1.0 + 0.1 * stage_);
    return numbers(std::move(result));
  }
  void accumulate(const std::vector<double>& x, const std::vector<double>& gradient) {
    for (std::size_t i = 0; i < x.size(); ++i)
      weight_gradient = weight_gradient * 0.999 + x[i] * gradient[i];
  }

  int stage_;
  bool last_;
};

/// The stages of a schedule, each copy's own, and pointers to them for executors.
struct Stages {
  explicit Stages(const Placement& placement) : placement_(placement) {
    for (int copy = 0; copy < placement.copies; ++copy) {
      for (int stage = 0; stage < placement.stages(); ++stage)
        owned.push_back(std::make_unique<ArrayStage>(stage, placement.stages()));
    }
  }
  ArrayStage* of(int copy, int stage) const {
    const int index = copy * placement_.stages() + stage;
    return owned[static_cast<std::size_t>(index)].get();
  }
  /// By stage: the copy that the rank holds.
  std::vector<Stage*> pointers(int rank) const {
    std::vector<Stage*> by_stage;
    for (int stage = 0; stage < placement_.stages(); ++stage) {
      int copy = placement_.copies - 1;
      while (copy > 0 && placement_.rank_of(stage, copy) != rank) --copy;
      by_stage.push_back(of(copy, stage));
    }
    return by_stage;
  }
  /// Losses and gradients; equal bits mean that every value went where it had to, in order.
  std::vector<double> results() const {
    std::vector<double> all;
    for (const auto& stage : owned) {
      all.push_back(stage->loss);
      all.push_back(stage->weight_gradient);
    }
    return all;
  }
  std::vector<std::unique_ptr<ArrayStage>> owned;

 private:
  Placement placement_;
};

/// The same stages called one after the other, micro-batches ascending.
inline std::vector<double> reference(const Schedule& schedule) {
  Stages stages(schedule.placement);
  for (int mb = 0; mb < schedule.microbatches; ++mb) {
    SideBySide model{{{}}, {}, 1};
    for (int stage = 0; stage < schedule.placement.stages(); ++stage)
      model.columns.front().push_back(stages.of(schedule.copy_of(mb), stage));
    EXPECT_TRUE(run_side_by_side(model, mb, !schedule.forward_only));
  }
  return stages.results();
}

/// One step of all ranks over a comm that a seed drives.
struct SeededRun {
  SeededRun(const std::vector<RankProgram>& programs, const Placement& placement,
            WorldOptions options)
      : stages(placement), world(static_cast<int>(programs.size()), options) {
    for (const RankProgram& program : programs) {
      executors.push_back(std::make_unique<Executor>(program, stages.pointers(program.rank),
                                                     world.comm(program.rank)));
    }
  }
  Stages stages;
  TestWorld world;
  std::vector<std::unique_ptr<Executor>> executors;
};

}  // namespace plait::testing
