/// For tests: a device that is late. Each lane is a queue of work that runs when the test says so,
/// long after the host has issued it, and memory that the host frees is given out again at once.
///
/// What can go wrong on streams goes wrong here, and is found at the first wrong access:
///
///   host    alloc A   launch "write A"   record m   ...   free A   alloc B (the same block)
///   lane    .......   write A            m passes         poison   ...
///
/// A kernel that reads A before "write A" has run, or behind the poison, throws LateFault.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "plait/base/check.h"
#include "plait/runtime/device.h"

namespace plait::testing {

/// Memory was read before it was written, or used after it was given out again.
class LateFault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class LateDevice;

/// A lane of a rank.
struct LateLane {
  LateDevice* device = nullptr;
  Lane lane = Lane::kCompute;
  friend auto operator<=>(const LateLane&, const LateLane&) = default;
};

/// Memory of a device. The host counts its tenants when it gives the block out and takes it back;
/// the device counts them when the poison behind a tenant runs.
struct LateBlock {
  LateLane owner;               ///< whose order makes reuse safe
  std::uint64_t tenants = 0;    ///< of the host
  std::set<LateLane> held;      ///< hold() was called for the tenant
  std::uint64_t on_device = 0;  ///< tenants whose poison has run
  bool written = false;
  bool lasting = false;  ///< the tenant outlives the step: its readers need no hold
  std::vector<double> numbers;
};

/// What a kernel keeps of a tenant: it owns nothing.
struct LateRef {
  LateBlock* block = nullptr;
  std::uint64_t tenant = 0;
};

/// Owns a tenant of a block: its end frees the memory, on the host.
class LateMemory {
 public:
  LateMemory() = default;
  LateMemory(LateDevice& device, LateRef ref) : device_(&device), ref_(ref) {}
  LateMemory(LateMemory&& other) noexcept { *this = std::move(other); }
  LateMemory& operator=(LateMemory&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(ref_, other.ref_);
    return *this;
  }
  inline ~LateMemory();
  explicit operator bool() const { return ref_.block != nullptr; }
  LateRef ref() const { return ref_; }

 private:
  LateDevice* device_ = nullptr;
  LateRef ref_;
};

/// One of `parts` equal parts of a tenant's numbers.
struct LatePiece {
  LateRef ref;
  std::size_t part = 0;
  std::size_t parts = 1;
};
using LatePieces = std::vector<LatePiece>;

/// Numbers of a value: pieces of memory, of one rank or of several, one after the other.
class LateNumbers {
 public:
  LateNumbers() = default;
  explicit LateNumbers(LateMemory memory) {
    pieces_.push_back({memory.ref()});
    memories_.push_back(std::make_shared<LateMemory>(std::move(memory)));
  }
  explicit operator bool() const { return !pieces_.empty(); }
  const LatePieces& pieces() const { return pieces_; }
  /// Of numbers in one memory.
  LateRef ref() const { return pieces_.empty() ? LateRef{} : pieces_.front().ref; }
  LateNumbers share(std::size_t part, std::size_t parts) const {
    LateNumbers one = *this;
    one.pieces_.front().part = part;
    one.pieces_.front().parts = parts;
    return one;
  }
  void append(const LateNumbers& more) {
    pieces_.insert(pieces_.end(), more.pieces_.begin(), more.pieces_.end());
    memories_.insert(memories_.end(), more.memories_.begin(), more.memories_.end());
  }

 private:
  LatePieces pieces_;
  std::vector<std::shared_ptr<LateMemory>> memories_;  // the last that holds one frees it
};

/// A value on a late device.
class LateValue : public Payload {
 public:
  explicit LateValue(LateNumbers of) : numbers(std::move(of)) {}
  explicit LateValue(LateMemory memory) : numbers(std::move(memory)) {}
  Bytes bytes() const override { return 0; }
  bool read_on_host() const override { return static_cast<bool>(counts); }
  LateNumbers numbers;
  LateNumbers counts;  ///< of the exchange to come: the host reads them
};

/// Which work is known to have run, by rank and lane: happened-before, as a vector clock.
class LateClock {
 public:
  void advance(std::size_t lane) { ++counts_.at(lane); }
  void join(const LateClock& other) {
    for (std::size_t i = 0; i < kLanes; ++i) counts_[i] = std::max(counts_[i], other.counts_[i]);
  }
  bool covers(const LateClock& other) const {
    for (std::size_t i = 0; i < kLanes; ++i) {
      if (counts_[i] < other.counts_[i]) return false;
    }
    return true;
  }

