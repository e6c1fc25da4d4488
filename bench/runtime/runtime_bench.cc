// What the runtime costs a compute action, beside what it cannot avoid.
//
// Stages that do nothing show the whole cost: lowering's instructions, the executor, the comm and
// the wake-ups of waiting ranks. It is given as wall time over the compute actions of one rank,
// beside a loop that calls the same stage functions directly, and over Gloo beside a bare ping-pong
// of the same bytes in the same processes. Stages of known compute show what of it is left when
// there is work to hide it behind: 1F1B's ideal span is (M + P - 1)(F + B).
#include <ATen/ops/zeros.h>
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <future>
#include <memory>

#include "plait/launch/launch.h"
#include "plait/launch/local_ranks.h"
#include "plait/passes/insert_comm.h"
#include "plait/program/rank_program.h"
#include "plait/runtime/driver.h"
#include "plait/runtime/inproc_comm.h"
#include "plait/schedule/generators.h"
#include "plait/torch/c10d_world.h"
#include "plait/torch/device_cuda.h"
#include "plait/torch/rendezvous.h"
#include "plait/torch/tensors.h"

namespace plait {
namespace {

constexpr int kMicrobatches = 64;
constexpr std::int64_t kFloats = 1024;  // 4 KB a message

void spin(Nanoseconds duration) {
  const Nanoseconds end = now() + duration;
  while (now() < end) {
  }
}

/// Spins for a given time and hands on what it was given.
class SpinStage final : public Stage {
 public:
  SpinStage(bool first, bool last, Nanoseconds forward_time)
      : first_(first), last_(last), forward_time_(forward_time) {}
  Expected<ForwardResult> forward(PartOf, Value input, bool) override {
    if (forward_time_ > 0) spin(forward_time_);
    ForwardResult result;
    if (!last_) result.output = input ? std::move(input) : make_value({tensor_});
    return result;
  }
  Expected<BackwardInputResult> backward_input(PartOf, Value, Value) override {
    return BackwardInputResult{};
  }
  Expected<void> backward_weight(PartOf, Value) override { return {}; }
  Expected<Value> backward(PartOf, Value, Value output_gradient) override {
    if (forward_time_ > 0) spin(2 * forward_time_);
    if (first_) return Value();
    return output_gradient ? std::move(output_gradient) : make_value({tensor_});
  }

 private:
  bool first_;
  bool last_;
  Nanoseconds forward_time_;
  at::Tensor tensor_ = at::zeros({kFloats});
};

Boundary boundary() { return Boundary({{{kFloats}, Dtype::kFloat32}}); }

struct Pipeline {
  Pipeline(int ranks, Nanoseconds forward_time)
      : schedule(*verify(*insert_comm(*generate("1f1b", {ranks, kMicrobatches})))) {
    LowerOptions options;
    options.boundaries.assign(static_cast<std::size_t>(ranks - 1), boundary());
    for (int rank = 0; rank < ranks; ++rank) {
      programs.push_back(*lower(schedule, rank, options));
      stages.push_back(std::make_unique<SpinStage>(rank == 0, rank == ranks - 1, forward_time));
      pointers.push_back(stages.back().get());
    }
  }
  VerifiedSchedule schedule;
  std::vector<RankProgram> programs;
  std::vector<std::unique_ptr<SpinStage>> stages;
  std::vector<Stage*> pointers;
};

double microseconds(Nanoseconds time, int count) {
  return static_cast<double>(time) / 1000.0 / count;
}

Nanoseconds median(std::vector<Nanoseconds> times) {
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2),
                   times.end());
  return times[times.size() / 2];
}

constexpr int kActions = 2 * kMicrobatches;  // of one rank: F and B of each micro-batch

