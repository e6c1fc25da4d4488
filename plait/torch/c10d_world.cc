#include "plait/torch/c10d_world.h"

#include <ATen/ops/empty.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <stdexcept>
#include <string_view>
#include <thread>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <utility>

#include "plait/base/running_clock.h"
#include "plait/torch/rendezvous.h"
#include "plait/torch/tensors.h"

namespace plait {
namespace {

std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
}

/// Of Gloo's clock, far from where adding it to now overflows.
constexpr std::chrono::milliseconds kForever = std::chrono::hours(24 * 365 * 10);

std::string first_line(std::string_view text) {
  return std::string(text.substr(0, text.find('\n')));
}

int tag_of(const Message& message) {
  return (message.sender_stage * (1 << 20) + message.microbatch) * 2 +
         static_cast<int>(message.direction);
}

}  // namespace

/// Shared with the waiter threads, which may outlive an aborted world.
struct C10dWorld::State : public std::enable_shared_from_this<C10dWorld::State> {
  /// One message under way. Its sink is called once: by its waiter or by abort().
  struct Job {
    c10::intrusive_ptr<c10d::Work> work;
    at::Tensor tensor;    ///< what is sent or comes
    at::Tensor outgoing;  ///< of a collective: what goes
    bool is_send = false;
    std::uint32_t token = 0;
    CompletionSink* sink = nullptr;
    bool delivered = false;
  };

  /// Waits for the messages with one peer in one direction, in order of issue.
  struct Waiter {
    std::deque<std::shared_ptr<Job>> queue;
    std::condition_variable changed;
    std::thread thread;
  };

  class WorldComm final : public Comm {
   public:
    explicit WorldComm(State& state) : state_(state) {}
    void send(const Message& message, Value value, std::uint32_t token,
              CompletionSink& sink) override {
      auto job = std::make_shared<Job>();
      job->tensor = static_cast<Tensors&>(*value).tensors.front();
      job->is_send = true;
      state_.issue(state_.rank_of(message.destination), message, std::move(job), token, sink);
    }
    void recv(const Message& message, std::uint32_t token, CompletionSink& sink) override {
      auto job = std::make_shared<Job>();
      {
        std::optional<ScopedAccount> scope;
        if (state_.options.receive_buffers != nullptr)
          scope.emplace(*state_.options.receive_buffers);
        job->tensor = at::empty(state_.options.message_shape, at::kFloat);
      }
      state_.issue(state_.rank_of(message.source), message, std::move(job), token, sink);
    }
    void all_to_all(const Collective& collective, std::unique_ptr<ExchangeValue> value,
                    std::uint32_t token, CompletionSink& sink) override {
      auto& mine = static_cast<RowExchange&>(*value);
      auto job = std::make_shared<Job>();
      std::vector<std::int64_t> shape = mine.rows.sizes().vec();
      shape[0] = 0;
      for (const std::int64_t rows : mine.splits.receive) shape[0] += rows;
      {
        std::optional<ScopedAccount> scope;
        if (state_.options.receive_buffers != nullptr)
          scope.emplace(*state_.options.receive_buffers);
        job->tensor = at::empty(shape, mine.rows.options());
      }
      job->outgoing = mine.rows;
      state_.issue(collective.group, mine.splits, std::move(job), token, sink);
    }
    void abort(const Error& error) override { state_.abort(error); }

   private:
    State& state_;
  };

  class WorldExchange final : public Exchange {
   public:
    explicit WorldExchange(State& state) : state_(state) {}
    int rank() const override { return state_.options.rank; }
    int ranks() const override { return state_.options.ranks; }
    Expected<std::vector<std::string>> all_gather(std::string_view mine) override {
      return state_.all_gather(mine);
    }

   private:
    State& state_;
  };

  void issue(int peer, const Message& message, std::shared_ptr<Job> job, std::uint32_t token,
             CompletionSink& sink) {
    std::vector<at::Tensor> tensors{job->tensor};
    const bool is_send = job->is_send;
    issue(peer, std::move(job), token, sink, [&] {
      return is_send ? group->send(tensors, peer, tag_of(message))
                     : group->recv(tensors, peer, tag_of(message));
    });
  }

