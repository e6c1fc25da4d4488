#include "plait/runtime/inproc_comm.h"

#include <array>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "plait/base/check.h"

namespace plait {
namespace {

/// The rank's device, if it is asynchronous, and a mark behind what is handed over.
struct OnDevice {
  Device* device = nullptr;
  Mark end;
  explicit operator bool() const { return device != nullptr; }
};

/// One end of a message that waits for its other end.
struct OpenMessage {
  bool is_send = false;
  Value value;
  std::uint32_t token = 0;
  CompletionSink* sink = nullptr;
  OnDevice on;
};

/// Both ends are there. On asynchronous devices the value is read behind the sender's mark.
void hand_over(OpenMessage& send, OpenMessage& receive) {
  PLAIT_CHECK(bool(send.on) == bool(receive.on), "ranks of a world are on devices of one kind");
  if (send.on) {
    const DeviceMark end{send.on.device, send.on.end};
    receive.sink->issued(receive.token, std::move(send.value), receive.on.device->adopt({&end, 1}));
    send.sink->issued(send.token, Value(), send.on.end);
    return;
  }
  receive.sink->completed(receive.token, std::move(send.value));
  send.sink->completed(send.token, Value());
}

std::uint64_t key_of(const Message& message) {
  return (static_cast<std::uint64_t>(message.sender_stage) << 33) |
         (static_cast<std::uint64_t>(message.microbatch) << 1) |
         static_cast<std::uint64_t>(message.direction);
}

/// Messages to one rank.
struct Mailbox {
  std::mutex mutex;
  std::unordered_map<std::uint64_t, OpenMessage> open;
  std::optional<Error> aborted;
};

/// One rank's part in a collective that waits for the other members.
struct OpenShare {
  std::unique_ptr<ExchangeValue> value;
  std::uint32_t token = 0;
  CompletionSink* sink = nullptr;
  OnDevice on;
};

/// All members are there, in order.
void hand_over(const std::map<int, OpenShare>& all) {
  std::vector<DeviceMark> ends;
  for (const auto& [rank, share] : all) ends.push_back({share.on.device, share.on.end});
  int member = 0;
  for (const auto& [rank, share] : all) {
    std::vector<Value> came;
    for (const auto& sender : all) came.push_back(sender.second.value->share_for(member));
    Value joined = share.value->join(std::move(came));
    if (share.on) {
      share.sink->issued(share.token, std::move(joined), share.on.device->adopt(ends));
    } else {
      share.sink->completed(share.token, std::move(joined));
    }
    ++member;
  }
}

/// Kind, group, its first rank, direction, stage, part, micro-batch.
using CollectiveKey = std::tuple<CollectiveKind, int, int, int, int, int, int>;

}  // namespace

struct InprocWorld::Shared {
  explicit Shared(const Grid& of)
      : grid(of), ranks(of.ranks()), mailboxes(static_cast<std::size_t>(of.ranks())) {}

  void post(const Message& message, int rank, OpenMessage mine) {
    const int destination = grid.rank_of(message.destination, grid.column_of(rank));
    Mailbox& mailbox = mailboxes[static_cast<std::size_t>(destination)];
    std::array<CompletionSink*, 2> told{};
    {
      const std::lock_guard lock(mailbox.mutex);
      if (mailbox.aborted) {
        mine.sink->completed(mine.token, tl::unexpected<Error>(*mailbox.aborted));
        return;
      }
      const auto [place, is_first] = mailbox.open.try_emplace(key_of(message));
      if (is_first) {
        place->second = std::move(mine);
        return;
      }
      OpenMessage other = std::move(place->second);
      mailbox.open.erase(place);
      // Under the lock, so that after abort() no sink is called any more.
      OpenMessage& send = mine.is_send ? mine : other;
      OpenMessage& receive = mine.is_send ? other : mine;
      hand_over(send, receive);
      told = {receive.sink, send.sink};
    }
    for (CompletionSink* sink : told) sink->settled();
  }

  void post(const Collective& collective, int rank, OpenShare mine) {
    const std::vector<int> members = grid.members(collective.group, rank);
    const CollectiveKey key{collective.kind,      static_cast<int>(collective.group),
                            members.front(),      static_cast<int>(collective.direction),
                            collective.stage,     collective.part,
                            collective.microbatch};
    std::map<int, OpenShare> all;
    {
      const std::lock_guard lock(collective_mutex);
      if (collective_aborted) {
        mine.sink->completed(mine.token, tl::unexpected<Error>(*collective_aborted));
        return;
      }
      std::map<int, OpenShare>& shares = open_shares[key];
      shares[rank] = std::move(mine);
      if (shares.size() < members.size()) return;
      all = std::move(shares);
      open_shares.erase(key);
      hand_over(all);
    }
    for (const auto& [rank_of_share, share] : all) share.sink->settled();
  }

  void abort(const Error& error) {
    for (Mailbox& mailbox : mailboxes) {
      const std::lock_guard lock(mailbox.mutex);
      if (mailbox.aborted) continue;
      mailbox.aborted = error;
      for (auto& open : mailbox.open)
        open.second.sink->completed(open.second.token, tl::unexpected<Error>(error));
      mailbox.open.clear();
    }
    abort_collectives(error);
    const std::lock_guard lock(exchange_mutex);
    if (!exchange_aborted) exchange_aborted = error;
    exchange_changed.notify_all();
  }

