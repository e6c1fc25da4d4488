/// What instructions hand to one another: an owned, type-erased bundle of tensors.
///
/// Every value has one writer and one reader, so it is moved, never shared: who holds it last
/// frees it. The core of the runtime knows no torch; plait/torch/tensors.h holds at::Tensor.
#pragma once

#include <cstdint>
#include <memory>

#include "plait/base/units.h"
#include "plait/program/boundary.h"

namespace plait {

/// A point behind some work of a device (plait/runtime/device.h). The mark 0 has always passed.
struct Mark {
  std::uint64_t number = 0;
  explicit operator bool() const { return number != 0; }
  friend bool operator==(const Mark&, const Mark&) = default;
};

class Payload {
 public:
  virtual ~Payload() = default;
  virtual Bytes bytes() const = 0;
  /// Its tensors, for payloads that cross a boundary between stages.
  virtual ValueSpec spec() const { return {}; }
  /// spec() == needed. Asked of every message: overridden where spec() costs something.
  virtual bool is_of(const ValueSpec& needed) const { return spec() == needed; }
  /// True of a value whose reader needs some of its numbers on the host, to know how large its own
  /// results are: the row counts of an exchange. The reader is issued when `ready` has passed.
  virtual bool read_on_host() const { return false; }

  /// Behind the work that writes this value; a mark of the device of the rank that holds it.
  Mark ready;

 protected:
  Payload() = default;
  Payload(const Payload&) = default;
  Payload& operator=(const Payload&) = default;
};

using Value = std::unique_ptr<Payload>;

}  // namespace plait
