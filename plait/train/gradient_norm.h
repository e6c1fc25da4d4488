/// The global norm of gradients, with the same bits however they are spread over ranks.
#pragma once

#include <vector>

#include "plait/record/step_report.h"
#include "plait/train/trained_slice.h"

namespace plait {

/// Of the slices that this rank speaks for. A chunk's squares are added in float64 in one fixed
/// order, so that its sum depends neither on the rank that it lies on nor on the chunks beside it.
/// Of gradients on a GPU by torch's reduction, for which the host waits once.
std::vector<SquareSums> square_sums(const std::vector<TrainedSlice>& slices);

/// Root of the sum over parameters, in order of names, of the sums of their chunks, in ascending
/// order. `sums` of all ranks: each chunk once.
double global_norm(std::vector<SquareSums> sums);

}  // namespace plait