  void abort_collectives(const Error& error) {
    const std::lock_guard lock(collective_mutex);
    if (collective_aborted) return;
    collective_aborted = error;
    for (const auto& [key, shares] : open_shares) {
      for (const auto& [rank, share] : shares)
        share.sink->completed(share.token, tl::unexpected<Error>(error));
    }
    open_shares.clear();
  }

  Expected<std::vector<std::string>> all_gather(int rank, std::string_view mine) {
    std::unique_lock lock(exchange_mutex);
    const std::uint64_t round = exchange_round;
    gathering.resize(static_cast<std::size_t>(ranks));
    gathering[static_cast<std::size_t>(rank)] = mine;
    if (++arrived == ranks) {
      arrived = 0;
      gathered = std::move(gathering);
      gathering.clear();
      ++exchange_round;
      exchange_changed.notify_all();
    } else {
      exchange_changed.wait(lock, [&] { return exchange_round != round || exchange_aborted; });
    }
    if (exchange_round == round && exchange_aborted)
      return tl::unexpected<Error>(*exchange_aborted);
    return gathered;
  }

  /// The sender leaves its span and waits until rank 0 has copied it.
  Expected<void> hand_to_first(int rank, int from, std::span<std::byte> bytes) {
    std::unique_lock lock(exchange_mutex);
    std::optional<std::span<std::byte>>& offered = handed_over[from];
    const auto wait_for = [&](bool there) {
      exchange_changed.wait(lock, [&] { return offered.has_value() == there || exchange_aborted; });
    };
    if (rank == 0) {
      wait_for(true);
      if (!offered) return tl::unexpected<Error>(*exchange_aborted);
      PLAIT_CHECK(offered->size() == bytes.size(), "both ends know the length");
      std::copy(offered->begin(), offered->end(), bytes.begin());
      offered.reset();
    } else {
      offered = bytes;
      exchange_changed.notify_all();
      wait_for(false);
      if (offered) return tl::unexpected<Error>(*exchange_aborted);
    }
    exchange_changed.notify_all();
    return {};
  }

  Grid grid;
  int ranks;
  std::vector<Mailbox> mailboxes;
  std::mutex collective_mutex;
  std::map<CollectiveKey, std::map<int, OpenShare>> open_shares;  // by rank
  std::optional<Error> collective_aborted;
  std::mutex exchange_mutex;
  std::condition_variable exchange_changed;
  std::optional<Error> exchange_aborted;
  std::uint64_t exchange_round = 0;
  int arrived = 0;
  std::map<int, std::optional<std::span<std::byte>>> handed_over;  // to rank 0, by sender
  std::vector<std::string> gathering;
  std::vector<std::string> gathered;  // of the last round; every rank reads it before the next ends
};

class InprocWorld::RankComm final : public Comm {
 public:
  RankComm(Shared& shared, int rank) : shared_(shared), rank_(rank) {}
  void use(Device& device) override {
    if (device.asynchronous()) device_ = &device;
  }
  void send(const Message& message, Value value, std::uint32_t token,
            CompletionSink& sink) override {
    shared_.post(message, rank_, {true, std::move(value), token, &sink, behind_lane()});
  }
  void recv(const Message& message, const ValueSpec&, std::uint32_t token,
            CompletionSink& sink) override {
    shared_.post(message, rank_, {false, nullptr, token, &sink, {device_, {}}});
  }
  void collective(const Collective& which, std::unique_ptr<ExchangeValue> value,
                  std::uint32_t token, CompletionSink& sink) override {
    shared_.post(which, rank_, {std::move(value), token, &sink, behind_lane()});
  }
  void abort(const Error& error) override { shared_.abort(error); }

 private:
  /// Behind everything that the communication lane was given: what it waits for has been written.
  OnDevice behind_lane() const {
    if (device_ == nullptr) return {};
    return {device_, device_->record(Lane::kCommunication)};
  }

  Shared& shared_;
  int rank_;
  Device* device_ = nullptr;  // if it is asynchronous
};

class InprocWorld::RankExchange final : public Exchange {
 public:
  RankExchange(Shared& shared, int rank) : shared_(shared), rank_(rank) {}
  int rank() const override { return rank_; }
  int ranks() const override { return shared_.ranks; }
  Expected<std::vector<std::string>> all_gather(std::string_view mine) override {
    return shared_.all_gather(rank_, mine);
  }
  Expected<void> hand_to_first(int from, std::span<std::byte> bytes) override {
    return shared_.hand_to_first(rank_, from, bytes);
  }

 private:
  Shared& shared_;
  int rank_;
};

InprocWorld::InprocWorld(const Grid& grid) : shared_(std::make_unique<Shared>(grid)) {
  for (int rank = 0; rank < grid.ranks(); ++rank) {
    comms_.push_back(std::make_unique<RankComm>(*shared_, rank));
    exchanges_.push_back(std::make_unique<RankExchange>(*shared_, rank));
  }
}

InprocWorld::~InprocWorld() = default;

Comm& InprocWorld::comm(int rank) { return *comms_[static_cast<std::size_t>(rank)]; }
Exchange& InprocWorld::exchange(int rank) { return *exchanges_[static_cast<std::size_t>(rank)]; }
void InprocWorld::abort(const Error& error) { shared_->abort(error); }

}  // namespace plait
