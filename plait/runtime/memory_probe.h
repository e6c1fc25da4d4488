/// The memory that a rank holds. Its executor asks before and after each compute instruction.
#pragma once

#include "plait/base/units.h"

namespace plait {

/// Asked on the compute lane's thread while others may allocate.
class MemoryProbe {
 public:
  virtual ~MemoryProbe() = default;
  virtual Bytes live() const = 0;
  /// The most that was live since it was last asked for.
  virtual Bytes take_peak() = 0;
};

}  // namespace plait
