/// For tests: the seeded world of world.h with late devices. Stages launch kernels that call stages
/// on plain arrays, and messages are posted when the device reaches them.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "plait/runtime/inproc_comm.h"
#include "tests/support/exchange_world.h"
#include "tests/support/late_device.h"
#include "tests/support/world.h"

namespace plait::testing {

/// Numbers on their way, with what is known to have run before them.
class ClockedNumbers final : public Payload {
 public:
  ClockedNumbers(std::vector<double> list, LateClock known)
      : numbers(std::move(list)), clock(known) {}
  Bytes bytes() const override { return 0; }
  std::vector<double> numbers;
  LateClock clock;
};

/// Equal shares of them for the members of a group.
class ClockedExchange final : public ExchangeValue {
 public:
  ClockedExchange(std::vector<double> list, int members, LateClock known)
      : inner_(std::move(list), members), clock_(known) {}
  Bytes bytes() const override { return 0; }
  Bytes bytes_leaving() const override { return 0; }
  Value share_for(int member) override {
    return std::make_unique<ClockedNumbers>(numbers_in(inner_.share_for(member)), clock_);
  }
  Value join(std::vector<Value> shares) override {
    LateClock known;
    std::vector<Value> lists;
    for (const Value& share : shares) {
      const auto& clocked = static_cast<const ClockedNumbers&>(*share);
      known.join(clocked.clock);
      lists.push_back(numbers(clocked.numbers));
    }
    return std::make_unique<ClockedNumbers>(numbers_in(inner_.join(std::move(lists))), known);
  }

 private:
  NumbersExchange inner_;
  LateClock clock_;
};

/// What the host hands to a comm: memory that the device will read.
class LateExchange final : public ExchangeValue {
 public:
  /// Equal shares for `of_members`.
  LateExchange(LateMemory memory, int of_members)
      : numbers(std::move(memory)), members(static_cast<std::size_t>(of_members)) {}
  Bytes bytes() const override { return 0; }
  Bytes bytes_leaving() const override { return 0; }
  Value share_for(int member) override {
    return std::make_unique<LateValue>(numbers.share(static_cast<std::size_t>(member), members));
  }
  Value join(std::vector<Value> shares) override {
    LateNumbers all;
    for (const Value& share : shares) all.append(static_cast<const LateValue&>(*share).numbers);
    return std::make_unique<LateValue>(std::move(all));
  }
  LateNumbers numbers;
  std::size_t members;
};

/// A comm of a device: the host issues, with a mark for the end. The device posts to the world's
/// comm when the communication lane reaches the operation, and the lane goes on.
class LateComm final : public Comm, public CompletionSink {
 public:
  LateComm(LateDevice& device, Comm& transport, const Grid& grid, int rank)
      : device_(device), transport_(transport), grid_(grid), rank_(rank) {}

  /// The mark of this operation passes when it is issued: a fault of this comm.
  void pass_early(int operation) { early_ = operation; }
  /// Those that bring something, as numbers of operations in order of issue.
  std::vector<int> receiving() const {
    std::vector<int> all;
    for (std::size_t i = 0; i < open_.size(); ++i) {
      if (open_[i].target.block != nullptr) all.push_back(static_cast<int>(i));
    }
    return all;
  }

  void send(const Message& message, Value value, std::uint32_t token,
            CompletionSink& sink) override {
    const LateRef sent = static_cast<const LateValue&>(*value).numbers.ref();
    issue(token, sink, {}, [this, message, sent](std::uint32_t operation) {
      transport_.send(message, clocked(sent), operation, *this);
    });
  }
  void recv(const Message& message, const ValueSpec&, std::uint32_t token,
            CompletionSink& sink) override {
    issue(token, sink, device_.allocate(), [this, message](std::uint32_t operation) {
      transport_.recv(message, {}, operation, *this);
    });
  }
  void collective(const Collective& which, std::unique_ptr<ExchangeValue> value,
                  std::uint32_t token, CompletionSink& sink) override {
    const LateRef sent = static_cast<const LateExchange&>(*value).numbers.ref();
    const int members = static_cast<int>(grid_.members(which.group, rank_).size());
    issue(token, sink, device_.allocate(), [this, which, sent, members](std::uint32_t operation) {
      transport_.collective(
          which,
          std::make_unique<ClockedExchange>(device_.read(sent), members, device_.running_clock()),
          operation, *this);
    });
  }
  void abort(const Error& error) override { transport_.abort(error); }

