#include "plait/train/reduce.h"

#include <ATen/ops/zeros.h>

#include <algorithm>

#include "plait/model/names.h"
#include "plait/torch/tensors.h"

namespace plait {
namespace {

/// Row k goes to member k; its row comes back in place k.
std::unique_ptr<ExchangeValue> exchange_of(const at::Tensor& rows) {
  const std::vector<std::int64_t> ones(static_cast<std::size_t>(rows.size(0)), 1);
  return std::make_unique<RowExchange>(rows, RowSplits{ones, ones});
}

at::Tensor rows_in(const Value& arrived, std::int64_t members) {
  ArrivedRows whole({at::Tensor()}, 0,
                    std::vector<std::int64_t>(static_cast<std::size_t>(members), 1));
  whole.pieces = std::move(static_cast<Tensors&>(*arrived).tensors);
  return whole.take().front();
}

}  // namespace

std::vector<std::vector<Group>> reduced_groups(const ModelConfig& model,
                                               const std::vector<StagePart>& parts,
                                               const Grid& grid) {
  std::vector<std::vector<Group>> groups(parts.size());
  for (std::size_t stage = 0; stage < parts.size(); ++stage) {
    if (grid.columns() > 1) groups[stage].push_back(Group::kReplicas);
    if (grid.data > 1 && mixture_layers(model, parts[stage]) > 0)
      groups[stage].push_back(Group::kData);
  }
  return groups;
}

GradientReducer::GradientReducer(const ModelConfig& model, const std::vector<StagePart>& parts,
                                 const Grid& grid, const RankProgram& program,
                                 ParameterStore& store, MemoryAccount& buffers)
    : grid_(grid), store_(store), buffers_(buffers) {
  std::vector<int> order;  // of the stages' scatters
  for (const Instruction& instruction : program.instructions) {
    if (instruction.opcode != Opcode::kReduceScatter) continue;
    order.push_back(instruction.action.stage);
    parameters_[{instruction.action.stage, instruction.group}];
  }
  for (const Parameter& parameter : store.parameters()) {
    const auto last = std::find_if(order.rbegin(), order.rend(), [&](int stage) {
      return holds(model, parts[static_cast<std::size_t>(stage)], parameter.name);
    });
    PLAIT_CHECK(last != order.rend(), "a rank's parameters belong to its stages");
    const Group group = expert_of(parameter.name) ? Group::kData : Group::kReplicas;
    // Without replicas of its group an expert is alone.
    if (const auto found = parameters_.find({*last, group}); found != parameters_.end())
      found->second.push_back(parameter);
  }
}

Expected<std::unique_ptr<ExchangeValue>> GradientReducer::scatter(int stage, Group group) {
  const ScopedAccount scope(buffers_);
  const std::vector<Parameter>& reduced = parameters(stage, group);
  std::int64_t numbers = 0;
  for (const Parameter& parameter : reduced) {
    store_.add_alias_gradients(parameter.name);
    numbers += parameter.tensor.numel();
  }
  const std::int64_t slice = (numbers + members(group) - 1) / members(group);
  at::Tensor rows = at::zeros({members(group), slice}, at::TensorOptions().dtype(at::kFloat));
  const at::Tensor flat = rows.view({-1});
  std::int64_t first = 0;
  for (const Parameter& parameter : reduced) {
    const at::Tensor& gradient = parameter.tensor.grad();
    flat.narrow(0, first, gradient.numel()).copy_(gradient.reshape({-1}));
    first += gradient.numel();
  }
  return exchange_of(rows);
}

Expected<std::unique_ptr<ExchangeValue>> GradientReducer::gather(int, Group group, Value rows) {
  const ScopedAccount scope(buffers_);
  const at::Tensor theirs = rows_in(rows, members(group));
  const at::Tensor sum = theirs.select(0, 0).clone();
  for (std::int64_t member = 1; member < members(group); ++member)
    sum.add_(theirs.select(0, member));
  return exchange_of(sum.unsqueeze(0).expand({members(group), sum.numel()}).contiguous());
}

Expected<void> GradientReducer::finish(int stage, Group group, Value sums) {
  const ScopedAccount scope(buffers_);
  const at::Tensor all = rows_in(sums, members(group)).view({-1});
  std::int64_t first = 0;
  for (const Parameter& parameter : parameters(stage, group)) {
    const at::Tensor& gradient = parameter.tensor.grad();
    gradient.copy_(all.narrow(0, first, gradient.numel()).view(gradient.sizes()));
    first += gradient.numel();
  }
  return {};
}

}  // namespace plait
