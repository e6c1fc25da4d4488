/// Columns that hold the same parameters begin with the same numbers: checked where a caller has
/// made them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/nn/parameter_store.h"
#include "plait/runtime/comm.h"

namespace plait {

/// A hash of the numbers that one column holds of a tensor.
struct TensorCopy {
  std::string key;  ///< the tensor's name and who holds it: equal where the numbers must be
  std::uint64_t hash = 0;
  int column = 0;
};

/// Of all parameters and buffers of a column's store. `expert`: the size of its expert group.
std::vector<TensorCopy> hash_copies(const ParameterStore& store, int column, int expert);

/// All ranks call it. Errors (kInvalidInput): the first tensor that differs, and the columns.
Expected<void> compare_copies(Exchange& exchange, const std::vector<TensorCopy>& mine);

}  // namespace plait
