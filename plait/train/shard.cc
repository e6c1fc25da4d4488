#include "plait/train/shard.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <utility>

#include "plait/base/check.h"
#include "plait/checkpoint/model_folder.h"
#include "plait/model/names.h"
#include "plait/nn/model.h"
#include "plait/torch/tensors.h"

namespace plait {
namespace {

/// Targets that cross-entropy leaves out.
constexpr std::int64_t kIgnored = -100;

}  // namespace

/// Charges what another rank hands over to the receiver's buffers: received bytes are nobody's
/// activations. Rows of an exchange are, whichever thread has moved them.
class Shard::ReceivingStage final : public Stage {
 public:
  ReceivingStage(TorchStage stage, Accounts accounts)
      : stage_(std::move(stage)),
        last_part_(static_cast<int>(stage_.shape().size()) - 1),
        buffers_(accounts.lasting),
        activations_(accounts.activations) {}

  StageShape shape() const { return stage_.shape(); }

  Expected<ForwardResult> forward(PartOf at, Value input, bool for_backward) override {
    if (at.part == 0) receive(input);
    return stage_.forward(at, std::move(input), for_backward);
  }
  Expected<BackwardInputResult> backward_input(PartOf at, Value saved,
                                               Value output_gradient) override {
    if (at.part == last_part_) receive(output_gradient);
    return stage_.backward_input(at, std::move(saved), std::move(output_gradient));
  }
  Expected<Value> recompute(PartOf at, Value saved) override {
    return stage_.recompute(at, std::move(saved));
  }
  Expected<void> backward_weight(PartOf at, Value saved_for_weight) override {
    return stage_.backward_weight(at, std::move(saved_for_weight));
  }
  Expected<Value> backward(PartOf at, Value saved, Value output_gradient) override {
    if (at.part == last_part_) receive(output_gradient);
    return stage_.backward(at, std::move(saved), std::move(output_gradient));
  }
  Expected<ExchangeStart> start_exchange(PartOf at, Value input, bool for_backward) override {
    const ScopedAccount scope(activations_);
    return stage_.start_exchange(at, std::move(input), for_backward);
  }
  Expected<ExchangeStart> start_exchange_back(PartOf at, Value saved, Value gradient) override {
    const ScopedAccount scope(activations_);
    return stage_.start_exchange_back(at, std::move(saved), std::move(gradient));
  }
  Value end_exchange(Value carried, Value arrived) noexcept override {
    charge(arrived, activations_);
    return stage_.end_exchange(std::move(carried), std::move(arrived));
  }
  Expected<void> end_step() override { return stage_.end_step(); }

 private:
  void receive(const Value& value) {
    if (value) charge(value, buffers_);
  }
  static void charge(const Value& value, MemoryAccount& account) {
    for (const at::Tensor& tensor : static_cast<const Tensors&>(*value).tensors)
      recharge(tensor, account);
  }