  void issue(Group which, RowSplits& splits, std::shared_ptr<Job> job, std::uint32_t token,
             CompletionSink& sink) {
    at::Tensor output = job->tensor, input = job->outgoing;
    issue(waiter_of(which), std::move(job), token, sink, [&] {
      return groups.at(which)->alltoall_base(output, input, splits.receive, splits.send);
    });
  }

  /// `peer`: a rank, or a group's waiter. Starts under the mutex, so that collectives of one group
  /// are issued in one order.
  template <typename Start>
  void issue(int peer, std::shared_ptr<Job> job, std::uint32_t token, CompletionSink& sink,
             const Start& start) {
    job->token = token;
    job->sink = &sink;
    const std::lock_guard lock(mutex);
    if (aborted) {
      sink.completed(token, tl::unexpected<Error>(*aborted));
      return;
    }
    try {
      job->work = start();
    } catch (const std::exception& exception) {
      sink.completed(token, tl::unexpected<Error>(error_of(exception, peer)));
      return;
    }
    Waiter& waiter = waiters[{peer, job->is_send}];
    jobs.insert(job);
    waiter.queue.push_back(std::move(job));
    if (!waiter.thread.joinable()) {
      waiter.thread = std::thread(
          [self = shared_from_this(), &waiter, peer] { self->wait_for_jobs(waiter, peer); });
    }
    waiter.changed.notify_one();
  }

  /// Ranks are not negative; nor are groups, whose waiters stand below them.
  static int waiter_of(Group which) { return -1 - static_cast<int>(which); }
  static Group group_of(int waiter) { return static_cast<Group>(-1 - waiter); }

  int rank_of(int pipeline_rank) const {
    return options.grid.rank_of(pipeline_rank, options.grid.column_of(options.rank));
  }

  /// What Gloo throws says little of who and why. `peer` below 0: a group's waiter.
  Error error_of(const std::exception& exception, int peer) const {
    std::string who = fmt::format("rank {}", peer);
    if (peer < 0) {
      const std::vector<int> members = options.grid.members(group_of(peer), options.rank);
      who = fmt::format("one of the ranks {}", fmt::join(members, ", "));
    }
    const std::string text = exception.what();
    if (text.find("imed out") != std::string::npos || text.find("imeout") != std::string::npos)
      return {ErrorCode::kTimeout, who + " did not answer in time", ""};
    if (text.find("losed") != std::string::npos || text.find("reset") != std::string::npos)
      return {ErrorCode::kPeer, who + " closed the connection", ""};
    return {ErrorCode::kPeer, fmt::format("the connection to {} failed: {}", who, first_line(text)),
            ""};
  }

  void wait_for_jobs(Waiter& waiter, int peer) {
    std::unique_lock lock(mutex);
    while (true) {
      waiter.changed.wait(lock, [&] { return stopping || aborted || !waiter.queue.empty(); });
      if (aborted || waiter.queue.empty()) return;
      const std::shared_ptr<Job> job = std::move(waiter.queue.front());
      waiter.queue.pop_front();
      lock.unlock();
      std::optional<Error> error;
      try {
        job->work->wait();
      } catch (const std::exception& exception) {
        error = error_of(exception, peer);
      }
      lock.lock();
      jobs.erase(job);
      if (std::exchange(job->delivered, true)) continue;
      if (error) {
        job->sink->completed(job->token, tl::unexpected<Error>(*error));
      } else if (job->is_send) {
        job->sink->completed(job->token, Value());
      } else {
        job->sink->completed(job->token, make_value({job->tensor}));
      }
      job->tensor = job->outgoing = at::Tensor();
      if (error) continue;
      lock.unlock();
      job->sink->settled();
      lock.lock();
    }
  }

  void abort(const Error& error) {
    const std::lock_guard lock(mutex);
    if (aborted) return;
    aborted = error;
    for (const std::shared_ptr<Job>& job : jobs) {
      if (!std::exchange(job->delivered, true))
        job->sink->completed(job->token, tl::unexpected<Error>(error));
    }
    for (auto& [key, waiter] : waiters) waiter.changed.notify_all();
  }

