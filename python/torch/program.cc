#include "python/torch/program.h"

#include <ATen/ops/ones_like.h>
#include <fmt/format.h>

#include <stdexcept>
#include <utility>

#include "plait/base/print.h"

namespace plait::python {
namespace {

bool is_message(Opcode opcode) { return opcode == Opcode::kSend || opcode == Opcode::kRecv; }

}  // namespace

Program::Program(RankProgram program, int stages, int microbatches,
                 c10::intrusive_ptr<c10d::Backend> backend, Nanoseconds timeout)
    : program_(std::move(program)),
      stages_(stages),
      messages_(std::move(backend), stages, microbatches),
      timeout_(timeout),
      slots_(static_cast<std::size_t>(program_.slots)),
      stops_(program_.instructions.size()),
      times_(program_.instructions.size()),
      position_(program_.instructions.size()) {}

void Program::stop_before(const std::vector<std::int64_t>& instructions) {
  for (const std::int64_t index : instructions) stops_.at(static_cast<std::size_t>(index)) = true;
}

void Program::begin() {
  for (Slot& one : slots_) one = {};
  leaves_.clear();
  messages_.begin_step();
  position_ = 0;
  handed_out_ = false;
  awaited_ = -1;
  counts_.whole_backwards.assign(static_cast<std::size_t>(stages_), 0);
  ++counts_.steps;
  place_.begin_step();
}

std::string Program::where() const {
  if (awaited_ >= 0) {
    return "waits in " +
           describe(program_, program_.instructions[static_cast<std::size_t>(awaited_)], {});
  }
  if (position_ >= program_.instructions.size()) return "has ended its step";
  return "in " + describe(program_, program_.instructions[position_], {});
}

bool Program::wait_for(std::int32_t message) {
  if (awaited_ != message) wait_began_ = now();
  awaited_ = message;
  bool over = false;
  try {
    over = messages_.wait(message, place_);
  } catch (const std::exception& exception) {
    throw std::runtime_error(fmt::format("rank {} waited {}: {}", program_.rank, where().substr(6),
                                         first_line(exception.what())));
  }
  if (!over) {
    if (now() - wait_began_ < timeout_) return false;
    throw std::runtime_error(fmt::format("rank {} waited {} s {}", program_.rank,
                                         timeout_ / 1'000'000'000, where().substr(6)));
  }
  awaited_ = -1;
  times_[static_cast<std::size_t>(message)][1] = now();
  return true;
}

bool Program::inputs_are_there(const Instruction& instruction) {
  if (instruction.opcode == Opcode::kWaitSend) {
    // Its peer may post what it receives only when it reads, where this step's shapes are new to
    // it. So what is awaited for its memory alone is not awaited longer than once.
    wait_for(instruction.wait);
    awaited_ = -1;
    return true;
  }
  for (const std::int32_t index : instruction.in) {
    if (index == kNoSlot || slot(index).message < 0) continue;
    if (!wait_for(slot(index).message)) return false;
    const int message = std::exchange(slot(index).message, -1);
    slot(index).crossing = messages_.take(message);
  }
  return true;
}

Handed Program::next(std::vector<at::Tensor> outputs, bool whole) {
  const std::vector<Instruction>& instructions = program_.instructions;
  if (handed_out_ && instructions[position_].opcode == Opcode::kForward) {
    end_forward(instructions[position_], outputs, whole);
    ++position_;
    handed_out_ = false;
  }
  outputs.clear();
  for (; position_ < instructions.size(); ++position_) {
    const Instruction& instruction = instructions[position_];
    const bool handed = std::exchange(handed_out_, false);
    if (!inputs_are_there(instruction)) return {Handed::kNotYet, {}};
    if (!handed) times_[position_][0] = now();
    if (instruction.opcode == Opcode::kForward) return hand_out(instruction);
    if ((stops_[position_] || has_nothing_to_do(instruction.opcode)) && !handed) {
      handed_out_ = true;
      return {static_cast<std::int64_t>(position_), {}};
    }
    run(instruction);
    if (!is_message(instruction.opcode)) times_[position_][1] = now();
  }
  return {drain() ? Handed::kDone : Handed::kNotYet, {}};
}

bool Program::drain() {
  while (const std::optional<int> message = messages_.oldest()) {
    if (!wait_for(*message)) return false;
  }
  place_.end_step();
  return true;
}

Program::Slot Program::take(std::int32_t index) {
  if (index == kNoSlot) return {};
  return std::exchange(slot(index), {});
}

Handed Program::hand_out(const Instruction& instruction) {
  Crossing input = take(instruction.in[0]).crossing;
  leaves_.clear();
  for (std::size_t i = 0; i < input.tensors.size(); ++i) {
    at::Tensor leaf = input.tensors[i].detach();
    if (!program_.forward_only && input.has_gradient[i]) leaf.set_requires_grad(true);
    leaves_.push_back(std::move(leaf));
  }
  handed_out_ = true;
  return {static_cast<std::int64_t>(position_), leaves_};
}

void Program::end_forward(const Instruction& instruction, const std::vector<at::Tensor>& outputs,
                          bool whole) {
  const std::vector<at::Tensor> leaves = std::exchange(leaves_, {});
  if (ends_model(instruction) && !program_.forward_only &&
      (outputs.size() != 1 || !outputs[0].defined() || outputs[0].numel() != 1))
    throw std::runtime_error("the loss of the last stage is not one tensor of one number");
  Crossing output;
  if (instruction.out[1] == kNoSlot) {
    for (const at::Tensor& one : outputs) output.tensors.push_back(one.contiguous().detach());
    output.has_gradient.assign(outputs.size(), false);
  } else {
    SegmentForward forward = save_forward(leaves, outputs);
    output.tensors = std::move(forward.outputs);
    for (const at::Tensor& one : outputs) output.has_gradient.push_back(one.requires_grad());
    Slot& saved = slot(instruction.out[1]);
    saved.saved = std::move(forward.saved);
    saved.whole = whole;
    for (const at::Tensor& leaf : leaves) saved.gradients.push_back(leaf.requires_grad());
    if (ends_model(instruction)) saved.loss = output.tensors[0];
  }
  if (instruction.out[0] != kNoSlot) slot(instruction.out[0]).crossing = std::move(output);
  times_[position_][1] = now();
}

void Program::run(const Instruction& instruction) {
  const int token = static_cast<int>(position_);
  switch (instruction.opcode) {
    case Opcode::kSend:
      return messages_.send(message_of(program_, instruction), take(instruction.in[0]).crossing,
                            token);
    case Opcode::kRecv:
      messages_.recv(message_of(program_, instruction), token);
      slot(instruction.out[0]).message = token;
      return;
    case Opcode::kBackward:
    case Opcode::kBackwardInput:
      return run_backward(instruction);
    case Opcode::kBackwardWeight:
      return backward_weight(take(instruction.in[0]).weight);
    case Opcode::kWaitSend:
    case Opcode::kReduceNothing:
    case Opcode::kUnshard:
    case Opcode::kReshard:
      return;
    default:
      throw std::runtime_error(
          fmt::format("{} cannot run from Python", describe(program_, instruction, {})));
  }
}

void Program::run_backward(const Instruction& instruction) {
  Slot saved = take(instruction.in[0]);
  std::vector<at::Tensor> gradients = take(instruction.in[1]).crossing.tensors;
  std::int64_t& whole = counts_.whole_backwards[static_cast<std::size_t>(instruction.action.stage)];
  if (saved.loss.defined()) gradients = {at::ones_like(saved.loss)};
  if (instruction.opcode == Opcode::kBackward) {
    gradients = backward(std::move(saved.saved), std::move(gradients));
  } else if (saved.whole) {
    gradients = backward(std::move(saved.saved), std::move(gradients));
    ++whole;
  } else {
    SegmentBackwardInput input = backward_input(std::move(saved.saved), std::move(gradients));
    gradients = std::move(input.input_gradients);
    whole += input.whole ? 1 : 0;
    slot(instruction.out[1]).weight = std::move(input.saved);
  }
  if (instruction.out[0] == kNoSlot) return;
  slot(instruction.out[0]).crossing = {std::move(gradients), std::move(saved.gradients)};
}

}  // namespace plait::python
