#include "plait/program/peak_memory.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <tuple>

#include "plait/base/check.h"
#include "plait/ir/direction.h"

namespace plait {
namespace {

using Index = std::int32_t;

/// A vector clock: what one instruction knows when it begins. Each component is the length of a
/// prefix of a lane:
///   [2 r]      compute instructions of rank r that have ended
///   [2 r + 1]  communication instructions of rank r that have been issued
///   [2 P]      compute instructions that every member of this rank's expert group has ended
/// Example of two ranks: {3, 1, 0, 0, 0} knows that rank 0 has ended its first three compute
/// instructions and issued its first message, and nothing of rank 1.
using Clock = std::vector<Index>;

void join(Clock& clock, const Clock& other) {
  for (std::size_t i = 0; i < clock.size(); ++i) clock[i] = std::max(clock[i], other[i]);
}

/// What it holds is no activation.
bool is_of_replicas(const Instruction& instruction) {
  return is_reduction(instruction.action.type) || is_sharding(instruction.action.type);
}

std::size_t own(int rank, Lane lane) {
  return 2 * static_cast<std::size_t>(rank) + static_cast<std::size_t>(lane);
}

/// Source, destination, direction, sender's stage, micro-batch.
using MessageName = std::tuple<int, int, Direction, int, int>;
MessageName name_of(const Message& message) {
  return {message.source, message.destination, message.direction, message.sender_stage,
          message.microbatch};
}

/// The clock of every instruction, by Lamport's order of events: each lane's clock grows along the
/// lane, and at a wait takes over what the awaited instruction knew. A checked program always gets
/// to its end.
class Clocks {
 public:
  explicit Clocks(const std::vector<RankProgram>& programs)
      : programs_(programs), size_(2 * programs.size() + 1) {
    begins_.resize(programs.size());
    next_.resize(programs.size());
    for (const RankProgram& program : programs) {
      begins_[rank_index(program)].resize(program.instructions.size());
      for (std::size_t i = 0; i < program.instructions.size(); ++i) note_message(program, i);
    }
    while (advance_all()) {
    }
    for (const RankProgram& program : programs) {
      for (const Clock& clock : begins_[rank_index(program)])
        PLAIT_CHECK(!clock.empty(), "a checked program runs to its end");
    }
  }

  const Clock& begin(int rank, Index instruction) const {
    return begins_[static_cast<std::size_t>(rank)][static_cast<std::size_t>(instruction)];
  }
  /// How much of its compute lane the receiver has ended when what was sent has been read.
  Index reader_of(const Message& message) const { return readers_.at(name_of(message)); }

 private:
  void note_message(const RankProgram& program, std::size_t index) {
    const Instruction& instruction = program.instructions[index];
    if (instruction.opcode == Opcode::kSend)
      sends_[name_of(message_of(program, instruction))] = {rank_index(program), index};
    if (instruction.lane != Lane::kCompute || instruction.wait == kNoWait) return;
    const Instruction& from = program.instructions[static_cast<std::size_t>(instruction.wait)];
    if (from.opcode != Opcode::kRecv) return;
    const auto& order = program.lane(Lane::kCompute);
    const auto at = std::lower_bound(order.begin(), order.end(), static_cast<Index>(index));
    readers_[name_of(message_of(program, from))] = static_cast<Index>(at - order.begin() + 1);
  }
  static std::size_t rank_index(const RankProgram& program) {
    return static_cast<std::size_t>(program.rank);
  }

  bool advance_all() {
    bool moved = false;
    for (const RankProgram& program : programs_) {
      for (const Lane lane : {Lane::kCompute, Lane::kCommunication}) {
        while (advance(program, lane)) moved = true;
      }
    }
    return moved;
  }

  bool advance(const RankProgram& program, Lane lane) {
    auto& position = next_[rank_index(program)][static_cast<std::size_t>(lane)];
    const std::vector<Index>& order = program.lane(lane);
    if (position == order.size()) return false;
    const Index index = order[position];
    Clock clock(size_, 0);
    if (position > 0) clock = begin(program.rank, order[position - 1]);
    clock[own(program.rank, lane)] = static_cast<Index>(position);
    const Index wait = program.instructions[static_cast<std::size_t>(index)].wait;
    if (wait != kNoWait && !join_end(program, wait, clock)) return false;
    begins_[rank_index(program)][static_cast<std::size_t>(index)] = std::move(clock);
    ++position;
    return true;
  }

