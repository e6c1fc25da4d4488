#include "plait/runtime/executor.h"

#include <fmt/core.h>

#include <algorithm>
#include <exception>
#include <limits>

#include "plait/base/check.h"
#include "plait/ir/action_text.h"

namespace plait {

Executor::Executor(const RankProgram& program, std::vector<Stage*> stages, Comm& comm,
                   Column column, Reducer* reducer, Device* device)
    : program_(program),
      stages_(std::move(stages)),
      comm_(comm),
      column_(column),
      reducer_(reducer),
      device_(device == nullptr ? cpu_ : *device),
      asynchronous_(device_.asynchronous()),
      probe_(device_.memory()),
      slots_(static_cast<std::size_t>(program.slots)),
      done_(std::make_unique<std::atomic<bool>[]>(program.instructions.size())),
      times_(program.instructions.size()) {
  if (asynchronous_) marks_.resize(times_.size());
  if (probe_ != nullptr) memory_.resize(times_.size());
  for (const std::int32_t index : program.lane(Lane::kCommunication)) {
    const Opcode opcode = program.instructions[static_cast<std::size_t>(index)].opcode;
    exchanged_ += opcode == Opcode::kWaitSend ? 0 : 1;
  }
  // As behind a step: status() is asked of executors that have not begun one.
  for (std::size_t i = 0; i < times_.size(); ++i) done_[i].store(true, std::memory_order_relaxed);
  for (std::size_t lane = 0; lane < next_.size(); ++lane) next_[lane] = program.lanes[lane].size();
  for (const Instruction& instruction : program.instructions) {
    Stage* stage = stages_[static_cast<std::size_t>(instruction.action.stage)];
    if (instruction.lane == Lane::kCompute &&
        std::find(own_stages_.begin(), own_stages_.end(), stage) == own_stages_.end())
      own_stages_.push_back(stage);
  }
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
  // What was held at most before the step is not the step's.
  if (probe_ != nullptr) probe_->take_peak();
  for (Value& slot : slots_) slot.reset();
  if (asynchronous_) {
    device_.forget_marks();
    marks_.assign(marks_.size(), {});
    marks_passed_.store(0, std::memory_order_relaxed);
    step_begin_ = device_.record(Lane::kCompute);
  }
  for (std::size_t i = 0; i < program_.instructions.size(); ++i)
    done_[i].store(false, std::memory_order_relaxed);
  open_messages_.store(exchanged_, std::memory_order_relaxed);
  counts_ = {};
  last_pair_ = -1;
  last_whole_ = nullptr;
  for (auto& next : next_) next.store(0, std::memory_order_release);
}

LaneStatus Executor::advance(Lane lane, int limit) {
  const std::vector<std::int32_t>& order = program_.lane(lane);
  std::atomic<std::size_t>& next = next_[static_cast<std::size_t>(lane)];
  for (int ran = 0;; ++ran) {
    if (failed()) return LaneStatus::kFailed;
    const std::size_t position = next.load(std::memory_order_relaxed);
    if (position == order.size()) return LaneStatus::kDone;
    const std::int32_t index = order[position];
    const Instruction& instruction = program_.instructions[static_cast<std::size_t>(index)];
    const std::int32_t wait = instruction.wait;
    if (wait != kNoWait && !done_[static_cast<std::size_t>(wait)].load(std::memory_order_acquire)) {
      return LaneStatus::kWaiting;
    }
    if (asynchronous_ && awaits_host_numbers(instruction)) return LaneStatus::kWaiting;
    if (ran == limit) return LaneStatus::kReady;
    // A message may complete before its issue returns: count it as issued first.
    if (lane == Lane::kCommunication) next.store(position + 1, std::memory_order_release);
    if (!run(index)) return LaneStatus::kFailed;
    if (lane == Lane::kCompute) next.store(position + 1, std::memory_order_release);
  }
}

bool Executor::awaits_host_numbers(const Instruction& instruction) const {
  if (instruction.in[0] == kNoSlot) return false;
  const Value& value = slots_[static_cast<std::size_t>(instruction.in[0])];
  return value && value->read_on_host() && !device_.passed(value->ready);
}

void Executor::begin_on_device(std::int32_t index) {
  const Instruction& instruction = program_.instructions[static_cast<std::size_t>(index)];
  for (const std::int32_t slot : instruction.in) {
    if (slot == kNoSlot || !slots_[static_cast<std::size_t>(slot)]) continue;
    const Payload& value = *slots_[static_cast<std::size_t>(slot)];
    device_.wait(instruction.lane, value.ready);
    device_.hold(instruction.lane, value);
  }
  // A scatter reads gradients, which are the stage's and in no slot: it waits for the instruction
  // that completes them.
  if (instruction.opcode == Opcode::kReduceScatter && instruction.wait != kNoWait)
    device_.wait(instruction.lane, marks_[static_cast<std::size_t>(instruction.wait)][1]);
  // A gather reads parameters, which were updated before the step. The RESHARD that it waits for
  // has given its room back when it was issued.
  if (instruction.opcode == Opcode::kUnshardGather) device_.wait(instruction.lane, step_begin_);
  marks_[static_cast<std::size_t>(index)][0] = device_.record(instruction.lane);
}

void Executor::mark_outputs(const Instruction& instruction, Mark ready) {
  for (const std::int32_t slot : instruction.out) {
    if (slot != kNoSlot && slots_[static_cast<std::size_t>(slot)])
      slots_[static_cast<std::size_t>(slot)]->ready = ready;
  }
}

bool Executor::run(std::int32_t index) {
  const Instruction& instruction = program_.instructions[static_cast<std::size_t>(index)];
  const bool computes = instruction.lane == Lane::kCompute;
  const LaneScope scope(asynchronous_ ? &device_ : nullptr, instruction.lane);
  if (asynchronous_) begin_on_device(index);
  if (computes) begin_memory(index);
  times_[static_cast<std::size_t>(index)][0] = now();
  Expected<void> result;
  try {
    result =
        computes ? run_compute(instruction) : issue(static_cast<std::uint32_t>(index), instruction);
  } catch (const std::exception& exception) {
    result = fail(ErrorCode::kRuntime, exception.what());
  }
  if (!result) {
    Error error = std::move(result).error();
    const std::string inside = error.where.empty() ? "" : ", " + error.where;
    error.where = fmt::format("rank {} in {}{}", rank(), describe(instruction), inside);
    error.place = place_of(instruction);
    fail_step(error);
    return false;
  }
  if (!computes) return true;
  count(instruction);
  if (asynchronous_) {
    const Mark end = device_.record(instruction.lane);
    marks_[static_cast<std::size_t>(index)][1] = end;
    mark_outputs(instruction, end);
  }
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
    const Message message = message_of(program_, instruction);
    Value value = take(instruction.in[0]);
    // In place: a spec of its own would be lists made anew for each message.
    if (!program_.boundaries.empty() && !value->is_of(spec_of(program_.boundaries, message)))
      PLAIT_TRY_VOID(check_value(program_.boundaries, message, value->spec()));
    comm_.send(message, std::move(value), index, *this);
    return {};
  }
  if (instruction.opcode == Opcode::kRecv) {
    const Message message = message_of(program_, instruction);
    comm_.recv(message, spec_of(program_.boundaries, message), index, *this);
    return {};
  }
  if (instruction.opcode == Opcode::kWaitSend) {
    // advance() has found that the send is over.
    if (asynchronous_) marks_[index][1] = device_.record(instruction.lane);
    times_[index][1] = now();
    finish(static_cast<std::int32_t>(index));
    return {};
  }
  if (!is_exchange(instruction.opcode)) return issue_of_replicas(index, instruction);
  Stage& stage = *stages_[static_cast<std::size_t>(instruction.action.stage)];
  const PartOf which{instruction.part, instruction.action.microbatch};
  Value first = take(instruction.in[0]);
  PLAIT_TRY(ExchangeStart start,
            instruction.opcode == Opcode::kExchange
                ? stage.start_exchange(which, std::move(first), instruction.out[1] != kNoSlot)
                : stage.start_exchange_back(which, std::move(first), take(instruction.in[1])));
  // Before the issue: it may complete before it returns.
  put(instruction.out[0], std::move(start.carried));
  put(instruction.out[1], std::move(start.saved));
  if (asynchronous_) mark_outputs(instruction, device_.record(instruction.lane));
  comm_.collective(collective_of(instruction), std::move(start.exchange), index, *this);
  return {};
}

