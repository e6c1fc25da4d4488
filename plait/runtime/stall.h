/// Why a run does not go on: what each rank does, followed to the rank that is the cause.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "plait/base/units.h"

namespace plait {

enum class RankState : std::uint8_t {
  kComputes,  ///< an instruction of its compute lane runs
  kWaits,     ///< for a message, a collective, or between two steps for all other ranks
  kStopped,   ///< its process was stopped (SIGSTOP)
  kDead,      ///< its process has ended
  kSilent,    ///< it says nothing: stopped, dead or gone from the network
};

/// What one rank does, or did when it was heard of last.
struct RankDoing {
  int rank = 0;
  RankState state = RankState::kComputes;
  std::string instruction;   ///< "2W4", "3RECV_F5 from rank 1"; empty: it is between two steps
  std::vector<int> awaited;  ///< of kWaits: ranks without which it does not go on
  Nanoseconds since = 0;     ///< for so long it has completed nothing
};

/// Each rank of `chain` waits for the next. The last one is the cause; or, of a circle, waits for
/// an earlier one.
struct StallCause {
  std::vector<int> chain;
  bool circle = false;
};

/// Of several causes: a dead rank before a stopped one before a silent one before one that computes
/// before a circle; of two alike the one that the lowest rank waits for. `ranks`: each once, in any
/// order; one that is awaited and not there counts as silent. Example:
///
///   0 waits for 1, 1 waits for 2, 2 is stopped     chain 0 1 2
///   0 waits for 1, 1 waits for 0                   chain 0 1, a circle
///
/// Empty chain: `ranks` is empty. Cost: O(P · awaited ranks).
StallCause find_cause(const std::vector<RankDoing>& ranks);

/// "the cause is rank 1, which is stopped: rank 0 waits for rank 1", then a line for each rank, in
/// ascending order: "rank 0 waits in 0RECV_B0 from rank 1, for 3.0 s". Of more ranks than a screen
/// has lines those of the chain first, and how many are left out. No line end behind the last line.
std::string describe_stall(const std::vector<RankDoing>& ranks);
/// One rank's line.
std::string describe(const RankDoing& doing);

/// For a process to tell another one. read_doing() takes any text and is false if it is none.
std::string print_doing(const RankDoing& doing);
bool read_doing(const std::string& text, RankDoing& doing);

/// Where the ranks of other processes say what they do.
class StatusBoard {
 public:
  virtual ~StatusBoard() = default;
  /// What the ranks of this process do. Does not block.
  virtual void post(const std::vector<RankDoing>& mine) = 0;
  /// What the ranks of all other processes do. Blocks for some seconds at most.
  virtual std::vector<RankDoing> read() = 0;
};

}  // namespace plait