  void completed(std::uint32_t operation, Expected<Value> result) noexcept override {
    const Operation& done = open_[operation];
    LateClock known = done.posted;
    if (result && *result) {
      auto& arrived = static_cast<ClockedNumbers&>(**result);
      known.join(arrived.clock);
      try {
        device_.write(done.target, std::move(arrived.numbers));
      } catch (const LateFault& fault) {
        fault_ = fault.what();
      }
    }
    if (!device_.passed(done.end)) device_.pass(done.end, known);
  }
  /// What a message that moved wrote to memory that was no longer its own.
  const std::string& fault() const { return fault_; }

 private:
  struct Operation {
    LateRef target;
    Mark end;
    LateClock posted{};
  };

  template <typename Post>
  void issue(std::uint32_t token, CompletionSink& sink, LateMemory target, Post post) {
    const auto operation = static_cast<std::uint32_t>(open_.size());
    const Mark end = device_.new_mark();
    open_.push_back({target.ref(), end});
    device_.launch([this, post, operation] {
      open_[operation].posted = device_.running_clock();
      post(operation);
    });
    if (static_cast<int>(operation) == early_) device_.pass(end, {});
    sink.issued(token, target ? std::make_unique<LateValue>(std::move(target)) : nullptr, end);
    sink.settled();
  }
  Value clocked(LateRef ref) {
    return std::make_unique<ClockedNumbers>(device_.read(ref), device_.running_clock());
  }

  LateDevice& device_;
  Comm& transport_;
  Grid grid_;
  int rank_;
  int early_ = -1;
  std::vector<Operation> open_;  // in order of issue
  std::string fault_;
};

/// Launches the work of a stage on plain arrays. The host knows only what has a value.
class LateStage final : public Stage {
 public:
  /// `shape` empty: one part. `first`, `last`: of the model.
  LateStage(Stage& inner, StageShape shape, bool first, bool last, int members, LateDevice& device)
      : inner_(inner),
        shape_(shape.empty() ? StageShape(1) : std::move(shape)),
        first_(first),
        last_(last),
        members_(members),
        device_(device) {}

