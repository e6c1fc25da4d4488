/// How the processes of a run meet: a c10d store, every rank once, and the network they use.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "plait/base/error.h"

namespace c10d {
class Store;
}

namespace plait {

/// c10d's own lines on stderr are hidden from here on, unless the user set TORCH_CPP_LOG_LEVEL:
/// what they report becomes an error in our words.
void hide_c10d_lines();

/// A TCPStore server of this process, which only processes of this machine reach. They connect to
/// `port` of 127.0.0.1.
class StoreServer {
 public:
  /// `port` 0 takes a free one. Errors (kInvalidInput): the port is in use.
  static Expected<StoreServer> start(int port);
  StoreServer(StoreServer&&) noexcept;
  ~StoreServer();
  int port() const;

 private:
  StoreServer();
  struct State;
  std::unique_ptr<State> state_;
};

/// One process of those that meet.
struct Attendee {
  int rank = 0;
  int ranks = 1;
  std::string address;
  int port = 0;
  /// Rank 0, unless a launcher has the store. Where `address` is this machine to itself, other
  /// machines do not reach it.
  bool hosts_store = false;
  /// Runs that come to the same store one after the other, as after a restart by torchrun, differ
  /// in it.
  std::string run_id;
  double timeout_s = 300;  ///< of time in which this process runs
};

/// Blocks until every rank has come to the store. An error of one is told to those who wait there.
/// With a secret in the environment (launch/secret.h) each rank proves to each that it knows it.
/// That keeps out processes that are none of the job's; what the ranks send is not encrypted.
/// Errors: (kInvalidInput) a rank that presents another secret, or none; the address does not
/// resolve, the port is in use, two processes are the same rank; (kTimeout) the store cannot be
/// reached, or ranks that did not come, by number; (kPeer) another rank failed here or the store
/// has gone.
Expected<c10::intrusive_ptr<c10d::Store>> meet(const Attendee& attendee);

/// In a rank that fails before it could meet(): tells those who wait there, as far as that takes
/// some seconds. Launchers that let the others wait are MPICH's and srun's.
void tell_those_who_wait(Attendee attendee, const Error& error);

/// Interfaces that GLOO_SOCKET_IFNAME chooses, as torch reads it; none: it is not set or empty.
/// Errors (kInvalidInput): one that this machine does not have.
Expected<std::vector<std::string>> gloo_interfaces();

}  // namespace plait
