#include "plait/torch/c10d_world.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <future>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <stdexcept>
#include <string_view>
#include <thread>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <utility>

#include "plait/base/print.h"
#include "plait/base/running_clock.h"
#include "plait/torch/comm_gloo.h"
#include "plait/torch/rendezvous.h"
#include "plait/torch/store_board.h"

namespace plait {
namespace {

/// Of Gloo's clock, far from where adding it to now overflows.
constexpr std::chrono::milliseconds kForever = std::chrono::hours(24 * 365 * 10);

}  // namespace

struct C10dWorld::State {
  class WorldExchange final : public Exchange {
   public:
    explicit WorldExchange(State& state) : state_(state) {}
    int rank() const override { return state_.options.rank; }
    int ranks() const override { return state_.options.ranks; }
    Expected<std::vector<std::string>> all_gather(std::string_view mine) override {
      return state_.all_gather(mine);
    }
    Expected<void> hand_to_first(int from, std::span<std::byte> bytes) override {
      return state_.hand_to_first(from, bytes);
    }

   private:
    State& state_;
  };

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

  /// The same of a message. Its wait cannot be cut into slices, so a thread of its own waits; after
  /// a time-out it stays behind until the process ends.
  void wait_for_message(c10::intrusive_ptr<c10d::Work> work) const {
    auto waits = std::make_shared<std::promise<void>>();
    std::future<void> done = waits->get_future();
    std::thread([waits, work = std::move(work)] {
      try {
        work->wait(kForever);
        waits->set_value();
      } catch (...) {
        waits->set_exception(std::current_exception());
      }
    }).detach();
    RunningClock clock;
    while (done.wait_for(std::chrono::milliseconds(50)) != std::future_status::ready) {
      if (static_cast<double>(clock.read()) > exchange_timeout_s * 1e9)
        throw std::runtime_error("timed out");
    }
    done.get();
  }

  /// One collective of equal lengths.
  Expected<std::vector<at::Tensor>> gather_tensors(at::Tensor mine) {
    std::vector<std::vector<at::Tensor>> outputs(1);
    for (int rank = 0; rank < options.ranks; ++rank) outputs[0].push_back(at::empty_like(mine));
    std::vector<at::Tensor> inputs{std::move(mine)};
    try {
      wait_while_running(*group->allgather(outputs, inputs));
    } catch (const std::exception& exception) {
      Error error = gloo_error(exception, "another rank");
      error.message =
          fmt::format("rank {} waited for all ranks between two steps: {}", options.rank,
                      error.code == ErrorCode::kTimeout ? "not all came in time"
                                                        : "one of them closed the connection");
      if (error.code == ErrorCode::kTimeout && explain) error.message += ": " + explain();
      comm->abort(error);
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
    mine.copy(static_cast<char*>(bytes.mutable_data_ptr()), mine.size());
    PLAIT_TRY(const std::vector<at::Tensor> gathered, gather_tensors(std::move(bytes)));
    for (std::size_t rank = 0; rank < sizes.size(); ++rank) {
      texts[rank].assign(static_cast<const char*>(gathered[rank].const_data_ptr()), sizes[rank]);
    }
    return texts;
  }

  Expected<void> hand_to_first(int from, std::span<std::byte> bytes) {
    constexpr int kTag = std::numeric_limits<int>::max();  // no message of a step has it
    std::vector<at::Tensor> tensors{
        at::from_blob(bytes.data(), {static_cast<std::int64_t>(bytes.size())}, at::kByte)};
    try {
      wait_for_message(options.rank == 0 ? group->recv(tensors, from, kTag)
                                         : group->send(tensors, 0, kTag));
    } catch (const std::exception& exception) {
      return tl::unexpected<Error>(
          gloo_error(exception, fmt::format("rank {}", options.rank == 0 ? from : 0)));
    }
    return {};
  }

  C10dOptions options;
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::Backend> group;  ///< of all ranks, for host data
  double exchange_timeout_s = 0;
  std::unique_ptr<Comm> comm;
  std::unique_ptr<StoreBoard> board;
  std::function<std::string()> explain;
  WorldExchange exchange{*this};
};

C10dWorld::C10dWorld() = default;
C10dWorld::~C10dWorld() = default;

Expected<std::unique_ptr<C10dWorld>> C10dWorld::connect(const C10dOptions& options) {
  std::unique_ptr<C10dWorld> world(new C10dWorld());
  world->state_ = std::make_unique<State>();
  State& state = *world->state_;
  state.options = options;
  state.exchange_timeout_s = options.start_timeout_s;
  PLAIT_TRY_VOID(options.tags.check());
  PLAIT_TRY(state.store, meet({options.rank, options.ranks, options.address, options.port,
                               options.hosts_store, options.run_id, options.start_timeout_s}));
  try {
    PLAIT_TRY(const GlooGroups gloo, GlooGroups::choose(options.address, options.start_timeout_s));
    state.group = gloo.make(state.store, "all", options.rank, options.ranks);
    std::map<Group, c10::intrusive_ptr<c10d::Backend>> groups;
    for (const Group which : {Group::kExpert, Group::kData, Group::kReplicas}) {
      const std::vector<int> members = options.grid.members(which, options.rank);
      if (members.size() == 1) continue;
      const auto place = std::find(members.begin(), members.end(), options.rank);
      groups[which] = gloo.make(
          state.store, fmt::format("group-{}-{}", static_cast<int>(which), members.front()),
          static_cast<int>(place - members.begin()), static_cast<int>(members.size()));
    }
    state.comm = std::make_unique<GlooComm>(
        GlooOptions{options.grid, options.rank, options.tags, options.receive_buffers}, state.group,
        std::move(groups));
  } catch (const std::exception& exception) {
    return fail(ErrorCode::kPeer, fmt::format("the ranks cannot connect to one another: {}",
                                              first_line(exception.what())));
  }
  state.board = std::make_unique<StoreBoard>(state.store, options.rank, options.ranks);
  if (options.on_met) options.on_met();
  return world;
}

Comm& C10dWorld::comm() { return *state_->comm; }
Exchange& C10dWorld::exchange() { return state_->exchange; }
StatusBoard& C10dWorld::board() { return *state_->board; }
void C10dWorld::explain_timeouts(std::function<std::string()> explain) {
  state_->explain = std::move(explain);
}
void C10dWorld::end_start() { state_->exchange_timeout_s = state_->options.timeout_s; }
void C10dWorld::abort(const Error& error) { state_->comm->abort(error); }

}  // namespace plait
