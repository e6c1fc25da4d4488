/// What a rank computes on, as its executor sees it: two lanes of work, and marks between them.
///
/// A lane is a thread's work on a CPU and a stream on a GPU. Example, a value that the compute lane
/// makes and the communication lane sends, on a GPU. The host does all of it at once:
///
///   enter(compute)        the kernels of 0F3 go to the compute stream
///   m = record(compute)   behind them; the value carries m as Payload::ready
///   wait(comm, m)         the communication stream will stand still until m has passed
///   hold(comm, value)     the value's memory outlives what the communication stream is given now
///   enter(comm)           the send goes to the communication stream; the host frees the value
///
/// The device does it later: 0F3 runs, m passes, the send runs, the memory is given out again.
#pragma once

#include <span>

#include "plait/base/units.h"
#include "plait/ir/lane.h"
#include "plait/runtime/memory_probe.h"
#include "plait/runtime/value.h"

namespace plait {

class Device;

/// A mark and the device that recorded it.
struct DeviceMark {
  const Device* device = nullptr;
  Mark mark;
};

/// One rank's device. All calls but passed() and adopt() come from the thread that drives the rank.
/// Knows no torch.
class Device {
 public:
  virtual ~Device() = default;

  /// False: work has run when the call that gave it returns. Then every mark is the mark 0, and
  /// lanes, waits and holds have nothing to do: the executor leaves them out.
  virtual bool asynchronous() const = 0;

  /// What the calling thread starts goes to `lane` until leave(). Not nested.
  virtual void enter(Lane lane) = 0;
  virtual void leave(Lane lane) = 0;

  /// A mark behind everything that `lane` has been given.
  virtual Mark record(Lane lane) = 0;
  /// What `lane` is given from now on runs after `mark` has passed. The host does not wait. Nothing
  /// to do for the mark 0 and for a mark of `lane` itself.
  virtual void wait(Lane lane, Mark mark) = 0;
  /// `reader` reads `value`: from when the host frees the value's memory, it is not given out again
  /// before what `reader` has been given until then has run. Nothing to do for memory that belongs
  /// to `reader`: a lane runs in order.
  virtual void hold(Lane reader, const Payload& value) = 0;

  /// A mark of this device that passes when all of `marks` have: values of other ranks of this
  /// process are awaited so, example
  ///
  ///   rank 0   0F3 … record(comm) = m   hands its value over, without a copy
  ///   rank 1   ready = adopt(rank 0, m)   wait(compute, ready)   hold(compute, value)   1F3
  ///
  /// `marks` are of devices of this kind, not yet forgotten. From any thread.
  virtual Mark adopt(std::span<const DeviceMark> marks) = 0;

  /// From any thread.
  virtual bool passed(Mark mark) const = 0;
  /// When a mark passed, by the rank's clock. Asked for when the step has ended.
  virtual Nanoseconds when(Mark mark) const = 0;
  /// A step begins: nobody asks for earlier marks any more.
  virtual void forget_marks() = 0;

  /// What the rank holds; null if nobody counts it.
  virtual MemoryProbe* memory() = 0;
};

/// Enters a lane of an asynchronous device and leaves it at the end of the scope.
class LaneScope {
 public:
  /// `device` null: nothing to do.
  LaneScope(Device* device, Lane lane) : device_(device), lane_(lane) {
    if (device_ != nullptr) device_->enter(lane_);
  }
  ~LaneScope() {
    if (device_ != nullptr) device_->leave(lane_);
  }
  LaneScope(const LaneScope&) = delete;
  LaneScope& operator=(const LaneScope&) = delete;

 private:
  Device* device_;
  Lane lane_;
};

/// The CPU: whatever thread works, works at once.
class CpuDevice final : public Device {
 public:
  /// `memory` must outlive the device.
  explicit CpuDevice(MemoryProbe* memory = nullptr) : memory_(memory) {}

  bool asynchronous() const override { return false; }
  void enter(Lane) override {}
  void leave(Lane) override {}
  Mark record(Lane) override { return {}; }
  void wait(Lane, Mark) override {}
  void hold(Lane, const Payload&) override {}
  Mark adopt(std::span<const DeviceMark>) override { return {}; }
  bool passed(Mark) const override { return true; }
  Nanoseconds when(Mark) const override { return now(); }
  void forget_marks() override {}
  MemoryProbe* memory() override { return memory_; }

 private:
  MemoryProbe* memory_;
};

}  // namespace plait
