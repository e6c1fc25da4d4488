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
#include "plait/runtime/device.h"
#include "plait/runtime/reducer.h"
#include "plait/runtime/stage.h"
#include "plait/timeline/timeline.h"

namespace plait {

enum class LaneStatus : std::uint8_t {
  kReady,    ///< stopped at the limit of instructions; more can run now
  kWaiting,  ///< its head waits for an instruction, or for row counts to reach the host
  kDone,     ///< everything of this lane has been issued
  kFailed,   ///< the step has failed: error()
};

struct StepCounts {
  int pairs_braided = 0;
  int pairs_in_sequence = 0;
  int whole_backwards = 0;  ///< I's of which a part ran the whole B
};

/// A step: begin_step(), then advance() of both lanes until finished() or failed(), then
/// end_step(). Each lane is advanced by one thread at a time; the two may be different threads if
/// the device is synchronous. Exceptions of stages become errors here.
///
/// On a synchronous device an instruction that computes has run when advance() has passed it. On an
/// asynchronous one it has been issued: its lane was made to wait for its operands' marks, was
/// given its work and a mark behind it. The host goes on; finished() asks for the marks.
///
/// The communication lane has no thread of its own. advance_communication() issues what heads it:
/// the rank's thread calls it after each compute instruction, and with issue_on_completion() so
/// does the thread that completes a message. A thread of its own would have to be woken on a core
/// that computes, and would get the core only when the compute instruction has ended.
class Executor final : public CompletionSink {
 public:
  /// `stages` by stage; those of other ranks are not touched. `reducer` is needed by programs that
  /// reduce. Without a `device` it runs on the CPU and counts no memory. All must outlive the
  /// executor.
  Executor(const RankProgram& program, std::vector<Stage*> stages, Comm& comm, Column column = {},
           Reducer* reducer = nullptr, Device* device = nullptr);

  void begin_step();
  /// Issues at most `limit` instructions of the lane; -1: as many as it can.
  LaneStatus advance(Lane lane, int limit);
  /// advance(kCommunication, -1). With issue_on_completion() several threads may call it at once:
  /// one of them issues for all.
  void advance_communication();
  /// Whether settled() calls advance_communication(), on the thread that has completed a message,
  /// from the next step on. Stays off on an asynchronous device: that thread may belong to another
  /// rank, and its work would go to that rank's device.
  void issue_on_completion(bool on) { issues_on_completion_ = on && !asynchronous_; }

  /// Everything has been issued, all messages have completed, all marks have passed.
  bool finished();
  /// Once after finished(): reads the times of marks, and lets the stages read what stayed on the
  /// device. Errors: a stage's.
  Expected<void> end_step();
  bool failed() const { return failed_.load(std::memory_order_acquire); }
  /// The first error, naming rank and action.
  Error error() const;
  /// Ends the step with `error` unless it has failed already.
  void fail_step(const Error& error);

  /// Counts what has completed, or on an asynchronous device been issued. It changes whenever a
  /// lane that waits may go on, but for marks that pass.
  const std::atomic<std::uint32_t>& changes() const { return changes_; }
  /// Sleeps until changes() is not `seen`. One thread at a time: the rank's.
  void sleep_until_change(std::uint32_t seen);
  /// Of an asynchronous device, from the rank's thread: it can go on when a mark passes, which
  /// changes() does not count: everything has been issued, or a lane's head needs row counts.
  bool waits_for_marks() const;
  /// What the rank does now: "in 2W4", "waits in 3RECV_F5 from rank 1", "has ended its step". From
  /// any thread.
  std::string status() const;
  struct Doing {
    bool in_step = false;
    bool computes = false;                 ///< it does not wait
    std::string instruction{};             ///< "2W4", "3RECV_F5 from rank 1"; empty outside a step
    int awaited_rank = -1;                 ///< at the other end of the message that it waits for
    std::optional<Group> awaited_group{};  ///< whose collective it waits for
  };
  /// The same, taken apart. From any thread.
  Doing doing() const;
  /// The last `most` instructions that have completed in this step, oldest first: "2.000 ms … 2.100
  /// ms  2W4", from the step's first. From any thread while nothing completes any more.
  std::vector<std::string> last_completed(std::size_t most) const;

