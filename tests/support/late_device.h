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
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
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

/// Memory of a device. The host counts its tenants when it gives the block out and takes it back;
/// the device counts them when the poison behind a tenant runs.
struct LateBlock {
  Lane owner = Lane::kCompute;  ///< whose order makes reuse safe
  std::uint64_t tenants = 0;    ///< of the host
  bool held[2] = {};            ///< by lane: hold() was called for the tenant
  std::uint64_t on_device = 0;  ///< tenants whose poison has run
  bool written = false;
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

/// A value on a late device.
class LateValue : public Payload {
 public:
  explicit LateValue(LateMemory memory) { numbers = std::move(memory); }
  Bytes bytes() const override { return 0; }
  bool read_on_host() const override { return static_cast<bool>(counts); }
  LateMemory numbers;
  LateMemory counts;  ///< of the exchange to come: the host reads them
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
    state_of(mark).call = {lane, records_[index(lane)]++};
    state_of(mark).of_lane = true;
    queue(lane).push_back({{}, [this, lane, mark] { pass(mark, clock(lane)); }});
    return mark;
  }
  void wait(Lane lane, Mark mark) override {
    if (!mark) return;
    const LateCall call{lane, waits_[index(lane)]++};
    queue(lane).push_back({mark, [this, lane, mark, call] {
                             const MarkState& state = state_of(mark);
                             if (clock(lane).covers(state.clock)) return;
                             clock(lane).join(state.clock);
                             if (state.host_knows) return;
                             needs_.waits.insert(call);
                             if (state.of_lane) needs_.marks.insert(state.call);
                           }});
  }
  void hold(Lane reader, const Payload& value) override {
    const LateCall call{reader, holds_[index(reader)]++};
    const auto& late = static_cast<const LateValue&>(value);
    for (const LateMemory* memory : {&late.numbers, &late.counts}) {
      LateBlock* block = memory->ref().block;
      if (block == nullptr || block->owner == reader) continue;
      block->held[index(reader)] = true;
      hold_calls_[{block, memory->ref().tenant, reader}].insert(call);
    }
  }
  bool passed(Mark mark) const override { return !mark || state_of(mark).passed; }
  Nanoseconds when(Mark mark) const override { return state_of(mark).when; }
  void forget_marks() override {
    forgotten_ += marks_.size();
    marks_.clear();
    hold_calls_.clear();
    foreign_reads_.clear();
    needs_ = {};
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
    queue(lane).push_back({{}, [this, lane, kernel = std::move(kernel)] {
                             running_ = lane;
                             kernel();
                           }});
  }
  LateMemory allocate() {
    std::vector<LateBlock*>& free = free_[index(current())];
    if (free.empty()) {
      blocks_.push_back(std::make_unique<LateBlock>());
      blocks_.back()->owner = current();
      free.push_back(blocks_.back().get());
    }
    LateBlock* block = free.back();
    free.pop_back();
    ++in_use_;
    return {*this, LateRef{block, block->tenants}};
  }
  /// Where a tenant is read by the lane that owns its block only, the next tenant may have it at
  /// once: its work runs behind. Readers on the other lane are waited for, if they were announced.
  void release(LateRef ref) {
    LateBlock& block = *ref.block;
    --in_use_;
    ++block.tenants;
    for (const Lane lane : {Lane::kCompute, Lane::kCommunication}) {
      if (!std::exchange(block.held[index(lane)], false)) continue;
      queue(lane).push_back({{}, [this, &block] { give_out(block); }});
      return;  // an owner never holds, so there is one lane at most
    }
    give_out(block);
  }
  /// A mark that its caller passes, as a comm does.
  Mark new_mark() {
    marks_.emplace_back();
    return {forgotten_ + marks_.size()};
  }
  void pass(Mark mark, const LateClock& clock) {
    MarkState& state = state_of(mark);
    state.passed = true;
    state.when = now_ == nullptr ? 0 : *now_;
    state.clock = clock;
  }
  /// What the host reads of a value behind `ready`. A lane need not wait for that mark any more.
  const std::vector<double>& read_on_host(LateRef ref, Mark ready) {
    state_of(ready).host_knows = true;
    return checked(ref);
  }

  // What kernels do.

  const std::vector<double>& read(LateRef ref) {
    if (ref.block->owner != running_) foreign_reads_.insert({ref.block, ref.tenant, running_});
    return checked(ref);
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
    bool of_lane = false;
    LateCall call;
  };

  static std::size_t index(Lane lane) { return static_cast<std::size_t>(lane); }
  std::deque<Item>& queue(Lane lane) { return queues_[index(lane)]; }
  MarkState& state_of(Mark mark) {
    PLAIT_CHECK(mark.number > forgotten_, "a mark of an earlier step");
    return marks_[mark.number - forgotten_ - 1];
  }
  const MarkState& state_of(Mark mark) const {
    return const_cast<LateDevice*>(this)->state_of(mark);
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
    queue(block.owner).push_back({{}, [&block] {
                                    block.numbers.assign(block.numbers.size(), kPoison);
                                    block.written = false;
                                    ++block.on_device;
                                  }});
    free_[index(block.owner)].push_back(&block);
  }

  static constexpr double kPoison = -7e77;

  std::size_t rank_;
  bool in_lane_ = false;
  Lane current_ = Lane::kCompute;
  Lane running_ = Lane::kCompute;
  const Nanoseconds* now_ = nullptr;
  std::array<std::deque<Item>, 2> queues_;
  std::array<LateClock, 2> clocks_;
  std::deque<MarkState> marks_;
  std::uint64_t forgotten_ = 0;
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
  std::set<LateCall> early_marks;  ///< they pass where the mark before them on the lane does
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
    Mark& last = last_[static_cast<std::size_t>(lane)];
    const Mark before = std::exchange(last, below_.record(lane));
    return early ? before : last;
  }
  void wait(Lane lane, Mark mark) override {
    if (mark && mutation_.dropped_waits.contains(next(waits_, lane))) return;
    below_.wait(lane, mark);
  }
  void hold(Lane reader, const Payload& value) override {
    if (mutation_.dropped_holds.contains(next(holds_, reader))) return;
    below_.hold(reader, value);
  }
  bool passed(Mark mark) const override { return below_.passed(mark); }
  Nanoseconds when(Mark mark) const override { return below_.when(mark); }
  void forget_marks() override {
    for (auto* counts : {&records_, &waits_, &holds_}) *counts = {};
    below_.forget_marks();
  }
  MemoryProbe* memory() override { return below_.memory(); }

 private:
  static LateCall next(std::array<int, 2>& counts, Lane lane) {
    return {lane, counts[static_cast<std::size_t>(lane)]++};
  }

  LateDevice& below_;
  LateMutation mutation_;
  std::array<Mark, 2> last_;
  std::array<int, 2> records_{}, waits_{}, holds_{};
};

}  // namespace plait::testing
