#include "plait/train/job_model.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <utility>

#include "plait/checkpoint/model_folder.h"
#include "plait/model/names.h"
#include "plait/nn/model.h"
#include "plait/train/tensor_slices.h"

namespace plait {
namespace {

/// Targets that cross-entropy leaves out.
constexpr std::int64_t kIgnored = -100;

}  // namespace

class JobModel::Rank final : public RankModel {
 public:
  Rank(const JobModelValues& values, const DataSplit& data, int column, at::Device device)
      : values_(values),
        data_(data),
        column_(column),
        device_(device),
        seed_(static_cast<std::int64_t>(values.seed)) {}

  Expected<StageSegments> make_stage(int stage, ParameterStore& store) override {
    const StagePart& part = values_.parts[static_cast<std::size_t>(stage)];
    reads_data_ = reads_data_ || part.embedding || part.head;
    PLAIT_TRY(
        StageSegments segments,
        make_model_segments(values_.model, part, batch_, values_.seed, values_.sequence_length,
                            store, values_.grid.expert_place(column_), loads_, values_.token_bound,
                            values_.compute));
    for (const Parameter& parameter : store.parameters()) {
      if (expert_of(parameter.name)) store.set_holders(parameter.name, Group::kData);
    }
    return segments;
  }

  Expected<void> load(ParameterStore& store) override {
    if (values_.model.init.empty()) return {};
    return load_parameters(values_.model.init, values_.model, store);
  }

  void begin_round(int step, int round) override {
    new_batch();
    loads_->reset(values_.microbatches);
    const int first = round * values_.microbatches;
    const auto seed = static_cast<std::uint64_t>(seed_);
    BatchDraws& draws = batch_->batch.draws.emplace(BatchDraws{seed, step, {}});
    for (int mb = 0; mb < values_.microbatches; ++mb)
      draws.first_tokens.push_back(std::int64_t{sequence_of(first + mb, 0)} *
                                   values_.sequence_length);
    if (!reads_data_) return;
    const auto length = static_cast<std::size_t>(values_.sequence_length);
    const std::vector<std::size_t> starts = sample_starts(
        seed, step, values_.rounds * values_.sequences_per_round(), data_.training.size() - length);
    for (int mb = 0; mb < values_.microbatches; ++mb) {
      for (int row = 0; row < values_.sequences; ++row) {
        const auto sequence = static_cast<std::size_t>(sequence_of(first + mb, row));
        fill_row(data_.training, mb, row, starts[sequence], true);
      }
    }
    send_batch();
  }

  LayerLoads loads() const override { return loads_->sums(); }
  void end_step(const LayerLoads& loads, ParameterStore& store) override {
    if (values_.model.bias_update_speed > 0)
      update_router_bias(store, loads, values_.model.bias_update_speed);
  }
  TrainState state() override {
    TrainState state;
    state.push_back(slice_of("sampler.seed", seed_));
    return state;
  }

  HeldOut held_out() const override {
    HeldOut held_out;
    const auto a_round = static_cast<std::size_t>(values_.sequences_per_round());
    held_out.batches = static_cast<int>((windows() + a_round - 1) / a_round);
    held_out.rows = static_cast<std::int64_t>(windows());
    held_out.tokens = held_out.rows * values_.sequence_length;
    held_out.tokens_are_bytes = values_.tokens_are_bytes;
    return held_out;
  }

  /// Rows are windows of the held-out part. Past the last window, rows of a micro-batch that has
  /// scored rows are left out of its mean; a micro-batch without any is scored and not counted.
  void begin_validation(int batch) override {
    new_batch();
    const auto length = static_cast<std::size_t>(values_.sequence_length);
    for (int mb = 0; mb < values_.microbatches; ++mb) {
      const std::size_t begin = first_window(batch, mb);
      for (int row = 0; row < values_.sequences; ++row) {
        const std::size_t window = begin + static_cast<std::size_t>(row);
        const bool real = window < windows();
        fill_row(data_.validation, mb, row, real ? window * length : 0, real || begin >= windows());
      }
    }
    send_batch();
  }

  double validation_sum(int batch, const std::vector<double>& losses) const override {
    double sum = 0;
    for (int mb = 0; mb < values_.microbatches; ++mb) {
      const std::size_t begin = std::min(first_window(batch, mb), windows());
      const std::size_t scored =
          std::min(begin + static_cast<std::size_t>(values_.sequences), windows()) - begin;
      if (scored > 0) sum += losses[static_cast<std::size_t>(mb)] * static_cast<double>(scored);
    }
    return sum;
  }

 private:
  /// The row's number in the whole batch; micro-batches of a step count through its rounds.
  int sequence_of(int microbatch, int row) const {
    return (microbatch * values_.grid.columns() + column_) * values_.sequences + row;
  }
  std::size_t windows() const {
    return (data_.validation.size() - 1) / static_cast<std::size_t>(values_.sequence_length);
  }
  std::size_t first_window(int batch, int microbatch) const {
    return static_cast<std::size_t>(batch) *
               static_cast<std::size_t>(values_.sequences_per_round()) +
           static_cast<std::size_t>(sequence_of(microbatch, 0));
  }

  /// Filled on the host, in memory that a GPU reads by itself.
  void new_batch() {
    batch_->batch.tokens.clear();
    batch_->batch.targets.clear();
    batch_->batch.draws.reset();
    const std::array<std::int64_t, 2> shape{values_.sequences, values_.sequence_length};
    const at::TensorOptions options = at::TensorOptions(at::kLong).pinned_memory(!device_.is_cpu());
    for (int mb = 0; mb < values_.microbatches; ++mb) {
      batch_->batch.tokens.push_back(at::empty(shape, options));
      batch_->batch.targets.push_back(at::empty(shape, options));
    }
  }

  /// The copies run on the device's time, before the step that reads them.
  void send_batch() {
    if (device_.is_cpu()) return;
    for (auto* list : {&batch_->batch.tokens, &batch_->batch.targets}) {
      for (at::Tensor& one : *list) one = one.to(device_, at::kLong, /*non_blocking=*/true);
    }
  }

  void fill_row(const Dataset& source, int microbatch, int row, std::size_t start, bool scored) {
    const std::int64_t length = values_.sequence_length;
    const auto mb = static_cast<std::size_t>(microbatch);
    auto* tokens = batch_->batch.tokens[mb].mutable_data_ptr<std::int64_t>() + row * length;
    auto* targets = batch_->batch.targets[mb].mutable_data_ptr<std::int64_t>() + row * length;
    for (std::int64_t i = 0; i < length; ++i) {
      tokens[i] = source.at(start + static_cast<std::size_t>(i));
      targets[i] = scored ? source.at(start + static_cast<std::size_t>(i) + 1) : kIgnored;
    }
  }

  const JobModelValues& values_;
  const DataSplit& data_;
  int column_;
  at::Device device_;
  std::int64_t seed_;  // of the sampler and of dropout
  std::shared_ptr<BatchSlot> batch_ = std::make_shared<BatchSlot>();
  std::shared_ptr<RouterLoads> loads_ = std::make_shared<RouterLoads>();
  bool reads_data_ = false;
};

std::unique_ptr<RankModel> JobModel::make_rank(int column, at::Device device) {
  return std::make_unique<Rank>(values_, data_, column, device);
}

}  // namespace plait