/// `devices`: one a rank, or none.
Nanoseconds time_inproc(int ranks, Nanoseconds forward_time, Wait wait, int steps,
                        const std::vector<std::unique_ptr<Device>>& devices = {}) {
  Pipeline pipeline(ranks, forward_time);
  InprocWorld world(ranks);
  std::vector<std::unique_ptr<Executor>> executors;
  for (const RankProgram& program : pipeline.programs) {
    Device* device =
        devices.empty() ? nullptr : devices[static_cast<std::size_t>(program.rank)].get();
    if (device != nullptr) world.comm(program.rank).use(*device);
    executors.push_back(std::make_unique<Executor>(
        program, pipeline.pointers, world.comm(program.rank), Column{}, nullptr, device));
  }
  // As the trainer drives ranks without and with exchanges.
  const Chaining chaining = wait == Wait::kSleep ? Chaining::kOnCompletion : Chaining::kOwnThread;
  std::vector<Nanoseconds> times;
  const Expected<void> result = run_ranks(
      ranks,
      [&](int rank) -> Expected<void> {
        for (int step = 0; step < steps; ++step) {
          PLAIT_TRY_VOID(world.exchange(rank).all_gather(""));
          const Nanoseconds begin = now();
          PLAIT_TRY_VOID(run_step(*executors[static_cast<std::size_t>(rank)], wait, chaining));
          PLAIT_TRY_VOID(world.exchange(rank).all_gather(""));
          if (rank == 0) times.push_back(now() - begin);
        }
        return {};
      },
      [&](const Error& error) { world.abort(error); });
  if (!result) fmt::print(stderr, "{}\n", result.error().text());
  return times.empty() ? 0 : median(std::move(times));
}

Nanoseconds time_direct_calls(int steps) {
  SpinStage stage(false, false, 0);
  std::vector<Nanoseconds> times;
  for (int step = 0; step < steps; ++step) {
    const Nanoseconds begin = now();
    for (int mb = 0; mb < kMicrobatches; ++mb) {
      ForwardResult result = *stage.forward({0, mb}, nullptr, true);
      Value value = std::move(result.output);
      value = *stage.backward({0, mb}, nullptr, std::move(value));
    }
    times.push_back(now() - begin);
  }
  return median(std::move(times));
}

void bench_inproc(int steps) {
  const double direct = microseconds(time_direct_calls(steps), kActions);
  fmt::print("in-process, 1F1B, {} micro-batches, {} compute actions a rank, median of {} steps\n",
             kMicrobatches, kActions, steps);
  fmt::print("  direct calls of the stage functions              {:8.2f} us per action\n", direct);
  for (const int ranks : {1, 2, 4}) {
    const double one = microseconds(time_inproc(ranks, 0, Wait::kSpin, steps), kActions);
    const double two = microseconds(time_inproc(ranks, 0, Wait::kSleep, steps), kActions);
    fmt::print(
        "  ranks {}, stages that do nothing                  {:8.2f} us per action ({:.2f} where "
        "waiting ranks sleep)\n",
        ranks, one, two);
  }
  constexpr Nanoseconds kForward = 200'000;
  for (const int ranks : {1, 2}) {
    const Nanoseconds ideal = 3 * kForward * (kMicrobatches + ranks - 1);
    const Nanoseconds wall = time_inproc(ranks, kForward, Wait::kSpin, std::max(3, steps / 20));
    fmt::print(
        "  ranks {}, F 200 us and B 400 us                    {:8.2f} us per action over the ideal "
        "span, {:.4f} of it\n",
        ranks, microseconds(wall - ideal, kActions),
        static_cast<double>(wall) / static_cast<double>(ideal));
  }
}

/// Stages that give the GPU nothing: what is left are the runtime's marks and waits, which are
/// events and streams there, beside the same on the CPU.
int bench_cuda(int steps) {
  fmt::print(
      "on GPU 0, in-process, 1F1B, {} micro-batches, {} compute actions a rank, median of {}\n",
      kMicrobatches, kActions, steps);
  for (const int ranks : {1, 2, 4}) {
    std::vector<std::unique_ptr<Device>> devices;
    for (int rank = 0; rank < ranks; ++rank) {
      Expected<std::unique_ptr<Device>> device = make_cuda_device(0);
      if (!device) {
        fmt::print(stderr, "{}\n", device.error().text());
        return 2;
      }
      devices.push_back(*std::move(device));
    }
    const Nanoseconds gpu = time_inproc(ranks, 0, Wait::kSpin, steps, devices);
    const Nanoseconds cpu = time_inproc(ranks, 0, Wait::kSpin, steps);
    fmt::print(
        "  ranks {}, stages that do nothing                  {:8.2f} us per action ({:.2f} on the "
        "CPU)\n",
        ranks, microseconds(gpu, kActions), microseconds(cpu, kActions));
  }
  return 0;
}

/// Ends a step of its own: one message, and the comm has done with this sink.
class OneMessage final : public CompletionSink {
 public:
  void completed(std::uint32_t, Expected<Value> result) noexcept override {
    if (result) {
      value_ = *std::move(result);
    } else {
      promise_.set_value(std::move(result));
    }
  }
  void settled() noexcept override { promise_.set_value(std::move(value_)); }
  Expected<Value> wait() { return promise_.get_future().get(); }