  Expected<ForwardResult> forward(PartOf part, Value input, bool for_backward) override {
    ForwardResult result;
    const LatePieces x = pieces(input);
    const LateRef y = ends_model(part) ? LateRef{} : make(result.output);
    const LateRef kept = for_backward ? make(result.saved) : LateRef{};
    device_.launch([this, part, x, y, kept, for_backward] {
      const ForwardResult made = *inner_.forward(part, load(x), for_backward);
      store(y, made.output);
      store(kept, made.saved);
    });
    return result;
  }
  Expected<BackwardInputResult> backward_input(PartOf part, Value saved, Value gradient) override {
    BackwardInputResult result;
    const LatePieces kept = pieces(saved), dy = pieces(gradient);
    const LateRef dx = begins_model(part) ? LateRef{} : make(result.input_gradient);
    const LateRef weight = make(result.saved_for_weight);
    device_.launch([this, part, kept, dy, dx, weight] {
      const BackwardInputResult made = *inner_.backward_input(part, load(kept), load(dy));
      store(dx, made.input_gradient);
      store(weight, made.saved_for_weight);
    });
    return result;
  }
  Expected<Value> recompute(PartOf part, Value saved) override {
    Value whole;
    device_.launch([this, part, kept = pieces(saved), made = make(whole)] {
      store(made, *inner_.recompute(part, load(kept)));
    });
    return whole;
  }
  Expected<void> backward_weight(PartOf part, Value saved) override {
    device_.launch([this, part, kept = pieces(saved)] {
      EXPECT_TRUE(inner_.backward_weight(part, load(kept)));
    });
    return {};
  }
  Expected<Value> backward(PartOf part, Value saved, Value gradient) override {
    Value result;
    const LateRef dx = begins_model(part) ? LateRef{} : make(result);
    device_.launch([this, part, kept = pieces(saved), dy = pieces(gradient), dx] {
      store(dx, *inner_.backward(part, load(kept), load(dy)));
    });
    return result;
  }
  /// An exchange without a backward is one of counts: they are made from the input, which stays.
  Expected<ExchangeStart> start_exchange(PartOf part, Value input, bool for_backward) override {
    const bool counts = !shape_[static_cast<std::size_t>(part.part)].has_backward;
    const auto& late = static_cast<const LateValue&>(*input);
    if (late.counts) {
      const std::vector<double> announced = device_.read_on_host(late.counts.pieces(), late.ready);
      EXPECT_EQ(announced, std::vector<double>(static_cast<std::size_t>(members_), 1.0));
    }
    ExchangeStart start;
    LateMemory out = device_.allocate();
    const LateRef kept = for_backward && !counts ? make(start.saved) : LateRef{};
    device_.launch([this, part, x = pieces(input), y = out.ref(), kept, for_backward] {
      const ExchangeStart made = *inner_.start_exchange(part, load(x), for_backward);
      device_.write(y, outgoing(*made.exchange));
      store(kept, made.saved);
    });
    start.exchange = std::make_unique<LateExchange>(std::move(out), members_);
    if (counts) start.carried = std::move(input);
    return start;
  }
  Expected<ExchangeStart> start_exchange_back(PartOf part, Value saved, Value gradient) override {
    ExchangeStart start;
    LateMemory out = device_.allocate();
    device_.launch([this, part, kept = pieces(saved), dy = pieces(gradient), dx = out.ref()] {
      const ExchangeStart made = *inner_.start_exchange_back(part, load(kept), load(dy));
      device_.write(dx, outgoing(*made.exchange));
    });
    start.exchange = std::make_unique<LateExchange>(std::move(out), members_);
    return start;
  }
  Value end_exchange(Value carried, Value arrived) noexcept override {
    if (!carried) return arrived;
    static_cast<LateValue&>(*carried).counts = std::move(static_cast<LateValue&>(*arrived).numbers);
    return carried;
  }

 private:
  bool begins_model(PartOf part) const { return first_ && part.part == 0; }
  bool ends_model(PartOf part) const {
    return last_ && part.part + 1 == static_cast<int>(shape_.size());
  }
  static LatePieces pieces(const Value& value) {
    return value ? static_cast<const LateValue&>(*value).numbers.pieces() : LatePieces{};
  }
  LateRef make(Value& value) {
    LateMemory memory = device_.allocate();
    const LateRef made = memory.ref();
    value = std::make_unique<LateValue>(std::move(memory));
    return made;
  }
  Value load(const LatePieces& from) {
    return from.empty() ? nullptr : numbers(device_.read(from));
  }
  void store(LateRef to, const Value& made) {
    if (to.block != nullptr) device_.write(to, numbers_in(made));
  }
  std::vector<double> outgoing(ExchangeValue& exchange) const {
    std::vector<double> all;
    for (int member = 0; member < members_; ++member) {
      const Value share = exchange.share_for(member);
      all.insert(all.end(), numbers_in(share).begin(), numbers_in(share).end());
    }
    return all;
  }