  /// Throws what the collective does, or that it timed out: exchange_timeout_s of time in which
  /// this process ran. A collective's wait, unlike a message's, may be cut into slices.
  void wait_while_running(c10d::Work& work) const {
    RunningClock clock;
    while (!work.isCompleted()) {
      if (static_cast<double>(clock.read()) > exchange_timeout_s * 1e9)
        throw std::runtime_error("timed out");
      try {
        work.wait(std::chrono::milliseconds(50));
      } catch (const std::exception&) {
        if (work.isCompleted()) break;
      }
    }
    work.wait();
  }

  /// One collective of equal lengths.
  Expected<std::vector<at::Tensor>> gather_tensors(at::Tensor mine) {
    std::vector<std::vector<at::Tensor>> outputs(1);
    for (int rank = 0; rank < options.ranks; ++rank) outputs[0].push_back(at::empty_like(mine));
    std::vector<at::Tensor> inputs{std::move(mine)};
    try {
      wait_while_running(*group->allgather(outputs, inputs));
    } catch (const std::exception& exception) {
      Error error = error_of(exception, options.rank);
      error.message =
          fmt::format("rank {} waited for all ranks between two steps: {}", options.rank,
                      error.code == ErrorCode::kTimeout ? "not all came in time"
                                                        : "one of them closed the connection");
      abort(error);
      return tl::unexpected<Error>(std::move(error));
    }
    return std::move(outputs[0]);
  }

  Expected<std::vector<std::string>> all_gather(std::string_view mine) {
    at::Tensor length = at::empty({1}, at::kLong);
    *length.mutable_data_ptr<std::int64_t>() = static_cast<std::int64_t>(mine.size());
    PLAIT_TRY(const std::vector<at::Tensor> lengths, gather_tensors(std::move(length)));
    std::vector<std::size_t> sizes;
    for (const at::Tensor& one : lengths)
      sizes.push_back(static_cast<std::size_t>(*one.const_data_ptr<std::int64_t>()));
    const std::size_t longest = *std::max_element(sizes.begin(), sizes.end());
    std::vector<std::string> texts(sizes.size());
    if (longest == 0) return texts;
    at::Tensor bytes = at::empty({static_cast<std::int64_t>(longest)}, at::kByte);
    std::memset(bytes.mutable_data_ptr(), 0, longest);
    std::memcpy(bytes.mutable_data_ptr(), mine.data(), mine.size());
    PLAIT_TRY(const std::vector<at::Tensor> gathered, gather_tensors(std::move(bytes)));
    for (std::size_t rank = 0; rank < sizes.size(); ++rank) {
      texts[rank].assign(static_cast<const char*>(gathered[rank].const_data_ptr()), sizes[rank]);
    }
    return texts;
  }

  C10dOptions options;
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group;
  std::map<Group, c10::intrusive_ptr<c10d::ProcessGroupGloo>> groups;
  double exchange_timeout_s = 0;
  WorldComm comm{*this};
  WorldExchange exchange{*this};
  std::mutex mutex;
  std::map<std::pair<int, bool>, Waiter> waiters;
  std::set<std::shared_ptr<Job>> jobs;
  std::optional<Error> aborted;
  bool stopping = false;
};

namespace {

using GlooDevice = std::shared_ptr<::gloo::transport::Device>;

/// The variable with which users of torch choose the network, else this machine's address, or
/// loopback where all ranks are here.
Expected<std::vector<GlooDevice>> choose_devices(const C10dOptions& options) {
  PLAIT_TRY(const std::vector<std::string> interfaces, gloo_interfaces());
  std::vector<GlooDevice> devices;
  for (const std::string& interface : interfaces)
    devices.push_back(c10d::ProcessGroupGloo::createDeviceForInterface(interface));
  if (!devices.empty()) return devices;
  devices.push_back(options.address == "127.0.0.1"
                        ? c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1")
                        : c10d::ProcessGroupGloo::createDefaultDevice());
  return devices;
}

}  // namespace