  /// What is known once `index` has completed. False if that is not known yet.
  bool join_end(const RankProgram& program, Index index, Clock& clock) const {
    const Instruction& instruction = program.instructions[static_cast<std::size_t>(index)];
    const Clock& begun = begin(program.rank, index);
    if (begun.empty()) return false;
    if (instruction.opcode == Opcode::kRecv) {
      const auto [rank, send] = sends_.at(name_of(message_of(program, instruction)));
      const Clock& sent = begins_[rank][send];
      if (sent.empty()) return false;
      const Index members = clock.back();
      join(clock, sent);
      clock.back() = members;  // the sender's group is another
    }
    const Index members = std::max(clock.back(), begun.back());
    join(clock, begun);
    clock.back() = members;
    if (is_exchange(instruction.opcode)) {
      // It ends when all members have issued it, of whom each had ended as much as this rank had.
      clock.back() = std::max(members, begun[own(program.rank, Lane::kCompute)]);
    }
    const auto& order = program.lane(instruction.lane);
    const auto at = std::lower_bound(order.begin(), order.end(), index) - order.begin();
    Index& over = clock[own(program.rank, instruction.lane)];
    over = std::max(over, static_cast<Index>(at + 1));
    return true;
  }

  const std::vector<RankProgram>& programs_;
  std::size_t size_;
  std::vector<std::vector<Clock>> begins_;  // by rank and instruction; empty: not known yet
  std::vector<std::array<std::size_t, 2>> next_;
  std::map<MessageName, std::pair<std::size_t, std::size_t>> sends_;  // rank and instruction
  std::map<MessageName, Index> readers_;
};

/// Adds up what is alive on one rank. Time is counted by its compute lane: 2 t + 1 is instruction
/// t, 2 t the time before it.
class RankPeak {
 public:
  RankPeak(const std::vector<RankProgram>& programs, const Clocks& clocks, const RankProgram& mine,
           const std::vector<std::vector<PartMemory>>& parts)
      : programs_(programs),
        clocks_(clocks),
        mine_(mine),
        parts_(parts),
        compute_(mine.lane(Lane::kCompute)),
        changes_(2 * compute_.size() + 2),
        writers_(static_cast<std::size_t>(mine.slots)) {}

  Bytes run() {
    for (Index i = 0; i < static_cast<Index>(mine_.instructions.size()); ++i) {
      const Instruction& instruction = mine_.instructions[static_cast<std::size_t>(i)];
      if (instruction.lane == Lane::kCompute) {
        const std::size_t at = 2 * place(i) + 1;
        add(at, at, made(instruction));
      }
      for (const int side : {0, 1}) read(i, instruction, side);
      for (const std::int32_t slot : instruction.out) {
        if (slot != kNoSlot) writers_[static_cast<std::size_t>(slot)] = i;
      }
    }
    Bytes alive = 0, peak = 0;
    for (const Bytes change : changes_) peak = std::max(peak, alive += change);
    return peak;
  }

 private:
  std::size_t place(Index index) const {
    const auto& order = mine_.lane(mine_.instructions[static_cast<std::size_t>(index)].lane);
    return static_cast<std::size_t>(std::lower_bound(order.begin(), order.end(), index) -
                                    order.begin());
  }
  void add(std::size_t first, std::size_t last, Bytes bytes) {
    changes_[first] += bytes;
    changes_[last + 1] -= bytes;
  }
  const PartMemory& part(const Instruction& instruction) const {
    return parts_[static_cast<std::size_t>(instruction.action.stage)]
                 [static_cast<std::size_t>(instruction.part)];
  }

  Bytes made(const Instruction& instruction) const {
    if (is_of_replicas(instruction)) return 0;
    const PartMemory& memory = part(instruction);
    switch (instruction.opcode) {
      case Opcode::kForward:
        return mine_.forward_only ? memory.forward_only : memory.forward;
      case Opcode::kRecompute:
        return memory.recompute;
      case Opcode::kBackwardWeight:
        return memory.backward_weight;
      case Opcode::kBackwardInput:
        return memory.backward_input;
      default:
        return memory.backward;
    }
  }

