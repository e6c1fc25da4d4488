#include "plait/torch/comm_gloo.h"

#include <ATen/ops/empty.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <limits>
#include <mutex>
#include <optional>
#include <set>
#include <string_view>
#include <thread>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <utility>
#include <vector>

#include "plait/base/check.h"
#include "plait/base/print.h"
#include "plait/torch/dtypes.h"
#include "plait/torch/rendezvous.h"
#include "plait/torch/tensors.h"

namespace plait {
namespace {

// The value stays, reachable, for as long as the process lives. From any thread.
template <class T>
void keep_for_ever(std::shared_ptr<T> value) {
  static std::mutex mutex;
  static auto* const kept = new std::vector<std::shared_ptr<T>>();
  const std::lock_guard lock(mutex);
  kept->push_back(std::move(value));
}

using c10d::ProcessGroupGloo;

/// Of Gloo's clock, far from where adding it to now overflows.
constexpr std::chrono::milliseconds kForever = std::chrono::hours(24 * 365 * 10);

template <typename Kind>
Kind& as(Payload& value) {
  auto* kind = dynamic_cast<Kind*>(&value);
  PLAIT_CHECK(kind != nullptr, "a value of another kind than this comm moves");
  return *kind;
}

}  // namespace

Expected<GlooGroups> GlooGroups::choose(const std::string& address, double start_timeout_s) {
  GlooGroups groups;
  groups.start_timeout_s_ = start_timeout_s;
  PLAIT_TRY(const std::vector<std::string> interfaces, gloo_interfaces());
  for (const std::string& interface : interfaces)
    groups.devices_.push_back(ProcessGroupGloo::createDeviceForInterface(interface));
  if (!groups.devices_.empty()) return groups;
  groups.devices_.push_back(address == "127.0.0.1"
                                ? ProcessGroupGloo::createDeviceForHostname(address)
                                : ProcessGroupGloo::createDefaultDevice());
  return groups;
}

c10::intrusive_ptr<c10d::Backend> GlooGroups::make(const c10::intrusive_ptr<c10d::Store>& store,
                                                   const std::string& name, int rank,
                                                   int ranks) const {
  auto options = ProcessGroupGloo::Options::create(
      std::chrono::milliseconds(static_cast<std::int64_t>(start_timeout_s_ * 1000)));
  options->devices = devices_;
  options->threads = static_cast<int>(devices_.size()) * 2;
  auto group = c10::make_intrusive<ProcessGroupGloo>(
      c10::make_intrusive<c10d::PrefixStore>(name, store), rank, ranks, std::move(options));
  // Gloo counts time in which the process was stopped. What waits here is ended by a clock that
  // does not: the watchdog's in a step, C10dWorld's between two.
  group->setTimeout(kForever);
  return group;
}

Error gloo_error(const std::exception& exception, const std::string& who) {
  const std::string text = exception.what();
  if (text.find("imed out") != std::string::npos || text.find("imeout") != std::string::npos)
    return {ErrorCode::kTimeout, who + " did not answer in time", ""};
  if (text.find("losed") != std::string::npos || text.find("reset") != std::string::npos)
    return {ErrorCode::kPeer, who + " closed the connection", ""};
  return {ErrorCode::kPeer, fmt::format("the connection to {} failed: {}", who, first_line(text)),
          ""};
}

Expected<void> MessageTags::check() const {
  const double needed = 2.0 * stages * microbatches * tensors;
  constexpr int kMost = std::numeric_limits<int>::max();
  if (needed <= kMost) return {};
  return fail(ErrorCode::kInvalidInput,
              fmt::format("{} stages, {} micro-batches and {} tensors a boundary need {:.0f} tags "
                          "of messages, Gloo has {}",
                          stages, microbatches, tensors, needed, kMost));
}

int MessageTags::of(const Message& message, std::size_t tensor) const {
  const int direction = message.direction == Direction::kForward ? 0 : 1;
  return ((direction * stages + message.sender_stage) * microbatches + message.microbatch) *
             tensors +
         static_cast<int>(tensor);
}

struct GlooComm::State : public std::enable_shared_from_this<GlooComm::State> {
  /// A message or collective under way. Its sink is called once: by its waiter or by abort().
  struct Job {
    std::vector<c10::intrusive_ptr<c10d::Work>> works{};
    std::vector<at::Tensor> coming{};  ///< the result; empty for a send
    std::vector<at::Tensor> going{};   ///< alive until the works have ended
    bool is_send = false;
    std::uint32_t token = 0;
    CompletionSink* sink = nullptr;
    bool delivered = false;
  };

