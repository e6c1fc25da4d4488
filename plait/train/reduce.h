/// Adds up the gradients of ranks that hold the same parameters.
#pragma once

#include "plait/base/error.h"
#include "plait/nn/parameter_store.h"
#include "plait/runtime/comm.h"

namespace plait {

/// Experts' gradients over the replicas of the expert group, all others over all columns; each sum
/// in ascending order of columns, so that it has the same bits on every rank, and those of a loop
/// over the columns. Each member adds up its own slice and hands it to the others: 2 (n - 1) / n of
/// the gradients' bytes leave a rank of n. Blocks until it is done; the comm's abort ends it.
Expected<void> reduce_gradients(ParameterStore& store, const Grid& grid, Comm& comm);

}  // namespace plait
