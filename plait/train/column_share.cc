#include "plait/train/column_share.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "plait/base/check.h"
#include "plait/torch/tensors.h"
#include "plait/train/tensor_slices.h"

namespace plait {

/// Brings values that arrive to the rank's device, and charges them. A message was made by another
/// rank's thread: it is charged as received, because activations are what this rank has made. Rows
/// of an exchange go to activations, whichever rank's thread has moved them.
class ColumnShare::ReceivingStage final : public Stage {
 public:
  ReceivingStage(TorchStage stage, int number, at::Device device, Accounts accounts,
                 FiniteWatch& finite)
      : stage_(std::move(stage)),
        number_(number),
        finite_(finite),
        device_(device),
        last_part_(static_cast<int>(stage_.shape().size()) - 1),
        received_(accounts.received),
        activations_(accounts.activations) {}

  StageShape shape() const { return stage_.shape(); }

  /// `names`: the parameters that the stage uses, whose gradients come and go.
  void use(ParameterShards& shards, const std::set<std::string>& names) {
    shards_ = &shards;
    names_ = &names;
  }
  void begin_step() { has_gradients_ = false; }

  Expected<ForwardResult> forward(PartOf which, Value input, bool for_backward) override {
    bring(input);
    if (which.part == 0) receive(input);
    PLAIT_TRY(ForwardResult result, stage_.forward(which, std::move(input), for_backward));
    if (which.part == last_part_)
      look(NotFinite::Phase::kForward, which.microbatch, "its output", result.output);
    return result;
  }
  Expected<BackwardInputResult> backward_input(PartOf which, Value saved,
                                               Value output_gradient) override {
    bring(output_gradient);
    if (which.part == last_part_) receive(output_gradient);
    need_gradients();
    PLAIT_TRY(BackwardInputResult result,
              stage_.backward_input(which, std::move(saved), std::move(output_gradient)));
    if (which.part == 0) look_at_gradient(which.microbatch, result.input_gradient);
    return result;
  }
  Expected<Value> recompute(PartOf which, Value saved) override {
    return stage_.recompute(which, std::move(saved));
  }
  Expected<void> backward_weight(PartOf which, Value saved_for_weight) override {
    need_gradients();
    return stage_.backward_weight(which, std::move(saved_for_weight));
  }
  Expected<Value> backward(PartOf which, Value saved, Value output_gradient) override {
    bring(output_gradient);
    if (which.part == last_part_) receive(output_gradient);
    need_gradients();
    PLAIT_TRY(Value gradient, stage_.backward(which, std::move(saved), std::move(output_gradient)));
    if (which.part == 0) look_at_gradient(which.microbatch, gradient);
    return gradient;
  }
  Expected<ExchangeStart> start_exchange(PartOf which, Value input, bool for_backward) override {
    const ScopedAccount scope(activations_);
    bring(input);
    return stage_.start_exchange(which, std::move(input), for_backward);
  }
  Expected<ExchangeStart> start_exchange_back(PartOf which, Value saved, Value gradient) override {
    const ScopedAccount scope(activations_);
    bring(gradient);
    return stage_.start_exchange_back(which, std::move(saved), std::move(gradient));
  }
  Value end_exchange(Value carried, Value arrived) noexcept override {
    charge(arrived, activations_);
    return stage_.end_exchange(std::move(carried), std::move(arrived));
  }
  Expected<void> end_step() override { return stage_.end_step(); }

  /// What each segment makes is looked at too.
  void look_at_segments() {
    stage_.observe([this](const std::string& segment, bool forward, int microbatch,
                          const std::vector<at::Tensor>& made) {
      finite_.look(forward ? NotFinite::Phase::kForward : NotFinite::Phase::kBackward, microbatch,
                   number_,
                   forward ? "the output of segment " + segment
                           : "the gradient that segment " + segment + " passes back",
                   made);
    });
  }

 private:
  /// Of a stage that ends in an exchange the next one's output is looked at.
  void look(NotFinite::Phase phase, int microbatch, const char* what, const Value& value) {
    if (const auto* made = dynamic_cast<const Tensors*>(value.get()))
      finite_.look(phase, microbatch, number_, what, made->tensors);
  }
  void look_at_gradient(int microbatch, const Value& gradient) {
    look(NotFinite::Phase::kBackward, microbatch, "its input's gradient", gradient);
  }

