/// A job's language model and its data as the source of a run's stages.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "plait/model/dtypes.h"
#include "plait/model/model_config.h"
#include "plait/model/partition.h"
#include "plait/program/grid.h"
#include "plait/train/dataset.h"
#include "plait/train/model_source.h"

namespace plait {

/// The values that a job's stages and batches are made from.
struct JobModelValues {
  ModelConfig model;
  std::vector<StagePart> parts;  ///< by stage
  Grid grid;
  std::uint64_t seed = 0;
  double token_bound = 0;
  Dtype compute = kDtypes.compute;  ///< of hidden states
  int microbatches = 1;
  int rounds = 1;     ///< of the schedule in a step, each of `microbatches`
  int sequences = 1;  ///< of one micro-batch in one column
  int sequence_length = 1;
  bool tokens_are_bytes = true;

  /// Sequences over all columns.
  int sequences_per_round() const { return sequences * microbatches * grid.columns(); }
};

/// A column sees its own sequences of every micro-batch: of the batch's rows, micro-batch m holds
/// neighbours, and column c the c-th share of them.
class JobModel final : public ModelSource {
 public:
  JobModel(JobModelValues values, DataSplit data)
      : values_(std::move(values)), data_(std::move(data)) {}
  std::unique_ptr<RankModel> make_rank(int column, at::Device device) override;

 private:
  class Rank;
  JobModelValues values_;
  DataSplit data_;
};

}  // namespace plait
