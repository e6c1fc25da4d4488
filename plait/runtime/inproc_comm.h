/// Ranks as threads of one process: messages are handed over without a copy. Values on asynchronous
/// devices too: a mark goes with them, and the receiver's device adopts it.
#pragma once

#include <memory>
#include <vector>

#include "plait/runtime/comm.h"

namespace plait {

/// All ranks' ends. Thread-safe; must outlive every executor that uses it.
class InprocWorld {
 public:
  explicit InprocWorld(int ranks) : InprocWorld(Grid{ranks, 1, 1}) {}
  explicit InprocWorld(const Grid& grid);
  ~InprocWorld();

  /// A message completes when its send and its receive have both been posted, a collective when all
  /// members have posted theirs, in any order.
  Comm& comm(int rank);
  Exchange& exchange(int rank);
  /// Ends all messages and exchanges under way, and all later ones, with `error`.
  void abort(const Error& error);

 private:
  class RankComm;
  class RankExchange;
  struct Shared;
  std::unique_ptr<Shared> shared_;
  std::vector<std::unique_ptr<RankComm>> comms_;
  std::vector<std::unique_ptr<RankExchange>> exchanges_;
};

}  // namespace plait
