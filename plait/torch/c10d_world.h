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

/// A TCPStore server of this process. Others connect to `port`.
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

struct C10dOptions {
  int rank = 0;
  int ranks = 1;
  int rank_on_machine = 0;
  Grid grid;  ///< of `ranks` ranks
  std::string address;
  int port = 0;
  bool hosts_store = false;  ///< rank 0 under torchrun's static rendezvous, mpirun and Slurm
  double start_timeout_s = 300;
  double timeout_s = 60;
  std::vector<std::int64_t> message_shape;  ///< float32; the same for every message of a job
  MemoryAccount* receive_buffers = nullptr;
};

/// One process's ends. A message has a tag of its own, so messages match in any order. Waits run on
/// threads per peer and direction, each wait once with the whole timeout: a Gloo wait cannot be
/// polled and a work that nobody waits for is lost. Expert and replica groups are process groups of
/// their own, with a waiting thread each.
class C10dWorld {
 public:
  /// Blocks until all ranks are there. Errors (kTimeout) name the ranks that did not come.
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