Expected<void> Executor::issue_of_replicas(std::uint32_t index, const Instruction& instruction) {
  const int stage = instruction.action.stage;
  const auto make = [&]() -> Expected<std::unique_ptr<ExchangeValue>> {
    switch (instruction.opcode) {
      case Opcode::kReduceScatter:
        return reducer_->scatter(stage, instruction.group);
      case Opcode::kUnshardGather:
        return reducer_->unshard(stage, instruction.part, instruction.group);
      default:
        return reducer_->gather(stage, instruction.group, take(instruction.in[0]));
    }
  };
  PLAIT_TRY(std::unique_ptr<ExchangeValue> exchange, make());
  comm_.collective(collective_of(instruction), std::move(exchange), index, *this);
  return {};
}

Expected<void> Executor::run_compute(const Instruction& instruction) {
  if (has_nothing_to_do(instruction.opcode)) return {};
  switch (instruction.opcode) {
    case Opcode::kReduceEnd:
      return reducer_->finish(instruction.action.stage, instruction.group, take(instruction.in[0]));
    case Opcode::kUnshardEnd:
      return reducer_->end_unshard(instruction.action.stage, instruction.part, instruction.group,
                                   take(instruction.in[0]));
    case Opcode::kReshardFree:
      return reducer_->reshard(instruction.action.stage, instruction.part);
    default:
      return run_part(instruction);
  }
}

