/// Ranks as processes that meet over c10d.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/base/units.h"
#include "plait/runtime/comm.h"
#include "plait/runtime/stall.h"
#include "plait/torch/comm_gloo.h"
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
  MessageTags tags;
  MemoryAccount* receive_buffers = nullptr;
  std::function<void()> on_met;  ///< all ranks are connected; from here on a death is noticed
};

/// One process's ends: the store where the ranks meet, process groups of all ranks and of each
/// group of the grid, host data between all ranks, and the comm of the step (comm_gloo.h).
class C10dWorld {
 public:
  /// Blocks until all ranks are there. Errors as of meet() (plait/torch/rendezvous.h), and of
  /// GLOO_SOCKET_IFNAME.
  static Expected<std::unique_ptr<C10dWorld>> connect(const C10dOptions& options);
  ~C10dWorld();
  Comm& comm();
  Exchange& exchange();
  /// What the other ranks say they do.
  StatusBoard& board();
  /// `explain` is asked why ranks did not come to the exchange in time.
  void explain_timeouts(std::function<std::string()> explain);
  /// From here on the exchange waits for timeout_s instead of start_timeout_s.
  void end_start();
  /// After an abort the waits under way cannot be called back: leave the process with _exit.
  void abort(const Error& error);

 private:
  C10dWorld();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace plait