  const RankProgram& program() const { return program_; }
  /// Among all ranks of the run.
  int rank() const { return column_.rank_of(program_.rank); }
  const Device& device() const { return device_; }
  StepCounts counts() const { return counts_; }
  /// [begin, end] by instruction: of messages, from issue to completion. Of the last step that has
  /// been ended.
  const std::vector<std::array<Nanoseconds, 2>>& times() const { return times_; }

  /// By instruction, zeros for messages, of the last step; empty if nobody counts memory.
  const std::vector<EventMemory>& memory() const { return memory_; }
  /// The most that the last step held at any time; 0 if nobody counts memory.
  Bytes peak_memory() const { return peak_memory_; }

  void completed(std::uint32_t token, Expected<Value> result) noexcept override;
  void issued(std::uint32_t token, Value value, Mark end) noexcept override;
  void settled() noexcept override;

 private:
  bool run(std::int32_t index);
  bool awaits_host_numbers(const Instruction& instruction) const;
  void begin_on_device(std::int32_t index);
  void mark_outputs(const Instruction& instruction, Mark ready);
  bool marks_passed();
  Expected<void> issue(std::uint32_t index, const Instruction& instruction);
  Expected<void> issue_of_replicas(std::uint32_t index, const Instruction& instruction);
  Expected<void> run_compute(const Instruction& instruction);
  Expected<void> run_part(const Instruction& instruction);
  void count(const Instruction& instruction);
  void begin_memory(std::int32_t index);
  void end_memory(std::int32_t index);
  ErrorPlace place_of(const Instruction& instruction) const;
  std::string describe(const Instruction& instruction) const;
  Value take(std::int32_t slot);
  void put(std::int32_t slot, Value value);
  void deliver(std::uint32_t token, Value value);
  void finish(std::int32_t index);
  void announce_change();
  std::int32_t stuck_instruction() const;
  std::int32_t awaited_send_before(std::int32_t message) const;

  const RankProgram& program_;
  std::vector<Stage*> stages_;
  std::vector<Stage*> own_stages_;  // those of this program, each once
  Comm& comm_;
  Column column_;
  Reducer* reducer_;
  CpuDevice cpu_;
  Device& device_;
  const bool asynchronous_;
  MemoryProbe* const probe_;
  // A thread is in sleep_until_change(). Apart from changes_, whose cache line a spinning rank
  // holds.
  std::atomic<bool> asleep_ = false;
  std::vector<Value> slots_;
  std::unique_ptr<std::atomic<bool>[]> done_;  // by instruction: completed, or issued with marks
  std::vector<std::array<Nanoseconds, 2>> times_;
  std::vector<std::array<Mark, 2>> marks_;  // as times_; empty on a synchronous device
  Mark step_begin_;  // of an asynchronous device: behind all that came before the step
  std::atomic<std::size_t> marks_passed_ = 0;  // of instructions 0 … n-1 all marks have passed
  std::array<std::atomic<std::size_t>, 2> next_{};
  std::atomic<std::int32_t> open_messages_ = 0;
  std::int32_t exchanged_ = 0;  // messages and collectives of a step
  std::atomic<std::uint32_t> changes_ = 0;
  std::atomic<bool> failed_ = false;
  bool issues_on_completion_ = false;
  std::atomic<std::uint32_t> advances_asked_ = 0;  // 0: no thread advances the communication lane
  mutable std::mutex error_mutex_;
  std::optional<Error> error_;
  std::vector<EventMemory> memory_;
  Bytes peak_memory_ = 0;
  StepCounts counts_;
  int last_pair_ = -1;
  const Action* last_whole_ = nullptr;  // the I whose parts are being counted
};

}  // namespace plait