Expected<void> Executor::run_part(const Instruction& instruction) {
  Stage& stage = *stages_[static_cast<std::size_t>(instruction.action.stage)];
  const PartOf which{instruction.part, instruction.action.microbatch};
  switch (instruction.opcode) {
    case Opcode::kForward: {
      PLAIT_TRY(ForwardResult result,
                stage.forward(which, take(instruction.in[0]), !program_.forward_only));
      put(instruction.out[0], std::move(result.output));
      put(instruction.out[1], std::move(result.saved));
      return {};
    }
    case Opcode::kBackwardInput: {
      Value saved = take(instruction.in[0]);
      PLAIT_TRY(BackwardInputResult result,
                stage.backward_input(which, std::move(saved), take(instruction.in[1])));
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
      PLAIT_TRY(Value saved, stage.recompute(which, take(instruction.in[0])));
      put(instruction.out[0], std::move(saved));
      return {};
    }
    case Opcode::kBackwardWeight:
      return stage.backward_weight(which, take(instruction.in[0]));
    case Opcode::kBackward: {
      Value saved = take(instruction.in[0]);
      PLAIT_TRY(Value gradient, stage.backward(which, std::move(saved), take(instruction.in[1])));
      put(instruction.out[0], std::move(gradient));
      return {};
    }
    default:
      PLAIT_CHECK(false, "what the communication lane does is issued, not run");
  }
}