C10dWorld::C10dWorld() = default;

C10dWorld::~C10dWorld() {
  if (!state_) return;
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
    for (auto& [key, waiter] : state_->waiters) waiter.changed.notify_all();
  }
  const bool aborted = state_->aborted.has_value();
  for (auto& [key, waiter] : state_->waiters) {
    if (!waiter.thread.joinable()) continue;
    if (aborted) {
      waiter.thread.detach();  // its wait cannot be called back
    } else {
      waiter.thread.join();
    }
  }
  // A process group's destructor would wait for what it has under way: it stays, reachable, for as
  // long as the process lives.
  static auto* const aborted_worlds = new std::vector<std::shared_ptr<State>>();
  if (aborted) aborted_worlds->push_back(std::move(state_));
}

Expected<std::unique_ptr<C10dWorld>> C10dWorld::connect(const C10dOptions& options) {
  std::unique_ptr<C10dWorld> world(new C10dWorld());
  world->state_ = std::make_shared<State>();
  State& state = *world->state_;
  state.options = options;
  state.exchange_timeout_s = options.start_timeout_s;
  PLAIT_TRY(state.store, meet({options.rank, options.ranks, options.address, options.port,
                               options.hosts_store, options.run_id, options.start_timeout_s}));
  try {
    PLAIT_TRY(const std::vector<GlooDevice> devices, choose_devices(options));
    const auto make_group = [&](const std::string& name, int rank, int ranks) {
      auto group_options =
          c10d::ProcessGroupGloo::Options::create(milliseconds(options.start_timeout_s));
      group_options->devices = devices;
      group_options->threads = static_cast<int>(devices.size()) * 2;
      auto group = c10::make_intrusive<c10d::ProcessGroupGloo>(
          c10::make_intrusive<c10d::PrefixStore>(name, state.store), rank, ranks, group_options);
      // Gloo counts time in which the process was stopped. What waits here is ended by a clock
      // that does not: the watchdog's in a step, gather_tensors() between two.
      group->setTimeout(kForever);
      return group;
    };
    state.group = make_group("all", options.rank, options.ranks);
    for (const Group which : {Group::kExpert, Group::kData, Group::kReplicas}) {
      const std::vector<int> members = options.grid.members(which, options.rank);
      if (members.size() == 1) continue;
      const auto place = std::find(members.begin(), members.end(), options.rank);
      state.groups[which] =
          make_group(fmt::format("group-{}-{}", static_cast<int>(which), members.front()),
                     static_cast<int>(place - members.begin()), static_cast<int>(members.size()));
    }
  } catch (const std::exception& exception) {
    return fail(ErrorCode::kPeer,
                "the ranks cannot connect to one another: " + first_line(exception.what()));
  }
  if (options.on_met) options.on_met();
  return world;
}

Comm& C10dWorld::comm() { return state_->comm; }
Exchange& C10dWorld::exchange() { return state_->exchange; }
void C10dWorld::end_start() { state_->exchange_timeout_s = state_->options.timeout_s; }
void C10dWorld::abort(const Error& error) { state_->abort(error); }

Expected<void> agree_on_job(Exchange& exchange, const std::string& job) {
  PLAIT_TRY(const std::vector<std::string> jobs, exchange.all_gather(job));
  for (std::size_t rank = 1; rank < jobs.size(); ++rank) {
    std::string_view ours = jobs[0];
    std::string_view theirs = jobs[rank];
    while (ours != theirs) {
      const std::string our_line = first_line(ours);
      const std::string their_line = first_line(theirs);
      if (our_line != their_line) {
        return fail(
            ErrorCode::kInvalidInput,
            fmt::format("the ranks disagree about the job: rank {} has '{}', rank 0 has '{}'", rank,
                        their_line, our_line));
      }
      ours.remove_prefix(std::min(our_line.size() + 1, ours.size()));
      theirs.remove_prefix(std::min(their_line.size() + 1, theirs.size()));
    }
  }
  return {};
}

}  // namespace plait
