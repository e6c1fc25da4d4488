#include "plait/runtime/executor.h"

#include <fmt/core.h>

#include <algorithm>
#include <exception>

#include "plait/base/check.h"

namespace plait {

Executor::Executor(const RankProgram& program, std::vector<Stage*> stages, Comm& comm,
                   Column column, Reducer* reducer)
    : program_(program),
      stages_(std::move(stages)),
      comm_(comm),
      column_(column),
      reducer_(reducer),
      slots_(static_cast<std::size_t>(program.slots)),
      done_(std::make_unique<std::atomic<bool>[]>(program.instructions.size())),
      times_(program.instructions.size()) {}

void Executor::watch_memory(MemoryProbe& probe) {
  probe_ = &probe;
  memory_.resize(program_.instructions.size());
}

void Executor::begin_memory(std::int32_t index) {
  if (probe_ == nullptr) return;
  peak_memory_ = std::max(peak_memory_, probe_->take_peak());
  memory_[static_cast<std::size_t>(index)].before = probe_->live();
}

void Executor::end_memory(std::int32_t index) {
  if (probe_ == nullptr) return;
  EventMemory& memory = memory_[static_cast<std::size_t>(index)];
  memory.peak = probe_->take_peak();
  memory.after = probe_->live();
  peak_memory_ = std::max(peak_memory_, memory.peak);
}

void Executor::begin_step() {
  peak_memory_ = 0;
  if (probe_ != nullptr) probe_->take_peak();  // what was before the step is none of its
  for (Value& slot : slots_) slot.reset();
  for (std::size_t i = 0; i < program_.instructions.size(); ++i)
    done_[i].store(false, std::memory_order_relaxed);
  for (auto& next : next_) next.store(0, std::memory_order_relaxed);
  open_messages_.store(static_cast<std::int32_t>(program_.lane(Lane::kCommunication).size()),
                       std::memory_order_relaxed);
  counts_ = {};
  last_pair_ = -1;
  last_whole_ = nullptr;
  in_step_.store(true, std::memory_order_release);
}

LaneStatus Executor::advance(Lane lane, int limit) {
  const std::vector<std::int32_t>& order = program_.lane(lane);
  std::atomic<std::size_t>& next = next_[static_cast<std::size_t>(lane)];
  for (int ran = 0;; ++ran) {
    if (failed()) return LaneStatus::kFailed;
    const std::size_t position = next.load(std::memory_order_relaxed);
    if (position == order.size()) return LaneStatus::kDone;
    const std::int32_t index = order[position];
    const std::int32_t wait = program_.instructions[static_cast<std::size_t>(index)].wait;
    if (wait != kNoWait && !done_[static_cast<std::size_t>(wait)].load(std::memory_order_acquire)) {
      return LaneStatus::kWaiting;
    }
    if (ran == limit) return LaneStatus::kReady;
    // A message may complete before its issue returns: count it as issued first.
    if (lane == Lane::kCommunication) next.store(position + 1, std::memory_order_release);
    if (!run(index)) return LaneStatus::kFailed;
    if (lane == Lane::kCompute) next.store(position + 1, std::memory_order_release);
  }
}

bool Executor::run(std::int32_t index) {
  const Instruction& instruction = program_.instructions[static_cast<std::size_t>(index)];
  const bool computes = instruction.lane == Lane::kCompute;
  if (computes) begin_memory(index);
  times_[static_cast<std::size_t>(index)][0] = now();
  if (computes) in_compute_.store(true, std::memory_order_relaxed);
  Expected<void> result;
  try {
    result =
        computes ? run_compute(instruction) : issue(static_cast<std::uint32_t>(index), instruction);
  } catch (const std::exception& exception) {
    result = fail(ErrorCode::kRuntime, exception.what());
  }
  if (computes) in_compute_.store(false, std::memory_order_relaxed);
  if (!result) {
    Error error = std::move(result).error();
    const std::string inside = error.where.empty() ? "" : ", " + error.where;
    error.where = fmt::format("rank {} in {}{}", rank(), describe(instruction), inside);
    fail_step(error);
    return false;
  }
  if (!computes) return true;
  count(instruction);
  times_[static_cast<std::size_t>(index)][1] = now();
  end_memory(index);
  finish(index);
  return true;
}

void Executor::count(const Instruction& instruction) {
  if (instruction.pair >= 0 && instruction.pair != last_pair_)
    ++(instruction.braided ? counts_.pairs_braided : counts_.pairs_in_sequence);
  last_pair_ = instruction.pair;
}

Expected<void> Executor::issue(std::uint32_t index, const Instruction& instruction) {
  if (instruction.opcode == Opcode::kSend) {
    comm_.send(message_of(program_, instruction), take(instruction.in[0]), index, *this);
    return {};
  }
  if (instruction.opcode == Opcode::kRecv) {
    comm_.recv(message_of(program_, instruction), index, *this);
    return {};
  }
  if (!is_exchange(instruction.opcode)) return issue_reduction(index, instruction);
  Stage& stage = *stages_[static_cast<std::size_t>(instruction.action.stage)];
  const PartOf at{instruction.part, instruction.action.microbatch};
  Value first = take(instruction.in[0]);
  PLAIT_TRY(ExchangeStart start,
            instruction.opcode == Opcode::kExchange
                ? stage.start_exchange(at, std::move(first), instruction.out[1] != kNoSlot)
                : stage.start_exchange_back(at, std::move(first), take(instruction.in[1])));
  // Before the issue: it may complete before it returns.
  put(instruction.out[0], std::move(start.carried));
  put(instruction.out[1], std::move(start.saved));
  comm_.all_to_all(collective_of(instruction), std::move(start.exchange), index, *this);
  return {};
}

Expected<void> Executor::issue_reduction(std::uint32_t index, const Instruction& instruction) {
  const int stage = instruction.action.stage;
  PLAIT_TRY(std::unique_ptr<ExchangeValue> exchange,
            instruction.opcode == Opcode::kReduceScatter
                ? reducer_->scatter(stage, instruction.group)
                : reducer_->gather(stage, instruction.group, take(instruction.in[0])));
  comm_.all_to_all(collective_of(instruction), std::move(exchange), index, *this);
  return {};
}

Expected<void> Executor::run_compute(const Instruction& instruction) {
  if (instruction.opcode == Opcode::kReduceEnd) {
    return reducer_->finish(instruction.action.stage, instruction.group, take(instruction.in[0]));
  }
  Stage& stage = *stages_[static_cast<std::size_t>(instruction.action.stage)];
  const PartOf at{instruction.part, instruction.action.microbatch};
  switch (instruction.opcode) {
    case Opcode::kForward: {
      PLAIT_TRY(ForwardResult result,
                stage.forward(at, take(instruction.in[0]), !program_.forward_only));
      put(instruction.out[0], std::move(result.output));
      put(instruction.out[1], std::move(result.saved));
      return {};
    }
    case Opcode::kBackwardInput: {
      Value saved = take(instruction.in[0]);
      PLAIT_TRY(BackwardInputResult result,
                stage.backward_input(at, std::move(saved), take(instruction.in[1])));
      put(instruction.out[0], std::move(result.input_gradient));
      put(instruction.out[1], std::move(result.saved_for_weight));
      if (result.whole && instruction.action.type == ActionType::kBackwardInput &&
          (last_whole_ == nullptr || *last_whole_ != instruction.action)) {
        last_whole_ = &instruction.action;
        ++counts_.whole_backwards;
      }
      return {};
    }
    case Opcode::kRecompute: {
      PLAIT_TRY(Value saved, stage.recompute(at, take(instruction.in[0])));
      put(instruction.out[0], std::move(saved));
      return {};
    }
    case Opcode::kBackwardWeight:
      return stage.backward_weight(at, take(instruction.in[0]));
    case Opcode::kBackward: {
      Value saved = take(instruction.in[0]);
      PLAIT_TRY(Value gradient, stage.backward(at, std::move(saved), take(instruction.in[1])));
      put(instruction.out[0], std::move(gradient));
      return {};
    }
    default:
      PLAIT_CHECK(false, "what the communication lane does is issued, not run");
  }
}

std::string Executor::describe(const Instruction& instruction) const {
  return plait::describe(program_, instruction, column_);
}

Value Executor::take(std::int32_t slot) {
  return slot == kNoSlot ? nullptr : std::move(slots_[static_cast<std::size_t>(slot)]);
}

void Executor::put(std::int32_t slot, Value value) {
  if (slot != kNoSlot) slots_[static_cast<std::size_t>(slot)] = std::move(value);
}

void Executor::finish(std::int32_t index) {
  done_[static_cast<std::size_t>(index)].store(true, std::memory_order_release);
  changes_.fetch_add(1, std::memory_order_acq_rel);
  changes_.notify_all();
}

void Executor::completed(std::uint32_t token, Expected<Value> result) noexcept {
  const Instruction& instruction = program_.instructions[token];
  if (!result) {
    Error error = std::move(result).error();
    if (error.where.empty())
      error.where = fmt::format("rank {} waited in {}", rank(), describe(instruction));
    fail_step(error);
    return;
  }
  if (is_exchange(instruction.opcode)) {
    Stage& stage = *stages_[static_cast<std::size_t>(instruction.action.stage)];
    put(instruction.out[0], stage.end_exchange(take(instruction.out[0]), *std::move(result)));
  } else {
    put(instruction.out[0], *std::move(result));
  }
  times_[token][1] = now();
  done_[token].store(true, std::memory_order_release);
  changes_.fetch_add(1, std::memory_order_acq_rel);
  changes_.notify_all();
}

void Executor::settled() noexcept {
  if (chains_) advance_communication();
  // With the last message the step may be over and the next one begin: from here on nothing of this
  // step is touched.
  if (open_messages_.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  changes_.fetch_add(1, std::memory_order_acq_rel);
  changes_.notify_all();
}

void Executor::advance_communication() {
  // Who finds somebody at it leaves word; who is at it goes on until no word was left meanwhile.
  std::uint32_t asked = advances_asked_.fetch_add(1, std::memory_order_acq_rel) + 1;
  if (asked != 1) return;
  do {
    advance(Lane::kCommunication, -1);
  } while (!advances_asked_.compare_exchange_strong(asked, 0, std::memory_order_acq_rel));
}

bool Executor::finished() const {
  for (const Lane lane : {Lane::kCompute, Lane::kCommunication}) {
    if (next_[static_cast<std::size_t>(lane)].load(std::memory_order_acquire) !=
        program_.lane(lane).size())
      return false;
  }
  return open_messages_.load(std::memory_order_acquire) == 0;
}

void Executor::fail_step(const Error& error) {
  {
    const std::lock_guard lock(error_mutex_);
    if (!error_) error_ = error;
  }
  failed_.store(true, std::memory_order_release);
  changes_.fetch_add(1, std::memory_order_acq_rel);
  changes_.notify_all();
}

Error Executor::error() const {
  const std::lock_guard lock(error_mutex_);
  return error_.value_or(Error{});
}

std::int32_t Executor::stuck_instruction() const {
  // The awaited instruction says more than the one that waits, and of those the one that could run;
  // if all compute is over, what is left is the oldest message that has not completed.
  const std::vector<std::int32_t>& compute = program_.lane(Lane::kCompute);
  const std::size_t next = next_[0].load(std::memory_order_acquire);
  if (next < compute.size()) {
    std::int32_t index = compute[next];
    while (true) {
      const std::int32_t wait = program_.instructions[static_cast<std::size_t>(index)].wait;
      if (wait == kNoWait || done_[static_cast<std::size_t>(wait)].load(std::memory_order_acquire))
        return index;
      index = wait;
    }
  }
  for (const std::int32_t index : program_.lane(Lane::kCommunication)) {
    if (!done_[static_cast<std::size_t>(index)].load(std::memory_order_acquire)) return index;
  }
  return -1;
}

std::string Executor::status() const {
  const std::int32_t index = in_step_.load(std::memory_order_acquire) ? stuck_instruction() : -1;
  if (index < 0) return "has ended its step";
  const Instruction& instruction = program_.instructions[static_cast<std::size_t>(index)];
  return (instruction.lane == Lane::kCompute ? "is in " : "waits in ") + describe(instruction);
}

int Executor::awaited_rank() const {
  const std::int32_t index = in_step_.load(std::memory_order_acquire) ? stuck_instruction() : -1;
  if (index < 0) return -1;
  const std::int32_t peer = program_.instructions[static_cast<std::size_t>(index)].peer;
  return peer < 0 ? -1 : column_.rank_of(peer);
}

}  // namespace plait