ErrorPlace Executor::place_of(const Instruction& instruction) const {
  return {.rank = rank(), .action = print_action(instruction.action), .peer = instruction.peer};
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

// Either this thread sees asleep_, or the sleeper sees the change: both stores and both loads are
// in one order. A notify_all() at every change would also look for sleepers in the library's table
// of places, by address, which executors share.
void Executor::announce_change() {
  changes_.fetch_add(1, std::memory_order_seq_cst);
  if (asleep_.load(std::memory_order_seq_cst)) changes_.notify_all();
}

void Executor::sleep_until_change(std::uint32_t seen) {
  asleep_.store(true, std::memory_order_seq_cst);
  changes_.wait(seen, std::memory_order_seq_cst);
  asleep_.store(false, std::memory_order_relaxed);
}

void Executor::finish(std::int32_t index) {
  done_[static_cast<std::size_t>(index)].store(true, std::memory_order_release);
  announce_change();
}

void Executor::completed(std::uint32_t token, Expected<Value> result) noexcept {
  if (result) return deliver(token, *std::move(result));
  Error error = std::move(result).error();
  if (error.where.empty()) {
    error.where =
        fmt::format("rank {} waited in {}", rank(), describe(program_.instructions[token]));
    error.place = place_of(program_.instructions[token]);
  }
  fail_step(error);
}

void Executor::issued(std::uint32_t token, Value value, Mark end) noexcept {
  marks_[token][1] = end;
  if (value) value->ready = end;
  deliver(token, std::move(value));
}

void Executor::deliver(std::uint32_t token, Value value) {
  const Instruction& instruction = program_.instructions[token];
  if (is_exchange(instruction.opcode)) {
    Stage& stage = *stages_[static_cast<std::size_t>(instruction.action.stage)];
    Value carried = take(instruction.out[0]);
    // What came has been written behind what was carried, if its comm works on the device.
    const Mark ready = value->ready || !carried ? value->ready : carried->ready;
    value = stage.end_exchange(std::move(carried), std::move(value));
    value->ready = ready;
  }
  put(instruction.out[0], std::move(value));
  times_[token][1] = now();
  finish(static_cast<std::int32_t>(token));
}

// begin_step() never races with a thread T of another rank or of a comm that issues in settled():
//
//   T: advance_communication() returns
//      -> T: open_messages_.fetch_sub (release; the later ones are in its release sequence)
//      -> rank's thread: finished() reads 0 (acquire)
//      -> rank's thread: begin_step() resets slots_, done_ and next_
//
// The count is above 0 as long as a message of the step has not got this far, whoever issued it. A
// T that found the lane held (advances_asked_ > 1) has touched nothing of the step; the thread that
// holds it is the rank's own, or counts down a message of its own later. What T does after its
// fetch_sub touches changes_ and asleep_ alone, which no step resets: at worst a waiting thread
// looks once more.
void Executor::settled() noexcept {
  if (issues_on_completion_) advance_communication();
  if (open_messages_.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  announce_change();
}

// A combining lock. advances_asked_ counts the calls since the lane was last idle. A caller that
// finds it above 0 only adds its 1: the thread that holds the lane advances it anew until no call
// was added meanwhile, and then sets it to 0.
void Executor::advance_communication() {
  if (!issues_on_completion_) {  // the rank's thread alone comes here
    advance(Lane::kCommunication, -1);
    return;
  }
  std::uint32_t asked = advances_asked_.fetch_add(1, std::memory_order_acq_rel) + 1;
  if (asked != 1) return;
  do {
    advance(Lane::kCommunication, -1);
  } while (!advances_asked_.compare_exchange_strong(asked, 0, std::memory_order_acq_rel));
}

bool Executor::finished() {
  for (const Lane lane : {Lane::kCompute, Lane::kCommunication}) {
    if (next_[static_cast<std::size_t>(lane)].load(std::memory_order_acquire) !=
        program_.lane(lane).size())
      return false;
  }
  return open_messages_.load(std::memory_order_acquire) == 0 && (!asynchronous_ || marks_passed());
}

bool Executor::waits_for_marks() const {
  if (!asynchronous_) return false;
  bool all_issued = open_messages_.load(std::memory_order_acquire) == 0;
  for (const Lane lane : {Lane::kCompute, Lane::kCommunication}) {
    const std::vector<std::int32_t>& order = program_.lane(lane);
    const std::size_t next = next_[static_cast<std::size_t>(lane)].load(std::memory_order_acquire);
    if (next == order.size()) continue;
    all_issued = false;
    const Instruction& head = program_.instructions[static_cast<std::size_t>(order[next])];
    const bool waits = head.wait != kNoWait &&
                       !done_[static_cast<std::size_t>(head.wait)].load(std::memory_order_acquire);
    if (!waits && awaits_host_numbers(head)) return true;
  }
  return all_issued;
}

bool Executor::marks_passed() {
  std::size_t index = marks_passed_.load(std::memory_order_relaxed);
  const std::size_t before = index;
  while (index < marks_.size() && device_.passed(marks_[index][1])) ++index;
  if (index != before) {
    marks_passed_.store(index, std::memory_order_release);
    announce_change();  // the watchdog sees that the device goes on
  }
  return index == marks_.size();
}

Expected<void> Executor::end_step() {
  for (std::size_t i = 0; i < marks_.size(); ++i) {
    for (const std::size_t end : {0U, 1U}) {
      if (marks_[i][end]) times_[i][end] = device_.when(marks_[i][end]);
    }
    // A value may have been handed over before the lane came to its receive.
    times_[i][0] = std::min(times_[i][0], times_[i][1]);
  }
  for (Stage* stage : own_stages_) {
    Expected<void> ended;
    try {
      ended = stage->end_step();
    } catch (const std::exception& exception) {
      ended = fail(ErrorCode::kRuntime, exception.what());
    }
    if (ended) continue;
    Error error = std::move(ended).error();
    if (error.where.empty()) error.where = fmt::format("rank {} at the end of the step", rank());
    fail_step(error);
    return tl::unexpected<Error>(std::move(error));
  }
  return {};
}

void Executor::fail_step(const Error& error) {
  {
    const std::lock_guard lock(error_mutex_);
    if (!error_) error_ = error;
  }
  failed_.store(true, std::memory_order_release);
  announce_change();
}

Error Executor::error() const {
  const std::lock_guard lock(error_mutex_);
  return error_.value_or(Error{});
}

// The instruction that holds the rank up: from the head of the compute lane along the waits to the
// first instruction that is not itself waiting. Behind all compute: the oldest message that has not
// completed; behind all messages: the oldest instruction whose mark has not passed. Example:
// 2B4 waits for 2RECV_B4, which waits for no instruction: the rank waits in 2RECV_B4.
std::int32_t Executor::stuck_instruction() const {
  const std::vector<std::int32_t>& compute = program_.lane(Lane::kCompute);
  const std::size_t next = next_[0].load(std::memory_order_acquire);
  if (next < compute.size()) {
    std::int32_t index = compute[next];
    while (true) {
      const std::int32_t wait = program_.instructions[static_cast<std::size_t>(index)].wait;
      if (wait == kNoWait || done_[static_cast<std::size_t>(wait)].load(std::memory_order_acquire))
        return index;
      index = wait;
      if (const std::int32_t held_up = awaited_send_before(index); held_up >= 0) return held_up;
    }
  }
  for (const std::int32_t index : program_.lane(Lane::kCommunication)) {
    if (!done_[static_cast<std::size_t>(index)].load(std::memory_order_acquire)) return index;
  }
  const std::size_t passed = marks_passed_.load(std::memory_order_acquire);
  if (passed < marks_.size()) return static_cast<std::int32_t>(passed);
  return -1;
}

// A message that is not issued yet may stand behind a WAIT_SEND.
std::int32_t Executor::awaited_send_before(std::int32_t message) const {
  const std::vector<std::int32_t>& order = program_.lane(Lane::kCommunication);
  const std::size_t next = next_[1].load(std::memory_order_acquire);
  if (next >= order.size() || order[next] > message) return -1;
  const Opcode heads = program_.instructions[static_cast<std::size_t>(order[next])].opcode;
  return heads == Opcode::kWaitSend ? order[next] : -1;
}

std::string Executor::status() const {
  const Doing now = doing();
  if (!now.in_step) return "has ended its step";
  return (now.computes ? "is in " : "waits in ") + now.instruction;
}

Executor::Doing Executor::doing() const {
  const std::int32_t index = stuck_instruction();
  if (index < 0) return {};
  const Instruction& instruction = program_.instructions[static_cast<std::size_t>(index)];
  Doing now{true, instruction.lane == Lane::kCompute, describe(instruction), -1, {}};
  if (instruction.peer >= 0) {
    now.awaited_rank = column_.rank_of(instruction.peer);
  } else if (!now.computes) {
    now.awaited_group = instruction.group;
  }
  return now;
}

std::vector<std::string> Executor::last_completed(std::size_t most) const {
  std::vector<std::size_t> completed;
  Nanoseconds first = std::numeric_limits<Nanoseconds>::max();
  for (std::size_t i = 0; i < times_.size(); ++i) {
    // On an asynchronous device "done" is "issued", and times are read when the step has ended.
    if (!done_[i].load(std::memory_order_acquire)) continue;
    completed.push_back(i);
    first = std::min(first, times_[i][0]);
  }
  std::stable_sort(completed.begin(), completed.end(),
                   [&](std::size_t a, std::size_t b) { return times_[a][1] < times_[b][1]; });
  if (completed.size() > most)
    completed.erase(completed.begin(), completed.end() - static_cast<std::ptrdiff_t>(most));
  std::vector<std::string> lines;
  for (const std::size_t i : completed) {
    lines.push_back(fmt::format(
        "{:10.3f} … {:10.3f} ms  {}", static_cast<double>(times_[i][0] - first) / 1e6,
        static_cast<double>(times_[i][1] - first) / 1e6, describe(program_.instructions[i])));
  }
  return lines;
}

}  // namespace plait