 private:
  Value value_;
  std::promise<Expected<Value>> promise_;
};

/// One message there and one back.
Expected<void> ping_pong(Comm& comm, int rank, int round) {
  OneMessage sent;
  OneMessage received;
  const Message there{0, 1, Direction::kForward, 0, round};
  const Message back{1, 0, Direction::kBackward, 1, round};
  if (rank == 0) {
    comm.send(there, make_value({at::zeros({kFloats})}), 0, sent);
    comm.recv(back, boundary().activation, 0, received);
    PLAIT_TRY_VOID(received.wait());
  } else {
    comm.recv(there, boundary().activation, 0, received);
    PLAIT_TRY(Value value, received.wait());
    comm.send(back, std::move(value), 0, sent);
  }
  PLAIT_TRY_VOID(sent.wait());
  return {};
}

Expected<void> bench_gloo_rank(const RankPlace& place, int steps) {
  C10dOptions options;
  options.rank = place.rank;
  options.ranks = place.ranks;
  options.grid = {place.ranks, 1, 1};
  options.address = place.master_address;
  options.port = place.master_port;
  options.tags = {place.ranks, std::max(kMicrobatches, steps * 10), 1};
  PLAIT_TRY(const std::unique_ptr<C10dWorld> world, C10dWorld::connect(options));
  std::vector<Nanoseconds> bare;
  for (int round = 0; round < steps * 10; ++round) {
    const Nanoseconds begin = now();
    PLAIT_TRY_VOID(ping_pong(world->comm(), place.rank, round));
    bare.push_back(now() - begin);
  }
  Pipeline pipeline(place.ranks, 0);
  Executor executor(pipeline.programs[static_cast<std::size_t>(place.rank)], pipeline.pointers,
                    world->comm());
  std::vector<Nanoseconds> times;
  for (int step = 0; step < steps; ++step) {
    PLAIT_TRY_VOID(world->exchange().all_gather(""));
    const Nanoseconds begin = now();
    PLAIT_TRY_VOID(run_step(executor, Wait::kSpin, Chaining::kOwnThread));
    times.push_back(now() - begin);
  }
  if (place.rank != 0) return {};
  const double message = microseconds(median(std::move(bare)), 2);
  const double action = microseconds(median(std::move(times)), kActions);
  fmt::print("over Gloo, 2 processes, 4 KB messages, 1F1B, {} micro-batches, median of {} steps\n",
             kMicrobatches, steps);
  fmt::print("  a bare message, half of a ping-pong              {:8.2f} us\n", message);
  fmt::print(
      "  ranks 2, stages that do nothing                  {:8.2f} us per action, {:.2f} beyond a "
      "message\n",
      action, action - message);
  return {};
}

int bench_gloo(int argc, char** argv, int steps) {
  const Expected<RankPlace> place = find_place(current_environment(), "local", 2);
  if (!place) return 2;
  if (place->rank >= 0) {
    const Expected<void> result = bench_gloo_rank(*place, steps);
    if (!result) fmt::print(stderr, "{}\n", result.error().text());
    return result ? 0 : 1;
  }
  const Expected<StoreServer> server = StoreServer::start(0);
  if (!server) return 1;
  LocalRanks::Options options;
  options.ranks = 2;
  options.arguments.assign(argv + 1, argv + argc);
  options.master_port = server->port();
  Expected<LocalRanks> ranks = LocalRanks::start(options);
  return ranks ? ranks->wait().exit_code : 1;
}

}  // namespace
}  // namespace plait

int main(int argc, char** argv) {
  CLI::App app{"the runtime's cost per compute action"};
  std::string comm = "inproc";
  std::string device = "cpu";
  int steps = 200;
  app.add_option("--comm", comm, "inproc or gloo")->check(CLI::IsMember({"inproc", "gloo"}));
  app.add_option("--device", device, "cpu, or cuda: ranks of this process on GPU 0")
      ->check(CLI::IsMember({"cpu", "cuda"}));
  app.add_option("--steps", steps, "steps to take the median of")->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  if (device == "cuda") return plait::bench_cuda(steps);
  if (comm == "gloo") return plait::bench_gloo(argc, argv, steps);
  plait::bench_inproc(steps);
  return 0;
}
