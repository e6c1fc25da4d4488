/// What the processes of a run say they do, in the store where they met.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <memory>
#include <vector>

#include "plait/runtime/stall.h"

namespace c10d {
class Store;
}

namespace plait {

/// One rank's. A thread writes what was posted last, with the machine and the number of this
/// process, under a count that rises twice a second. Who reads finds a rank of this machine stopped
/// or dead by its process, and one of another machine silent by a count that stands still. Its
/// waits for the store are bounded for those who call, not for its own thread: leave the process
/// with _exit after an error.
class StoreBoard final : public StatusBoard {
 public:
  StoreBoard(c10::intrusive_ptr<c10d::Store> store, int rank, int ranks);
  ~StoreBoard() override;

  void post(const std::vector<RankDoing>& mine) override;
  /// Blocks 4 s at most; where the store does not answer by then all others are silent.
  std::vector<RankDoing> read() override;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace plait