  Stage& inner_;
  StageShape shape_;
  bool first_;
  bool last_;
  int members_;
  LateDevice& device_;
};

/// What a seeded run came to.
struct LateRun {
  Outcome outcome = Outcome::kEnded;
  std::string fault;  ///< the first one, in words
};

/// How values get from rank to rank.
enum class Between : std::uint8_t {
  kTransport,   ///< the device copies them when it reaches the message (LateComm)
  kHandedOver,  ///< the host hands them over (InprocWorld), with marks that devices adopt
};

/// The devices and comms of all ranks of a grid.
class LateWorld {
 public:
  LateWorld(const Grid& grid, WorldOptions options, Between between = Between::kTransport)
      : transport(grid, options), handed_over_(grid), between_(between) {
    for (int rank = 0; rank < grid.ranks(); ++rank) {
      devices.emplace_back(rank).read_time(now_);
      comms.emplace_back(devices.back(), transport.comm(rank), grid, rank);
    }
  }
  /// The rank's device, or what stands before it.
  void use(int rank, Device& device) { handed_over_.comm(rank).use(device); }
  /// What the rank's executor is given.
  Comm& comm(int rank) {
    if (between_ == Between::kHandedOver) return handed_over_.comm(rank);
    return comms[static_cast<std::size_t>(rank)];
  }

  /// Runs one step of all ranks in an order drawn from `seed`: the host's lanes, the devices' lanes
  /// and the messages, each at a pace of its own that is drawn too, so that some lag far behind.
  LateRun run(const std::vector<std::unique_ptr<Executor>>& executors, unsigned seed) {
    std::mt19937 random(seed);
    for (const auto& executor : executors) executor->begin_step();
    const std::size_t ranks = executors.size();
    std::vector<unsigned> pace(ranks * 4 + 1);
    for (unsigned& one : pace) one = std::array{1U, 8U, 64U}[random() % 3];
    try {
      while (true) {
        const bool progress = advance_one(executors, pace, random);
        bool finished = true;
        for (const auto& executor : executors) {
          if (executor->failed()) return {Outcome::kFailed, executor->error().text()};
          finished = executor->finished() && finished;
        }
        for (const LateComm& comm : comms) {
          if (!comm.fault().empty()) return {Outcome::kFailed, comm.fault()};
        }
        if (finished) return {Outcome::kEnded, ""};
        if (!progress) return {Outcome::kDeadlock, "no lane can go on and no message can move"};
      }
    } catch (const LateFault& fault) {
      return {Outcome::kFailed, fault.what()};
    }
  }

  TestWorld transport;
  std::deque<LateDevice> devices;  ///< by rank
  std::deque<LateComm> comms;      ///< by rank

 private:
  /// Draws choices by their pace until one of them could do anything.
  bool advance_one(const std::vector<std::unique_ptr<Executor>>& executors,
                   std::vector<unsigned> pace, std::mt19937& random) {
    unsigned sum = 0;
    for (const unsigned one : pace) sum += one;
    while (sum > 0) {
      unsigned drawn = static_cast<unsigned>(random()) % sum;
      unsigned choice = 0;
      while (drawn >= pace[choice]) drawn -= pace[choice++];
      if (advance(executors, choice, random)) return true;
      sum -= std::exchange(pace[choice], 0);
    }
    return false;
  }
  /// Whether the choice could do anything. Choices 4r … 4r+3: rank r's host lanes and device lanes;
  /// the last one: a message moves.
  bool advance(const std::vector<std::unique_ptr<Executor>>& executors, unsigned choice,
               std::mt19937& random) {
    ++now_;
    const std::size_t rank = choice / 4;
    if (rank == executors.size()) {
      const std::vector<TestWorld::Movable> movable = transport.movable();
      if (!movable.empty()) transport.move(movable[random() % movable.size()]);
      return !movable.empty();
    }
    const Lane lane = choice % 2 == 0 ? Lane::kCompute : Lane::kCommunication;
    if (choice % 4 < 2) {
      const std::uint32_t before = executors[rank]->changes().load();
      executors[rank]->advance(lane, 1);
      return executors[rank]->changes().load() != before;
    }
    if (!devices[rank].can_run(lane)) return false;
    devices[rank].run_next(lane);
    return true;
  }

  InprocWorld handed_over_;
  Between between_;
  Nanoseconds now_ = 0;
};

}  // namespace plait::testing