 private:
  static constexpr std::size_t kLanes = 32;  // of 16 ranks
  std::array<std::uint64_t, kLanes> counts_{};
};

/// The n-th call of its kind on a lane; the same in every order of the seeded world.
using LateCall = std::pair<Lane, int>;

/// What the order of a run hung on: calls that no other call makes superfluous.
struct LateNeeds {
  std::set<LateCall> waits;            ///< of Device::wait, with a mark that is not 0
  std::set<LateCall> marks;            ///< of Device::record, awaited by one of them
  std::set<std::set<LateCall>> holds;  ///< of Device::hold, those of one tenant and lane together
};

/// One rank's. Driven by one thread.
class LateDevice final : public Device {
 public:
  explicit LateDevice(int rank) : rank_(static_cast<std::size_t>(rank)) {}

  bool asynchronous() const override { return true; }
  void enter(Lane lane) override {
    PLAIT_CHECK(!in_lane_, "lanes of an asynchronous device do not nest");
    in_lane_ = true;
    current_ = lane;
  }
  void leave(Lane) override { in_lane_ = false; }
  Mark record(Lane lane) override {
    const Mark mark = new_mark();
    last_mark_[index(lane)] = mark;
    state_of(mark).call = {lane, records_[index(lane)]++};
    state_of(mark).recorder = this;
    queue(lane).push_back({{}, [this, lane, mark] { pass(mark, clock(lane)); }});
    return mark;
  }
  void wait(Lane lane, Mark mark) override {
    if (!mark) return;
    const LateCall call{lane, waits_[index(lane)]++};
    give_work(lane);
    queue(lane).push_back({mark, [this, lane, mark, call] {
                             const MarkState& state = state_of(mark);
                             const LateClock known = state.known();
                             if (clock(lane).covers(known)) return;
                             state.note_needed(clock(lane));
                             clock(lane).join(known);
                             if (!state.host_knows) needs_.waits.insert(call);
                           }});
  }
  void hold(Lane reader, const Payload& value) override {
    const LateCall call{reader, holds_[index(reader)]++};
    const auto& late = static_cast<const LateValue&>(value);
    for (const LateNumbers* numbers : {&late.numbers, &late.counts}) {
      for (const auto& [ref, part, parts] : numbers->pieces()) {
        if (ref.block->owner == LateLane{this, reader}) continue;
        ref.block->held.insert({this, reader});
        hold_calls_[{ref.block, ref.tenant, reader}].insert(call);
      }
    }
  }
  Mark adopt(std::span<const DeviceMark> marks) override {
    const Mark mark = new_mark();
    for (const DeviceMark& one : marks) {
      if (!one.mark) continue;
      marks_.back()->of_others.push_back(below(*one.device).shared_state(one.mark));
    }
    marks_.back()->passed = marks_.back()->of_others.empty();
    return mark;
  }
  bool passed(Mark mark) const override { return !mark || state_of(mark).has_passed(); }
  Nanoseconds when(Mark mark) const override { return state_of(mark).last(); }
  void forget_marks() override {
    forgotten_ += marks_.size();
    marks_.clear();
    hold_calls_.clear();
    foreign_reads_.clear();
    needs_ = {};
    last_mark_ = before_work_ = {};
    for (auto* counts : {&records_, &waits_, &holds_}) *counts = {};
  }
  MemoryProbe* memory() override { return nullptr; }

  // For stages and comms: what the host does.

  Lane current() const {
    PLAIT_CHECK(in_lane_, "work outside of a lane");
    return current_;
  }
  void launch(std::function<void()> kernel) {
    const Lane lane = current();
    give_work(lane);
    queue(lane).push_back({{}, [this, lane, kernel = std::move(kernel)] {
                             running_ = lane;
                             kernel();
                           }});
  }
  LateMemory allocate() {
    std::vector<LateBlock*>& free = free_[index(current())];
    if (free.empty()) {
      blocks_.push_back(std::make_unique<LateBlock>());
      blocks_.back()->owner = {this, current()};
      free.push_back(blocks_.back().get());
    }
    LateBlock* block = free.back();
    free.pop_back();
    ++in_use_;
    return {*this, LateRef{block, block->tenants}};
  }
  /// What the rank keeps from step to step.
  LateMemory allocate_lasting() {
    LateMemory memory = allocate();
    memory.ref().block->lasting = true;
    return memory;
  }
  /// Where a tenant is read by the lane that owns its block only, the next tenant may have it at
  /// once: its work runs behind. Readers on other lanes are waited for, if they were announced.
  void release(LateRef ref) {
    LateBlock& block = *ref.block;
    --in_use_;
    ++block.tenants;
    block.lasting = false;
    const std::set<LateLane> readers = std::exchange(block.held, {});
    if (readers.empty()) return give_out(block);
    const auto open = std::make_shared<std::size_t>(readers.size());
    for (const LateLane& reader : readers) {
      reader.device->queue(reader.lane).push_back({{}, [this, &block, open] {
                                                     if (--*open == 0) give_out(block);
                                                   }});
    }
  }
  /// A mark that its caller passes, as a comm does.
  Mark new_mark() {
    marks_.push_back(std::make_shared<MarkState>());
    return {forgotten_ + marks_.size()};
  }
  void pass(Mark mark, const LateClock& clock) {
    MarkState& state = state_of(mark);
    state.passed = true;
    state.when = now_ == nullptr ? 0 : *now_;
    state.clock = clock;
  }
  /// What the host reads of a value behind `ready`. A lane need not wait for that mark any more.
  std::vector<double> read_on_host(const LatePieces& pieces, Mark ready) {
    state_of(ready).host_knows = true;
    return joined(pieces);
  }