  /// First time at which `index`, when it is issued or begins, may find things.
  std::size_t first_time(Index index) const {
    const Instruction& instruction = mine_.instructions[static_cast<std::size_t>(index)];
    if (instruction.lane == Lane::kCompute) return 2 * place(index) + 1;
    return 2 * static_cast<std::size_t>(
                   clocks_.begin(mine_.rank, index)[own(mine_.rank, Lane::kCompute)]);
  }

  /// Last time at which the first `count` of `known` may not be over: that before the first
  /// instruction that knows they are.
  std::size_t last_time(std::size_t known, std::size_t count) const {
    const auto knows = [&](Index index) {
      return clocks_.begin(mine_.rank, index)[known] >= static_cast<Index>(count);
    };
    const auto first = std::partition_point(compute_.begin(), compute_.end(),
                                            [&](Index index) { return !knows(index); });
    return 2 * static_cast<std::size_t>(first - compute_.begin());
  }

  /// The value that `reader` reads there has lived since its writer.
  void read(Index index, const Instruction& reader, int side) {
    if (is_of_replicas(reader)) return;
    const std::int32_t slot = reader.in[static_cast<std::size_t>(side)];
    if (slot == kNoSlot) return;
    const Index writer = writers_[static_cast<std::size_t>(slot)];
    const Bytes bytes = bytes_read(reader, side);
    const std::size_t begin = first_time(writer);
    if (reader.opcode == Opcode::kSend) return add(begin, end_of_message(reader), bytes);
    const std::size_t last =
        reader.lane == Lane::kCompute
            ? 2 * place(index) + 1
            : last_time(own(mine_.rank, Lane::kCommunication), place(index) + 1);
    add(begin, last, bytes);
    const Instruction& from = mine_.instructions[static_cast<std::size_t>(writer)];
    const bool of_exchange = is_exchange(from.opcode) && from.out[0] == slot;
    if (!of_exchange || reader.lane != Lane::kCompute) return;
    add(begin, last_time(2 * programs_.size(), place(index) + 1),
        from.opcode == Opcode::kExchange ? part(from).sent : part(from).sent_back);
  }

  Bytes bytes_read(const Instruction& reader, int side) const {
    if (reader.opcode == Opcode::kSend) {
      const std::vector<PartMemory>& there =
          parts_[static_cast<std::size_t>(other_end(reader.action).stage)];
      return direction_of(reader.action.type) == Direction::kForward ? there.front().input
                                                                     : there.back().gradient;
    }
    const PartMemory& memory = part(reader);
    switch (reader.opcode) {
      case Opcode::kForward:
      case Opcode::kExchange:
        return memory.input;
      case Opcode::kRecompute:
        return memory.saved;
      case Opcode::kBackwardWeight:
        return memory.saved_for_weight;
      default: {
        const bool again = mine_.shapes.empty()
                               ? false
                               : mine_
                                     .shapes[static_cast<std::size_t>(reader.action.stage)]
                                            [static_cast<std::size_t>(reader.part)]
                                     .recompute;
        return side == 1 ? memory.gradient : again ? memory.recomputed : memory.saved;
      }
    }
  }

  /// Until the instruction at the other end that reads it has ended.
  std::size_t end_of_message(const Instruction& send) const {
    const Message message = message_of(mine_, send);
    return last_time(own(message.destination, Lane::kCompute),
                     static_cast<std::size_t>(clocks_.reader_of(message)));
  }

  const std::vector<RankProgram>& programs_;
  const Clocks& clocks_;
  const RankProgram& mine_;
  const std::vector<std::vector<PartMemory>>& parts_;
  const std::vector<Index>& compute_;
  std::vector<Bytes> changes_;
  std::vector<Index> writers_;  // by slot
};

}  // namespace

std::vector<Bytes> peak_memory(const std::vector<RankProgram>& programs,
                               const std::vector<std::vector<PartMemory>>& parts) {
  const Clocks clocks(programs);
  std::vector<Bytes> peaks;
  for (const RankProgram& program : programs)
    peaks.push_back(RankPeak(programs, clocks, program, parts).run());
  return peaks;
}

}  // namespace plait