  /// Waits for the jobs with one peer in one direction, or of one group, in order of issue.
  struct Waiter {
    std::deque<std::shared_ptr<Job>> queue;
    std::condition_variable changed;
    std::thread thread;
  };

  State(const GlooOptions& of, c10::intrusive_ptr<c10d::Backend> of_all,
        std::map<Group, c10::intrusive_ptr<c10d::Backend>> of_groups)
      : options(of), all(std::move(of_all)), groups(std::move(of_groups)) {}

  at::Tensor empty(at::IntArrayRef sizes, const at::TensorOptions& of) const {
    std::optional<ScopedAccount> scope;
    if (options.receive_buffers != nullptr) scope.emplace(*options.receive_buffers);
    return at::empty(sizes, of);
  }

  int rank_of(int pipeline_rank) const {
    return options.grid.rank_of(pipeline_rank, options.grid.column_of(options.rank));
  }

  void send(const Message& message, Job job) {
    const int peer = rank_of(message.destination);
    issue(peer, std::move(job), [&](Job& mine) {
      for (std::size_t i = 0; i < mine.going.size(); ++i) {
        if (!mine.going[i].defined() || mine.going[i].numel() == 0) continue;
        std::vector<at::Tensor> one{mine.going[i]};
        mine.works.push_back(all->send(one, peer, options.tags.of(message, i)));
      }
    });
  }

  void recv(const Message& message, Job job) {
    const int peer = rank_of(message.source);
    issue(peer, std::move(job), [&](Job& mine) {
      for (std::size_t i = 0; i < mine.coming.size(); ++i) {
        if (!mine.coming[i].defined() || mine.coming[i].numel() == 0) continue;
        std::vector<at::Tensor> one{mine.coming[i]};
        mine.works.push_back(all->recv(one, peer, options.tags.of(message, i)));
      }
    });
  }

  /// Of an all-to-all and a reduce-scatter, whose rows are the slices.
  void exchange(Group group, RowExchange& value, Job job) {
    std::vector<std::int64_t> shape = value.rows.sizes().vec();
    shape[0] = 0;
    for (const std::int64_t rows : value.splits.receive) shape[0] += rows;
    job.coming = {empty(shape, value.rows.options())};
    job.going = {value.rows};
    issue(waiter_of(group), std::move(job), [&](Job& mine) {
      mine.works.push_back(groups.at(group)->alltoall_base(
          mine.coming.front(), mine.going.front(), value.splits.receive, value.splits.send));
    });
  }

  /// The slice goes from its buffer to each member, and each member's into its place: Gloo's own
  /// all-gather would copy everything once more.
  void gather(Group group, const SliceGather& value, Job job) {
    const std::vector<int> members = options.grid.members(group, options.rank);
    const auto count = static_cast<std::int64_t>(members.size());
    at::Tensor whole = empty({count, value.slice.numel()}, value.slice.options());
    job.going = {value.slice};
    job.coming = {whole};
    issue(waiter_of(group), std::move(job), [&](Job& mine) {
      const int tag = gathers[group]++;  // the members issue their collectives in one order
      for (int member = 0; member < static_cast<int>(count); ++member) {
        at::Tensor place = whole.select(0, member);
        if (members[static_cast<std::size_t>(member)] == options.rank) {
          place.copy_(value.slice);
        } else if (place.numel() > 0) {
          std::vector<at::Tensor> to{place};
          mine.works.push_back(groups.at(group)->recv(to, member, tag));
          mine.works.push_back(groups.at(group)->send(mine.going, member, tag));
        }
      }
      gathers[group] &= kLastGather;
    });
  }

  /// `waiter`: a rank, or a group's. Starts under the mutex, so that collectives of one group are
  /// issued in one order.
  template <typename Start>
  void issue(int waiter, Job what, const Start& start) {
    const auto job = std::make_shared<Job>(std::move(what));
    const std::lock_guard lock(mutex);
    if (aborted) {
      job->sink->completed(job->token, tl::unexpected<Error>(*aborted));
      return;
    }
    try {
      start(*job);
    } catch (const std::exception& exception) {
      job->sink->completed(job->token,
                           tl::unexpected<Error>(gloo_error(exception, who_is(waiter))));
      return;
    }
    Waiter& mine = waiters[{waiter, job->is_send}];
    jobs.insert(job);
    mine.queue.push_back(job);
    if (!mine.thread.joinable()) {
      mine.thread = std::thread(
          [self = shared_from_this(), &mine, waiter] { self->wait_for_jobs(mine, waiter); });
    }
    mine.changed.notify_one();
  }

