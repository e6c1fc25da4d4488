#include "plait/torch/rendezvous.h"

#include <c10/util/Logging.h>
#include <fmt/core.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <random>
#include <string_view>
#include <thread>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <utility>

#include "plait/base/print.h"
#include "plait/base/running_clock.h"
#include "plait/launch/master_address.h"
#include "plait/launch/secret.h"
#include "plait/torch/keyed_hash.h"

namespace plait {
namespace {

std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
}

bool says_port_in_use(std::string_view text) {
  return text.find("EADDRINUSE") != std::string_view::npos ||
         text.find("in use") != std::string_view::npos;
}

constexpr const char* kFailure = "failure";

/// For those who wait. Of several failures the first counts. Throws what the store does.
void tell_failure(c10d::Store& store, const Attendee& attendee, const Error& error) {
  if (error.code == ErrorCode::kPeer) return;
  const std::string words = fmt::format("rank {}: {}", attendee.rank, error.text());
  store.compareSet(kFailure, std::vector<std::uint8_t>(),
                   std::vector<std::uint8_t>(words.begin(), words.end()));
}

Expected<c10::intrusive_ptr<c10d::Store>> open_store(const Attendee& attendee);

/// Perhaps by another rank 0 of this run, which would wait for a rank that does not come: it is
/// told.
tl::unexpected<Error> port_in_use(const Attendee& attendee) {
  auto error = fail(ErrorCode::kInvalidInput,
                    fmt::format("port {} is in use on this machine, needed a free one: another "
                                "MASTER_PORT for all ranks of this run, and one process as rank {}",
                                attendee.port, attendee.rank),
                    "MASTER_PORT");
  Attendee guest = attendee;
  guest.hosts_store = false;
  guest.timeout_s = 2;
  const Expected<c10::intrusive_ptr<c10d::Store>> store = open_store(guest);
  if (!store) return error;
  try {
    (*store)->add(fmt::format("taken/{}", guest.rank), 1);
    tell_failure(**store, guest, error.value());
  } catch (const std::exception&) {
    // It is no store.
  }
  return error;
}

Expected<c10::intrusive_ptr<c10d::Store>> open_store(const Attendee& attendee) {
  if (attendee.hosts_store) {
    PLAIT_TRY_VOID(check_address(attendee.address));
  } else {
    // c10d waits for a name that does not resolve as it does for a rank 0 that is late.
    PLAIT_TRY_VOID(wait_for_listener(attendee.address, attendee.port, attendee.timeout_s));
  }
  c10d::TCPStoreOptions options;
  options.port = static_cast<std::uint16_t>(attendee.port);
  options.isServer = attendee.hosts_store;
  options.waitWorkers = false;
  options.timeout = milliseconds(attendee.timeout_s);
  if (attendee.hosts_store && is_loopback(attendee.address)) {
    const Expected<BoundSocket> bound = bind_to_loopback(attendee.port);
    if (!bound) return port_in_use(attendee);
    options.masterListenFd = bound->socket;
  }
  try {
    c10::intrusive_ptr<c10d::Store> store =
        c10::make_intrusive<c10d::TCPStore>(attendee.address, options);
    return c10::make_intrusive<c10d::PrefixStore>("plait/" + attendee.run_id, store);
  } catch (const std::exception& exception) {
    if (says_port_in_use(exception.what())) return port_in_use(attendee);
    return fail(ErrorCode::kTimeout,
                fmt::format("rank {} cannot reach rank 0's store at {}:{} within {} s: {}",
                            attendee.rank, attendee.address, attendee.port, attendee.timeout_s,
                            first_line(exception.what())));
  }
}

/// What the ranks write into the store while they meet.
class Register {
 public:
  /// `secret`: what the ranks prove to one another that they know; empty: nothing.
  Register(c10d::Store& store, const Attendee& attendee, std::string secret = {})
      : store_(store), attendee_(attendee), secret_(std::move(secret)) {}

