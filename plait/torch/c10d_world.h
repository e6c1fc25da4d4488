/// Ranks as processes over c10d's Gloo.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/base/units.h"
#include "plait/runtime/comm.h"
#include "plait/torch/memory.h"

namespace plait {

struct C10dOptions {
  int rank = 0;
  int ranks = 1;
  int rank_on_machine = 0;
  Grid grid;  ///< of `ranks` ranks
  std::string address;
  int port = 0;
  bool hosts_store = false;  ///< rank 0, unless a launcher has the store
  std::string run_id;        ///< tells this run from others at the same store
  double start_timeout_s = 300;
  double timeout_s = 60;
  std::vector<std::int64_t> message_shape;  ///< float32; the same for every message of a job
  MemoryAccount* receive_buffers = nullptr;
  std::function<void()> on_met;  ///< all ranks are connected; from here on a death is noticed
};

/// One process's ends. A message has a tag of its own, so messages match in any order. Waits run on
/// threads per peer and direction, each wait once with the whole timeout: a Gloo wait cannot be
/// polled and a work that nobody waits for is lost. Expert and replica groups are process groups of
/// their own, with a waiting thread each.
class C10dWorld {
 public:
  /// Blocks until all ranks are there. Errors as of meet() (plait/torch/rendezvous.h), and of
  /// GLOO_SOCKET_IFNAME.
  static Expected<std::unique_ptr<C10dWorld>> connect(const C10dOptions& options);
  ~C10dWorld();
  Comm& comm();
  Exchange& exchange();
  /// From here on the exchange waits for timeout_s instead of start_timeout_s.
  void end_start();
  /// After an abort the waits under way cannot be called back: leave the process with _exit.
  void abort(const Error& error);

 private:
  C10dWorld();
  struct State;
  std::shared_ptr<State> state_;
};

/// Compares the text of the job and of what it was lowered to between ranks. Errors
/// (kInvalidInput): the first line that differs from rank 0's, and the rank.
Expected<void> agree_on_job(Exchange& exchange, const std::string& job);

}  // namespace plait
