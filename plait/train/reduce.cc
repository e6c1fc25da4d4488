#include "plait/train/reduce.h"

#include <ATen/ops/zeros.h>

#include <algorithm>

#include "plait/torch/tensors.h"

namespace plait {
namespace {

/// Hands out the numbers of several flat tensors one after the other.
class NumberReader {
 public:
  explicit NumberReader(std::vector<at::Tensor> from) : from_(std::move(from)) {}

  void fill(const at::Tensor& flat) {
    for (std::int64_t done = 0; done < flat.numel();) {
      const at::Tensor& slice = from_[next_];
      const std::int64_t count = std::min(flat.numel() - done, slice.numel() - position_);
      flat.narrow(0, done, count).copy_(slice.narrow(0, position_, count));
      done += count;
      position_ += count;
      if (position_ < slice.numel()) continue;
      ++next_;
      position_ = 0;
    }
  }

 private:
  std::vector<at::Tensor> from_;
  std::size_t next_ = 0;
  std::int64_t position_ = 0;  // in from_[next_]
};

}  // namespace

GroupPlace place_in(Group group, const Grid& grid, int column) {
  if (group == Group::kData) return {column / grid.expert, grid.data};
  return {column, grid.columns()};
}

// A transport brings one tensor a member, or
// all of them as the rows of one.
std::vector<at::Tensor> slices_in(const Value& arrived, std::int64_t members) {
  std::vector<at::Tensor> slices;
  for (const at::Tensor& piece : static_cast<const Tensors&>(*arrived).tensors) {
    if (piece.dim() == 1) {
      slices.push_back(piece);
      continue;
    }
    for (at::Tensor& row : piece.unbind()) slices.push_back(std::move(row));
  }
  PLAIT_CHECK(static_cast<std::int64_t>(slices.size()) == members, "a slice from each member");
  return slices;
}

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

ReducedRows reduced_rows(const std::map<int, std::set<std::string>>& names,
                         const RankProgram& program, const ParameterStore& store) {
  ReducedRows rows;
  std::vector<int> order;  // of the stages' scatters
  for (const Instruction& instruction : program.instructions) {
    if (instruction.opcode != Opcode::kReduceScatter) continue;
    order.push_back(instruction.action.stage);
    rows[{instruction.action.stage, instruction.group}];
  }
  for (const Parameter& parameter : store.parameters()) {
    const auto last = std::find_if(order.rbegin(), order.rend(), [&](int stage) {
      return names.at(stage).contains(parameter.name);
    });
    PLAIT_CHECK(last != order.rend(), "a rank's parameters belong to its stages");
    // Without replicas of its group an expert is alone.
    if (const auto found = rows.find({*last, parameter.holders}); found != rows.end())
      found->second.push_back(parameter);
  }
  return rows;
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
  at::Tensor rows =
      at::zeros({members(group), slice}, at::TensorOptions(at::kFloat).device(store_.device()));
  const at::Tensor flat = rows.view({-1});
  std::int64_t first = 0;
  for (const Parameter& parameter : reduced) {
    const at::Tensor& gradient = parameter.tensor.grad();
    flat.narrow(0, first, gradient.numel()).copy_(gradient.reshape({-1}));
    first += gradient.numel();
  }
  const std::vector<std::int64_t> ones(static_cast<std::size_t>(members(group)), 1);
  return std::make_unique<RowExchange>(rows, RowSplits{ones, ones}, member(group));
}

Expected<std::unique_ptr<ExchangeValue>> GradientReducer::gather(int, Group group, Value addends) {
  const ScopedAccount scope(buffers_);
  const std::vector<at::Tensor> slices = slices_in(addends, members(group));
  at::Tensor sum = slices.front().clone();
  for (std::size_t other = 1; other < slices.size(); ++other) sum.add_(slices[other]);
  return std::make_unique<SliceGather>(std::move(sum), members(group));
}

Expected<void> GradientReducer::finish(int stage, Group group, Value sums) {
  const ScopedAccount scope(buffers_);
  NumberReader numbers(slices_in(sums, members(group)));
  for (const Parameter& parameter : parameters(stage, group)) {
    at::Tensor& gradient = parameter.tensor.mutable_grad();
    const at::Tensor flat = gradient.contiguous().view({-1});
    numbers.fill(flat);
    if (!gradient.is_contiguous()) gradient.copy_(flat.view(gradient.sizes()));
  }
  return {};
}

}  // namespace plait
