/// How values move between ranks: point-to-point messages for the step, small host data beside it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "plait/base/check.h"
#include "plait/base/error.h"
#include "plait/ir/message.h"
#include "plait/program/boundary.h"
#include "plait/program/collective.h"
#include "plait/program/grid.h"
#include "plait/runtime/device.h"
#include "plait/runtime/stage.h"
#include "plait/runtime/value.h"

namespace plait {

/// Told once of each message's end, from any thread, maybe before send() or recv() returns.
class CompletionSink {
 public:
  virtual ~CompletionSink() = default;
  /// `result` holds the value for a receive and for a collective, null for a send. The comm may
  /// hold its locks: nothing may be posted.
  virtual void completed(std::uint32_t token, Expected<Value> result) noexcept = 0;
  /// From a comm that works on an asynchronous device, in place of completed(): the message is in
  /// the device's hands, ends when `end` passes, a mark of the sink's device, and `value` may be
  /// read behind it.
  virtual void issued(std::uint32_t token, Value value, Mark end) noexcept {
    if (value) value->ready = end;
    completed(token, std::move(value));
  }
  /// Called after each issued() and each completed() without an error, by the same thread and
  /// without locks: what has become ready may be posted.
  virtual void settled() noexcept {}
};

/// One rank's end of the pipeline's messages. Calls never block. A sent value belongs to the comm
/// until its send completes. Thread-safe.
class Comm {
 public:
  virtual ~Comm() = default;
  /// Once, before the first message: the rank's values lie on `device`, which outlives the comm's
  /// use. A comm that does not overload this moves values of synchronous devices only.
  virtual void use(Device& device) {
    PLAIT_CHECK(!device.asynchronous(),
                "a comm that knows no marks was given an asynchronous device");
  }
  virtual void send(const Message& message, Value value, std::uint32_t token,
                    CompletionSink& sink) = 0;
  /// `spec`: what the message's boundary declares (program/boundary.h). A comm that hands values
  /// over as they are does not need it.
  virtual void recv(const Message& message, const ValueSpec& spec, std::uint32_t token,
                    CompletionSink& sink) = 0;
  /// What the members have for this one, in order of members and joined by its `value`, comes as
  /// the result. Nobody adds up on the way: the result of a reduce-scatter is the addends, and its
  /// reader adds them in ascending order of members. So the bits of a sum are the same over every
  /// transport; one that adds up by itself in another order moves slices instead.
  /// What leaves each rank of n: all-to-all value->bytes_leaving(), reduce-scatter (n - 1) / n of
  /// its value, all-gather n - 1 times its value.
  virtual void collective(const Collective& which, std::unique_ptr<ExchangeValue> value,
                          std::uint32_t token, CompletionSink& sink) = 0;
  /// Ends what is under way and everything after it with `error`. Idempotent. After it has
  /// returned no completed() is called any more.
  virtual void abort(const Error& error) = 0;
};

/// Host data between all ranks outside the step: metrics, norms, agreement on when to stop.
/// Every rank makes the same calls in the same order. Blocks, at most the run's timeout.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual int rank() const = 0;
  virtual int ranks() const = 0;
  /// Each rank's bytes, in rank order; lengths may differ.
  virtual Expected<std::vector<std::string>> all_gather(std::string_view mine) = 0;
  /// Moves bytes from rank `from`, which is not 0, to rank 0: read there, filled here. These two
  /// call it, with spans of one length. Waits for the other at most the run's timeout.
  virtual Expected<void> hand_to_first(int from, std::span<std::byte> bytes) = 0;
};

}  // namespace plait