  /// The last mark of the lane before the last work that it was given.
  Mark mark_before_work(Lane lane) const { return before_work_[index(lane)]; }

  // What kernels do.

  const std::vector<double>& read(LateRef ref) {
    note_read(ref);
    return checked(ref);
  }
  std::vector<double> read(const LatePieces& pieces) {
    for (const LatePiece& piece : pieces) note_read(piece.ref);
    return joined(pieces);
  }
  void write(LateRef ref, std::vector<double> numbers) {
    if (ref.block->on_device != ref.tenant) throw LateFault(where() + " writes freed memory");
    ref.block->numbers = std::move(numbers);
    ref.block->written = true;
  }
  LateClock& clock(Lane lane) { return clocks_[index(lane)]; }
  LateClock& running_clock() { return clock(running_); }

  // What the test does.

  /// Time for marks; must outlive the device.
  void read_time(const Nanoseconds& now) { now_ = &now; }
  bool can_run(Lane lane) const {
    const std::deque<Item>& items = queues_[index(lane)];
    return !items.empty() && passed(items.front().wait);
  }
  void run_next(Lane lane) {
    Item item = std::move(queue(lane).front());
    queue(lane).pop_front();
    clock(lane).advance(rank_ * 2 + index(lane));
    item.work();
  }
  bool idle() const { return queues_[0].empty() && queues_[1].empty(); }
  /// Tenants that nobody has freed.
  int in_use() const { return in_use_; }
  /// Of the step that has ended.
  LateNeeds needs() const {
    LateNeeds all = needs_;
    for (const auto& read : foreign_reads_) all.holds.insert(hold_calls_.at(read));
    return all;
  }

 private:
  struct Item {
    Mark wait;  ///< the lane stands still until it has passed
    std::function<void()> work;
  };
  struct MarkState {
    bool passed = false;
    Nanoseconds when = 0;
    LateClock clock;
    bool host_knows = false;
    LateDevice* recorder = nullptr;  // null: its caller passes it
    LateCall call;
    std::vector<std::shared_ptr<const MarkState>> of_others;  // an adopted mark has these alone

    bool has_passed() const {
      if (of_others.empty()) return passed;
      return std::all_of(of_others.begin(), of_others.end(),
                         [](const auto& other) { return other->has_passed(); });
    }
    Nanoseconds last() const {
      Nanoseconds latest = when;
      for (const auto& other : of_others) latest = std::max(latest, other->last());
      return latest;
    }
    LateClock known() const {
      LateClock all = clock;
      for (const auto& other : of_others) all.join(other->known());
      return all;
    }
    /// A lane that knows `of_lane` hangs on this mark.
    void note_needed(const LateClock& of_lane) const {
      for (const auto& other : of_others) {
        if (!of_lane.covers(other->known())) other->note_needed(of_lane);
      }
      if (recorder != nullptr && !host_knows) recorder->needs_.marks.insert(call);
    }
  };