  /// Throws what the store does.
  Expected<void> wait_for_all() {
    if (store_.add(fmt::format("taken/{}", attendee_.rank), 1) > 1) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("two processes say that they are rank {} of {}", attendee_.rank,
                              attendee_.ranks));
    }
    // What it has drawn makes proofs of another meeting worthless in this one.
    write(here(attendee_.rank), secret_.empty() ? std::string(kNoSecret) : drawn());
    PLAIT_TRY_VOID(wait_for_each(here));
    return check_secrets();
  }

  /// Of a rank that cannot take part.
  void tell_and_leave(const Error& error) {
    tell_failure(store_, attendee_, error);
    store_.set(here_without_part(attendee_.rank), std::vector<std::uint8_t>{1});
    // The store ends with rank 0: the others hear of it first, if they come soon.
    RunningClock clock;
    for (int next = 0; attendee_.hosts_store && next < attendee_.ranks;) {
      if (store_.check({here(next)}) || store_.check({here_without_part(next)})) {
        ++next;
      } else if (static_cast<double>(clock.read()) > attendee_.timeout_s * 1e9) {
        return;
      } else {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
    }
    if (attendee_.hosts_store) std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }

 private:
  /// Ranks come in any order; each is asked for until its key is there.
  Expected<void> wait_for_each(const std::function<std::string(int rank)>& key) {
    RunningClock clock;
    for (int next = 0; next < attendee_.ranks;) {
      if (store_.check({key(next)})) {
        ++next;
        continue;
      }
      if (store_.check({kFailure})) return fail(ErrorCode::kPeer, store_.get_to_str(kFailure));
      if (static_cast<double>(clock.read()) > attendee_.timeout_s * 1e9) return did_not_come();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return {};
  }

  /// Every rank's proof is a keyed hash of its number and of what all have drawn.
  Expected<void> check_secrets() {
    std::string drawn_by_all;
    for (int rank = 0; rank < attendee_.ranks; ++rank) {
      const std::string one = store_.get_to_str(here(rank));
      if ((one == kNoSecret) != secret_.empty())
        return refused(secret_.empty() ? attendee_.rank : rank, "none");
      drawn_by_all += one + "\n";
    }
    if (secret_.empty()) return {};
    const auto proof_of = [&](int rank) {
      return keyed_hash(secret_, fmt::format("plait rank {}\n{}", rank, drawn_by_all));
    };
    write(proof(attendee_.rank), proof_of(attendee_.rank));
    PLAIT_TRY_VOID(wait_for_each(proof));
    for (int rank = 0; rank < attendee_.ranks; ++rank)
      if (store_.get_to_str(proof(rank)) != proof_of(rank)) return refused(rank, "another one");
    return {};
  }

  static tl::unexpected<Error> refused(int rank, std::string_view what) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("rank {} presents {}, needed the secret of the job's other ranks "
                            "({} or {})",
                            rank, what, kSecretVariable, kSecretFileVariable));
  }

  static std::string drawn() {
    std::random_device device;
    std::string text;
    for (int word = 0; word < 4; ++word) text += fmt::format("{:08x}", device());
    return text;
  }

  void write(const std::string& key, const std::string& value) {
    store_.set(key, std::vector<std::uint8_t>(value.begin(), value.end()));
  }

  static std::string proof(int rank) { return fmt::format("proof/{}", rank); }
  static std::string here(int rank) { return fmt::format("here/{}", rank); }
  static std::string here_without_part(int rank) { return fmt::format("leaves/{}", rank); }

  tl::unexpected<Error> did_not_come() {
    std::string missing;
    for (int rank = 0; rank < attendee_.ranks; ++rank) {
      if (!store_.check({here(rank)}))
        missing += fmt::format("{}{}", missing.empty() ? "" : ", ", rank);
    }
    return fail(ErrorCode::kTimeout,
                fmt::format("rank {} did not come within {} s", missing, attendee_.timeout_s));
  }

  static constexpr std::string_view kNoSecret = "no secret";

  c10d::Store& store_;
  const Attendee& attendee_;
  std::string secret_;
};

}  // namespace

void hide_c10d_lines() {
  constexpr int kFatal = 3;
  if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) FLAGS_caffe2_log_level = kFatal;
}

struct StoreServer::State {
  c10::intrusive_ptr<c10d::TCPStore> store;
};

StoreServer::StoreServer() = default;
StoreServer::StoreServer(StoreServer&&) noexcept = default;
StoreServer::~StoreServer() = default;
int StoreServer::port() const { return state_->store->getPort(); }

Expected<StoreServer> StoreServer::start(int port) {
  hide_c10d_lines();
  Expected<BoundSocket> bound = bind_to_loopback(port);
  if (!bound) {
    bound.error().message += ", needed a free one";
    bound.error().where = "--port";
    return tl::unexpected<Error>(bound.error());
  }
  c10d::TCPStoreOptions options;
  options.port = static_cast<std::uint16_t>(bound->port);
  options.masterListenFd = bound->socket;
  options.isServer = true;
  options.waitWorkers = false;
  StoreServer server;
  server.state_ = std::make_unique<State>();
  try {
    server.state_->store = c10::make_intrusive<c10d::TCPStore>("127.0.0.1", options);
  } catch (const std::exception& exception) {
    return fail(ErrorCode::kRuntime,
                fmt::format("the store cannot be started: {}", first_line(exception.what())));
  }
  return server;
}

Expected<c10::intrusive_ptr<c10d::Store>> meet(const Attendee& attendee) {
  hide_c10d_lines();
  PLAIT_TRY(std::string secret, job_secret(current_environment()));
  PLAIT_TRY(c10::intrusive_ptr<c10d::Store> store, open_store(attendee));
  try {
    Register ranks(*store, attendee, std::move(secret));
    const Expected<void> all = ranks.wait_for_all();
    if (all) return store;
    tell_failure(*store, attendee, all.error());
    return tl::unexpected<Error>(all.error());
  } catch (const std::exception& exception) {
    return fail(ErrorCode::kPeer,
                fmt::format("the store of rank 0 has gone: {}", first_line(exception.what())));
  }
}

void tell_those_who_wait(Attendee attendee, const Error& error) {
  constexpr double kSomeSeconds = 5;
  hide_c10d_lines();
  attendee.timeout_s = kSomeSeconds;
  const Expected<c10::intrusive_ptr<c10d::Store>> store = open_store(attendee);
  if (!store) return;
  try {
    Register(**store, attendee).tell_and_leave(error);
  } catch (const std::exception&) {
    // The store has gone: nobody waits any more.
  }
}

Expected<std::vector<std::string>> gloo_interfaces() {
  const char* value = std::getenv("GLOO_SOCKET_IFNAME");
  if (value == nullptr) return std::vector<std::string>();
  return chosen_interfaces(value, network_interfaces());
}

}  // namespace plait