  /// Ranks are not negative; nor are groups, whose waiters stand below them.
  static int waiter_of(Group group) { return -1 - static_cast<int>(group); }
  std::string who_is(int waiter) const {
    if (waiter >= 0) return fmt::format("rank {}", waiter);
    const auto group = static_cast<Group>(-1 - waiter);
    return fmt::format("one of the ranks {}",
                       fmt::join(options.grid.members(group, options.rank), ", "));
  }

  void wait_for_jobs(Waiter& mine, int waiter) {
    std::unique_lock lock(mutex);
    while (true) {
      mine.changed.wait(lock, [&] { return stopping || aborted || !mine.queue.empty(); });
      if (aborted || mine.queue.empty()) return;
      const std::shared_ptr<Job> job = std::move(mine.queue.front());
      mine.queue.pop_front();
      lock.unlock();
      std::optional<Error> error;
      try {
        for (const auto& work : job->works) work->wait();
      } catch (const std::exception& exception) {
        error = gloo_error(exception, who_is(waiter));
      }
      lock.lock();
      jobs.erase(job);
      job->going.clear();
      std::vector<at::Tensor> came = std::move(job->coming);
      if (std::exchange(job->delivered, true)) continue;
      if (error) {
        job->sink->completed(job->token, tl::unexpected<Error>(*error));
        continue;
      }
      job->sink->completed(job->token, job->is_send ? Value() : make_value(std::move(came)));
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

  /// Tags of gathers begin anew behind this one: far more than can be under way.
  static constexpr int kLastGather = (1 << 20) - 1;

  GlooOptions options;
  c10::intrusive_ptr<c10d::Backend> all;
  std::map<Group, c10::intrusive_ptr<c10d::Backend>> groups;
  std::map<Group, int> gathers;  // issued so far
  std::mutex mutex;
  std::map<std::pair<int, bool>, Waiter> waiters;
  std::set<std::shared_ptr<Job>> jobs;
  std::optional<Error> aborted;
  bool stopping = false;
};

GlooComm::GlooComm(const GlooOptions& options, c10::intrusive_ptr<c10d::Backend> all,
                   std::map<Group, c10::intrusive_ptr<c10d::Backend>> groups)
    : state_(std::make_shared<State>(options, std::move(all), std::move(groups))) {}

GlooComm::~GlooComm() {
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
  // A process group's destructor would wait for what it has under way.
  if (aborted) keep_for_ever(std::move(state_));
}

void GlooComm::send(const Message& message, Value value, std::uint32_t token,
                    CompletionSink& sink) {
  State::Job job;
  job.is_send = true;
  job.token = token;
  job.sink = &sink;
  job.going = std::move(as<Tensors>(*value).tensors);
  state_->send(message, std::move(job));
}

void GlooComm::recv(const Message& message, const ValueSpec& spec, std::uint32_t token,
                    CompletionSink& sink) {
  if (spec.empty()) {
    sink.completed(token, fail(ErrorCode::kRuntime,
                               fmt::format("the boundary between stages {} and {} declares no "
                                           "tensors, needed by a message between processes",
                                           boundary_of(message), boundary_of(message) + 1)));
    return;
  }
  State::Job job;
  job.token = token;
  job.sink = &sink;
  for (const TensorSpec& tensor : spec) {
    job.coming.push_back(tensor.dtype == Dtype::kNone
                             ? at::Tensor()
                             : state_->empty(tensor.sizes, scalar_type_of(tensor.dtype)));
  }
  state_->recv(message, std::move(job));
}

void GlooComm::collective(const Collective& which, std::unique_ptr<ExchangeValue> value,
                          std::uint32_t token, CompletionSink& sink) {
  State::Job job;
  job.token = token;
  job.sink = &sink;
  if (which.kind == CollectiveKind::kAllGather) {
    state_->gather(which.group, as<SliceGather>(*value), std::move(job));
  } else {
    state_->exchange(which.group, as<RowExchange>(*value), std::move(job));
  }
}

void GlooComm::abort(const Error& error) { state_->abort(error); }

}  // namespace plait