  static inline const LateDevice& below(const Device& device);
  static std::size_t index(Lane lane) { return static_cast<std::size_t>(lane); }
  std::deque<Item>& queue(Lane lane) { return queues_[index(lane)]; }
  MarkState& state_of(Mark mark) {
    PLAIT_CHECK(mark.number > forgotten_, "a mark of an earlier step");
    return *marks_[mark.number - forgotten_ - 1];
  }
  std::shared_ptr<const MarkState> shared_state(Mark mark) const {
    PLAIT_CHECK(mark.number > forgotten_, "a mark of an earlier step");
    return marks_[mark.number - forgotten_ - 1];
  }
  const MarkState& state_of(Mark mark) const {
    return const_cast<LateDevice*>(this)->state_of(mark);
  }
  void give_work(Lane lane) { before_work_[index(lane)] = last_mark_[index(lane)]; }
  void note_read(LateRef ref) {
    if (!ref.block->lasting && ref.block->owner != LateLane{this, running_})
      foreign_reads_.insert({ref.block, ref.tenant, running_});
  }
  std::vector<double> joined(const LatePieces& pieces) const {
    std::vector<double> all;
    for (const auto& [ref, part, parts] : pieces) {
      const std::vector<double>& whole = checked(ref);
      const auto count = static_cast<std::ptrdiff_t>(whole.size() / parts);
      const auto first = whole.begin() + count * static_cast<std::ptrdiff_t>(part);
      all.insert(all.end(), first, first + count);
    }
    return all;
  }
  std::string where() const {
    return "rank " + std::to_string(rank_) + ", " + kLaneNames[index(running_)] + " lane:";
  }
  const std::vector<double>& checked(LateRef ref) const {
    if (ref.block->on_device > ref.tenant)
      throw LateFault(where() + " memory is read after it was given out again");
    if (ref.block->on_device < ref.tenant || !ref.block->written)
      throw LateFault(where() + " memory is read before it is written");
    return ref.block->numbers;
  }
  void give_out(LateBlock& block) {
    const Lane owner = block.owner.lane;
    queue(owner).push_back({{}, [&block] {
                              block.numbers.assign(block.numbers.size(), kPoison);
                              block.written = false;
                              ++block.on_device;
                            }});
    free_[index(owner)].push_back(&block);
  }

  static constexpr double kPoison = -7e77;

  std::size_t rank_;
  bool in_lane_ = false;
  Lane current_ = Lane::kCompute;
  Lane running_ = Lane::kCompute;
  const Nanoseconds* now_ = nullptr;
  std::array<std::deque<Item>, 2> queues_;
  std::array<LateClock, 2> clocks_;
  std::deque<std::shared_ptr<MarkState>> marks_;  // with devices that adopted them
  std::uint64_t forgotten_ = 0;
  std::array<Mark, 2> last_mark_, before_work_;       // by lane
  std::array<int, 2> records_{}, waits_{}, holds_{};  // calls so far, by lane
  std::vector<std::unique_ptr<LateBlock>> blocks_;
  std::array<std::vector<LateBlock*>, 2> free_;  // by owner; the last freed is given out first
  int in_use_ = 0;
  using Reader = std::tuple<LateBlock*, std::uint64_t, Lane>;  // of a tenant
  std::map<Reader, std::set<LateCall>> hold_calls_;
  std::set<Reader> foreign_reads_;
  LateNeeds needs_;
};

LateMemory::~LateMemory() {
  if (device_ != nullptr) device_->release(ref_);
}

/// A device that leaves something out, to see whether the test notices.
struct LateMutation {
  std::set<LateCall> dropped_waits;
  std::set<LateCall> early_marks;  ///< they pass before the last work that they stand behind
  std::set<LateCall> dropped_holds;
};

class MutantDevice final : public Device {
 public:
  MutantDevice(LateDevice& below, LateMutation mutation)
      : below_(below), mutation_(std::move(mutation)) {}

  bool asynchronous() const override { return below_.asynchronous(); }
  void enter(Lane lane) override { below_.enter(lane); }
  void leave(Lane lane) override { below_.leave(lane); }
  Mark record(Lane lane) override {
    const bool early = mutation_.early_marks.contains(next(records_, lane));
    const Mark before = below_.mark_before_work(lane), mark = below_.record(lane);
    return early ? before : mark;
  }
  void wait(Lane lane, Mark mark) override {
    if (mark && mutation_.dropped_waits.contains(next(waits_, lane))) return;
    below_.wait(lane, mark);
  }
  void hold(Lane reader, const Payload& value) override {
    if (mutation_.dropped_holds.contains(next(holds_, reader))) return;
    below_.hold(reader, value);
  }
  Mark adopt(std::span<const DeviceMark> marks) override { return below_.adopt(marks); }
  bool passed(Mark mark) const override { return below_.passed(mark); }
  Nanoseconds when(Mark mark) const override { return below_.when(mark); }
  void forget_marks() override {
    for (auto* counts : {&records_, &waits_, &holds_}) *counts = {};
    below_.forget_marks();
  }
  MemoryProbe* memory() override { return below_.memory(); }

 private:
  friend class LateDevice;
  static LateCall next(std::array<int, 2>& counts, Lane lane) {
    return {lane, counts[static_cast<std::size_t>(lane)]++};
  }

  LateDevice& below_;
  LateMutation mutation_;
  std::array<int, 2> records_{}, waits_{}, holds_{};
};

const LateDevice& LateDevice::below(const Device& device) {
  const auto* mutant = dynamic_cast<const MutantDevice*>(&device);
  return mutant == nullptr ? static_cast<const LateDevice&>(device) : mutant->below_;
}

}  // namespace plait::testing
