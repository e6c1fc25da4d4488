/// Runs one rank's program, lane by lane, without ever blocking.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/program/rank_program.h"
#include "plait/runtime/comm.h"
#include "plait/runtime/memory_probe.h"
#include "plait/runtime/reducer.h"
#include "plait/runtime/stage.h"
#include "plait/timeline/timeline.h"

namespace plait {

enum class LaneStatus : std::uint8_t {
  kReady,    ///< stopped at the limit of instructions; more can run now
  kWaiting,  ///< its head waits for an instruction of the other lane
  kDone,     ///< everything of this lane has been run, or issued
  kFailed,   ///< the step has failed: error()
};

struct StepCounts {
  int pairs_braided = 0;
  int pairs_in_sequence = 0;
  int whole_backwards = 0;  ///< I's of which a part ran the whole B
};

/// A step: begin_step(), then advance() of both lanes until finished() or failed(). Each lane is
/// advanced by one thread at a time; the two may be different threads. Exceptions of stages become
/// errors here.
///
/// In production the communication lane has no thread: whoever makes its head ready issues it, the
/// thread that computes or the one that completes a message. A thread of its own would have to be
/// woken on a core that computes, which takes until the compute instruction has ended.
class Executor final : public CompletionSink {
 public:
  /// `stages` by stage; those of other ranks are not touched. `reducer` is needed by programs that
  /// reduce. All must outlive the executor.
  Executor(const RankProgram& program, std::vector<Stage*> stages, Comm& comm, Column column = {},
           Reducer* reducer = nullptr);

  /// From the next step on; must outlive the executor.
  void watch_memory(MemoryProbe& probe);

  void begin_step();
  /// Runs at most `limit` instructions of the lane.
  LaneStatus advance(Lane lane, int limit);
  /// From now on completions issue what they make ready.
  void chain() { chains_ = true; }
  /// advance(kCommunication, -1) that several threads may call at once: one of them does it all.
  void advance_communication();

  bool finished() const;
  bool failed() const { return failed_.load(std::memory_order_acquire); }
  /// The first error, naming rank and action.
  Error error() const;
  /// Ends the step with `error` unless it has failed already.
  void fail_step(const Error& error);

  /// Counts what has completed; changes whenever a waiting lane may go on. For drivers to wait on.
  std::atomic<std::uint32_t>& changes() { return changes_; }
  /// What the rank does now: "in 2W4", "waits in 3RECV_F5 from rank 1", "has ended its step". From
  /// any thread.
  std::string status() const;
  /// The rank it waits for a message from or to, -1 if none. From any thread.
  int awaited_rank() const;

  const RankProgram& program() const { return program_; }
  /// Among all ranks of the run.
  int rank() const { return column_.rank_of(program_.rank); }
  StepCounts counts() const { return counts_; }
  /// [begin, end] by instruction: of messages, from issue to completion. Of the last step.
  const std::vector<std::array<Nanoseconds, 2>>& times() const { return times_; }

  /// By instruction, zeros for messages, of the last step; empty without a probe.
  const std::vector<EventMemory>& memory() const { return memory_; }
  /// The most that the last step held at any time; 0 without a probe.
  Bytes peak_memory() const { return peak_memory_; }

  void completed(std::uint32_t token, Expected<Value> result) noexcept override;
  void settled() noexcept override;

 private:
  bool run(std::int32_t index);
  Expected<void> issue(std::uint32_t index, const Instruction& instruction);
  Expected<void> issue_reduction(std::uint32_t index, const Instruction& instruction);
  Expected<void> run_compute(const Instruction& instruction);
  void count(const Instruction& instruction);
  void begin_memory(std::int32_t index);
  void end_memory(std::int32_t index);
  std::string describe(const Instruction& instruction) const;
  Value take(std::int32_t slot);
  void put(std::int32_t slot, Value value);
  void finish(std::int32_t index);
  std::int32_t stuck_instruction() const;

  const RankProgram& program_;
  std::vector<Stage*> stages_;
  Comm& comm_;
  Column column_;
  Reducer* reducer_;
  std::vector<Value> slots_;
  std::unique_ptr<std::atomic<bool>[]> done_;
  std::vector<std::array<Nanoseconds, 2>> times_;
  std::array<std::atomic<std::size_t>, 2> next_{};
  std::atomic<bool> in_compute_ = false;
  std::atomic<bool> in_step_ = false;
  std::atomic<std::int32_t> open_messages_ = 0;
  std::atomic<std::uint32_t> changes_ = 0;
  std::atomic<bool> failed_ = false;
  bool chains_ = false;
  std::atomic<std::uint32_t> advances_asked_ = 0;  // 0: nobody advances the communication lane
  mutable std::mutex error_mutex_;
  std::optional<Error> error_;
  MemoryProbe* probe_ = nullptr;
  std::vector<EventMemory> memory_;
  Bytes peak_memory_ = 0;
  StepCounts counts_;
  int last_pair_ = -1;
  const Action* last_whole_ = nullptr;  // the I whose parts are being counted
};

}  // namespace plait
