/// One rank's proven program, inverted: what calls the user's module is handed out, all else is
/// done here.
///
///   while ((handed = program.next(outputs)).instruction >= 0)
///     outputs = module(handed.tensors)       of an F; of other instructions nothing comes back
///
/// The instructions run in the order of the list, on the thread that calls next(): that is the
/// order which the proof is about, where a message is posted where it stands and only its reader
/// waits for it. So nothing waits on a thread of its own.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <string>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <vector>

#include "plait/base/units.h"
#include "plait/program/rank_program.h"
#include "plait/torch/autograd_split.h"
#include "python/torch/messages.h"

namespace plait::python {

struct Handed {
  static constexpr std::int64_t kDone = -1;    ///< the step has ended
  static constexpr std::int64_t kNotYet = -2;  ///< it waits: signals may be looked at
  std::int64_t instruction = kDone;            ///< index in the rank's program
  std::vector<at::Tensor> tensors;  ///< the inputs of an F; none at the model's beginning
};

struct ProgramCounts {
  std::int64_t steps = 0;
  std::vector<std::int64_t>
      whole_backwards;  ///< of the last step by stage, I's that ran the whole B
};

/// A step: begin(), then next() until kDone. After an exception the step is lost; begin() starts a
/// new one. One thread at a time.
class Program {
 public:
  /// Throws what is wrong with the schedule. `timeout`: of one wait for another rank.
  Program(RankProgram program, int stages, int microbatches,
          c10::intrusive_ptr<c10d::Backend> backend, Nanoseconds timeout);

  void begin();
  /// `outputs`: of the F that was handed out last: what crosses to the next stage, or of the last
  /// stage the loss. `whole`: the backward of that F is not split. Throws torch's errors, those of
  /// Python inside a backward, and std::runtime_error.
  Handed next(std::vector<at::Tensor> outputs, bool whole);
  /// Instructions that next() hands out before it runs them.
  void stop_before(const std::vector<std::int64_t>& instructions);

  const RankProgram& program() const { return program_; }
  /// "in 2B4", "waits in 3RECV_F5 from rank 1", "has ended its step".
  std::string where() const;
  /// [begin, end] by instruction, of the last step; of a message from its post to its end.
  const std::vector<std::array<Nanoseconds, 2>>& times() const { return times_; }
  ProgramCounts counts() const { return counts_; }

 private:
  struct Slot {
    Crossing crossing;
    SavedSegment saved;
    at::Tensor loss;              // of the last stage: what its seed gradient looks like
    std::vector<bool> gradients;  // by input of the saved graph: it gets one
    bool whole = false;
    SavedWeight weight;
    int message = -1;  // under way, its value is the slot's
  };

  bool wait_for(std::int32_t message);
  bool inputs_are_there(const Instruction& instruction);
  Handed hand_out(const Instruction& instruction);
  void end_forward(const Instruction& instruction, const std::vector<at::Tensor>& outputs,
                   bool whole);
  void run(const Instruction& instruction);
  void run_backward(const Instruction& instruction);
  bool drain();
  Slot& slot(std::int32_t index) { return slots_[static_cast<std::size_t>(index)]; }
  Slot take(std::int32_t index);
  bool ends_model(const Instruction& instruction) const {
    return instruction.action.stage == stages_ - 1;
  }

  RankProgram program_;
  int stages_;
  Messages messages_;
  Nanoseconds timeout_;
  WaitPlace place_;
  std::vector<Slot> slots_;
  std::vector<bool> stops_;
  std::vector<std::array<Nanoseconds, 2>> times_;
  std::size_t position_ = 0;
  bool handed_out_ = false;  // the instruction at position_
  std::int32_t awaited_ = -1;
  Nanoseconds wait_began_ = 0;
  std::vector<at::Tensor> leaves_;  // of the F that was handed out
  ProgramCounts counts_;
};

}  // namespace plait::python