  /// Ranks of one process may be on several GPUs: what another one has made is copied, on the lane
  /// that reads it. What a segment has brought to the host stays there.
  void bring(const Value& value) {
    if (device_.is_cpu() || !value) return;
    std::vector<at::Tensor>* tensors = nullptr;
    if (auto* arrived = dynamic_cast<ArrivedRows*>(value.get())) tensors = &arrived->pieces;
    if (auto* message = dynamic_cast<Tensors*>(value.get())) tensors = &message->tensors;
    if (tensors == nullptr) return;
    for (at::Tensor& tensor : *tensors) {
      if (tensor.defined() && !tensor.is_cpu() && tensor.device() != device_)
        tensor = tensor.to(device_, tensor.scalar_type(), /*non_blocking=*/true);
    }
  }
  /// The first backward of a step makes room; nothing is freed before the stage's last.
  void need_gradients() {
    if (shards_ == nullptr || has_gradients_) return;
    shards_->need_gradients(*names_);
    has_gradients_ = true;
  }
  void receive(const Value& value) {
    if (value) charge(value, received_);
  }
  static void charge(const Value& value, MemoryAccount& account) {
    for (const at::Tensor& tensor : static_cast<const Tensors&>(*value).tensors)
      recharge(tensor, account);
  }

  TorchStage stage_;
  int number_;
  FiniteWatch& finite_;
  at::Device device_;
  int last_part_;
  MemoryAccount& received_;
  MemoryAccount& activations_;
  ParameterShards* shards_ = nullptr;
  const std::set<std::string>* names_ = nullptr;
  bool has_gradients_ = false;  // in this step
};

ColumnShare::ColumnShare(const TrainSetup& setup, int column, at::Device device)
    : setup_(setup),
      column_(column),
      model_(setup.source.make_rank(column, device)),
      store_(device) {
  losses_->let_pass_not_finite();  // the trainers decide what follows
}
ColumnShare::~ColumnShare() = default;

Expected<void> ColumnShare::build(const std::vector<int>& stages, Accounts accounts,
                                  const RankProgram* program) {
  received_ = &accounts.received;
  const ScopedAccount scope(accounts.lasting);
  const TrainPlan& plan = setup_.plan;
  stages_.resize(static_cast<std::size_t>(plan.stages()));
  for (const int stage : stages) {
    PLAIT_TRY(StageSegments segments, model_->make_stage(stage, store_));
    std::set<std::string>& names = names_[stage];
    for (const std::shared_ptr<Segment>& segment : segments) {
      for (const Parameter& parameter : segment->parameters()) names.insert(parameter.name);
    }
    const bool last = stage + 1 == plan.stages();
    has_last_stage_ = has_last_stage_ || last;
    owned_.push_back(std::make_unique<ReceivingStage>(
        TorchStage(std::move(segments), last ? losses_ : nullptr, plan.grid().expert_place(column_),
                   setup_.settings.recompute),
        stage, store_.device(), accounts, finite_));
    if (setup_.settings.checks_segments) owned_.back()->look_at_segments();
    PLAIT_CHECK(owned_.back()->shape() == plan.shapes[static_cast<std::size_t>(stage)],
                "a stage has the parts that its program was lowered for");
    stages_[static_cast<std::size_t>(stage)] = owned_.back().get();
  }
  // Own modules were made before the rank had an account.
  for (const Parameter& tensor : store_.tensors()) recharge(tensor.tensor, accounts.lasting);
  PLAIT_TRY_VOID(model_->load(store_));
  parameters_ = store_.parameters();
  if (setup_.settings.compares_copies) copies_ = hash_copies(store_, column_, plan.expert);
  if (program != nullptr && plan.grid().columns() > 1) {
    rows_ = reduced_rows(names_, *program, store_);
    if (plan.shard != ShardMode::kNone) PLAIT_TRY_VOID(cut(accounts));
  }
  for (const Parameter& one : parameters_) {
    const bool comes_later = shards_ && shards_->cuts_gradients() && shards_->is_cut(one.name);
    if (!comes_later) store_.allocate_gradients(one.name);
  }
  slices_ = make_slices();
  if (setup_.settings.optimizer) optimizer_ = setup_.settings.optimizer(slices_);
  return {};
}

Expected<void> ColumnShare::cut(Accounts accounts) {
  const TrainPlan& plan = setup_.plan;
  PLAIT_TRY_VOID(check_cuts(rows_));
  shards_ = std::make_unique<ParameterShards>(plan.shard, rows_, plan.grid(), column_, store_,
                                              accounts.lasting, accounts.received);
  std::size_t next = 0;  // stages and their names are in one order
  for (const auto& [stage, names] : names_) owned_[next++]->use(*shards_, names);
  return {};
}

std::unique_ptr<Reducer> ColumnShare::make_reducer(const RankProgram& program) {
  if (shards_) return std::make_unique<ShardReducer>(program, names_, rows_, *shards_);
  if (rows_.empty()) return nullptr;
  return std::make_unique<GradientReducer>(rows_, setup_.plan.grid(), column_, store_, *received_);
}

bool ColumnShare::speaks_for(const Parameter& parameter) const {
  return parameter.holders == Group::kData ? column_ < setup_.plan.expert : column_ == 0;
}

std::vector<Parameter> ColumnShare::spoken_for() const {
  std::vector<Parameter> mine;
  for (const Parameter& parameter : parameters_) {
    if (speaks_for(parameter)) mine.push_back(parameter);
  }
  return mine;
}

void ColumnShare::begin_round(int step, int round) {
  if (round == 0) finite_.begin_step();
  finite_.begin_round(round * setup_.plan.microbatches());
  const ScopedAccount scope(*received_);
  if (round == 0) {
    store_.zero_gradients();
    renew_rounded();
    for (const auto& stage : owned_) stage->begin_step();
  }
  if (shards_) shards_->begin_run(round == 0);
  losses_->reset(setup_.plan.microbatches());
  model_->begin_round(step, round);
}

void ColumnShare::finish_gradients() {
  // The caller's own step may have given the parameters other gradients.
  slices_ = make_slices();
  for (const TrainedSlice& slice : slices_) slice.gradient.div_(setup_.plan.losses());
}

std::vector<TrainedSlice> ColumnShare::make_slices() const {
  std::vector<TrainedSlice> slices;
  for (const Parameter& parameter : parameters_) {
    if (!shards_ || !shards_->is_cut(parameter.name)) {
      slices.push_back(whole_slice(parameter, speaks_for(parameter)));
    } else if (std::optional<TrainedSlice> own = shards_->own_slice(parameter.name)) {
      slices.push_back(*std::move(own));
    }
  }
  return slices;
}

// Where replicas share a parameter, an UNSHARD renews its copy.
void ColumnShare::renew_rounded() {
  for (const Parameter& parameter : parameters_)
    if (!shards_ || !shards_->is_cut(parameter.name)) store_.renew_rounded(parameter.name);
}

void ColumnShare::end_run() {
  if (shards_) shards_->end_run();
}

void ColumnShare::begin_validation(int batch) {
  const ScopedAccount scope(*received_);
  if (shards_) shards_->begin_run(batch == 0);
  losses_->reset(setup_.plan.microbatches());
  if (batch == 0) renew_rounded();
  model_->begin_validation(batch);
}

TrainState ColumnShare::state() {
  TrainState state;
  for (const TrainedSlice& slice : slices_) {
    state.push_back(slice_of("parameter", slice.beside(slice.value)));
    state.back().speaks = slice.speaks;
  }
  for (const Parameter& buffer : store_.buffers()) {
    state.push_back(slice_of("buffer", whole_tensor(buffer.name, buffer.tensor)));
    state.back().speaks = speaks_for(buffer);
  }
  // Numbers of the run are the same in all columns.
  const auto add = [&](TrainState more) {
    for (StateSlice& slice : more) {
      if (slice.name.empty()) slice.speaks = column_ == 0;
      state.push_back(std::move(slice));
    }
  };
  if (optimizer_) add(optimizer_->state(slices_));
  add(model_->state());
  return state;
}

}  // namespace plait