  TorchStage stage_;
  int last_part_;
  MemoryAccount& buffers_;
  MemoryAccount& activations_;
};

Shard::Shard(const JobPlan& plan, const DataSplit& data, int column)
    : plan_(plan), data_(data), column_(column) {}
Shard::~Shard() = default;

Expected<void> Shard::build(const std::vector<int>& stages, Accounts accounts) {
  lasting_ = &accounts.lasting;
  const ScopedAccount scope(accounts.lasting);
  const GroupPlace place = plan_.grid().expert_place(column_);
  stages_.resize(static_cast<std::size_t>(plan_.stages()));
  for (const int stage : stages) {
    const StagePart& part = plan_.parts[static_cast<std::size_t>(stage)];
    PLAIT_TRY(std::vector<std::shared_ptr<Segment>> segments,
              make_model_segments(plan_.job.model, part, batch_, plan_.job.run.seed,
                                  plan_.job.data.sequence_length, store_, place, loads_,
                                  plan_.job.parallel.token_bound));
    has_embedding_ = has_embedding_ || part.embedding;
    has_head_ = has_head_ || part.head;
    owned_.push_back(std::make_unique<ReceivingStage>(
        TorchStage(std::move(segments), part.head ? losses_ : nullptr, place, plan_.recomputed()),
        accounts));
    PLAIT_CHECK(owned_.back()->shape() == plan_.shapes[static_cast<std::size_t>(stage)],
                "a stage has the parts that its program was lowered for");
    stages_[static_cast<std::size_t>(stage)] = owned_.back().get();
  }
  if (!plan_.job.model.init.empty())
    PLAIT_TRY_VOID(load_parameters(plan_.job.model.init, plan_.job.model, store_));
  store_.allocate_gradients();
  parameters_ = store_.parameters();
  optimizer_ = std::make_unique<AdamW>(parameters_, plan_.job.optimizer);
  return {};
}

bool Shard::speaks_for(const std::string& parameter) const {
  return expert_of(parameter) ? column_ < plan_.grid().expert : column_ == 0;
}

std::vector<Parameter> Shard::spoken_for() const {
  std::vector<Parameter> mine;
  for (const Parameter& parameter : parameters_) {
    if (speaks_for(parameter.name)) mine.push_back(parameter);
  }
  return mine;
}

int Shard::sequence_of(int microbatch, int row) const {
  return (microbatch * plan_.grid().columns() + column_) * plan_.sequences() + row;
}

void Shard::new_batch() {
  const ScopedAccount scope(*lasting_);
  const std::int64_t length = plan_.job.data.sequence_length;
  batch_->batch.tokens.clear();
  batch_->batch.targets.clear();
  batch_->batch.draws.reset();
  for (int mb = 0; mb < plan_.microbatches(); ++mb) {
    batch_->batch.tokens.push_back(at::empty({plan_.sequences(), length}, at::kLong));
    batch_->batch.targets.push_back(at::empty({plan_.sequences(), length}, at::kLong));
  }
  losses_->reset(plan_.microbatches());
}

void Shard::fill_row(const Dataset& source, int microbatch, int row, std::size_t start,
                     bool scored) {
  const std::int64_t length = plan_.job.data.sequence_length;
  const auto mb = static_cast<std::size_t>(microbatch);
  auto* tokens = batch_->batch.tokens[mb].mutable_data_ptr<std::int64_t>() + row * length;
  auto* targets = batch_->batch.targets[mb].mutable_data_ptr<std::int64_t>() + row * length;
  for (std::int64_t i = 0; i < length; ++i) {
    tokens[i] = source.at(start + static_cast<std::size_t>(i));
    targets[i] = scored ? source.at(start + static_cast<std::size_t>(i) + 1) : kIgnored;
  }
}

void Shard::begin_step(int step) {
  new_batch();
  store_.zero_gradients();
  loads_->reset(plan_.microbatches());
  BatchDraws& draws = batch_->batch.draws.emplace(BatchDraws{plan_.job.run.seed, step, {}});
  for (int mb = 0; mb < plan_.microbatches(); ++mb)
    draws.first_tokens.push_back(std::int64_t{sequence_of(mb, 0)} * plan_.job.data.sequence_length);
  if (!has_embedding_ && !has_head_) return;
  const auto length = static_cast<std::size_t>(plan_.job.data.sequence_length);
  const std::vector<std::size_t> starts = sample_starts(
      plan_.job.run.seed, step, plan_.job.run.batch_size, data_.training.size() - length);
  for (int mb = 0; mb < plan_.microbatches(); ++mb) {
    for (int row = 0; row < plan_.sequences(); ++row) {
      const auto sequence = static_cast<std::size_t>(sequence_of(mb, row));
      fill_row(data_.training, mb, row, starts[sequence], true);
    }
  }
}

void Shard::finish_gradients() {
  const int losses = plan_.microbatches() * plan_.grid().columns();
  for (const Parameter& parameter : parameters_) parameter.tensor.mutable_grad().div_(losses);
}

/// Past the last window, rows of a micro-batch that has scored rows are left out of its mean; a
/// micro-batch without any is scored and not counted.
void Shard::begin_validation(std::size_t first, std::size_t windows) {
  new_batch();
  const auto length = static_cast<std::size_t>(plan_.job.data.sequence_length);
  for (int mb = 0; mb < plan_.microbatches(); ++mb) {
    const std::size_t begin = first + static_cast<std::size_t>(sequence_of(mb, 0));
    for (int row = 0; row < plan_.sequences(); ++row) {
      const std::size_t window = begin + static_cast<std::size_t>(row);
      const bool real = window < windows;
      fill_row(data_.validation, mb, row, real ? window * length : 0, real || begin >= windows);
    }
  }
}

double Shard::validation_sum(std::size_t first, std::size_t windows) const {
  double sum = 0;
  if (!has_head_) return sum;
  for (int mb = 0; mb < plan_.microbatches(); ++mb) {
    const std::size_t begin =
        std::min(first + static_cast<std::size_t>(sequence_of(mb, 0)), windows);
    const std::size_t scored =
        std::min(begin + static_cast<std::size_t>(plan_.sequences()), windows) - begin;
    if (scored > 0)
      sum += losses_->losses()[static_cast<std::size_t>(mb)] * static_cast<double>(scored);
  }
  return sum;
}

}  // namespace plait
