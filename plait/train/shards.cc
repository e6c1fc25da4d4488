#include "plait/train/shards.h"

#include <ATen/ops/zeros.h>
#include <fmt/core.h>

#include <algorithm>

#include "plait/base/check.h"
#include "plait/torch/tensors.h"
#include "plait/train/shard_layout.h"
#include "plait/train/tensor_slices.h"

namespace plait {
namespace {

std::vector<std::int64_t> sizes_of(const std::vector<Parameter>& row) {
  std::vector<std::int64_t> numbers;
  for (const Parameter& parameter : row) numbers.push_back(parameter.tensor.numel());
  return numbers;
}

/// Reads the slices of members one parameter after the other.
class SliceReader {
 public:
  explicit SliceReader(std::vector<at::Tensor> slices)
      : slices_(std::move(slices)), next_(slices_.size()) {}

  at::Tensor read(std::size_t member, std::int64_t count) {
    std::int64_t& first = next_[member];
    at::Tensor part = slices_[member].narrow(0, first, count);
    first += count;
    return part;
  }

 private:
  std::vector<at::Tensor> slices_;
  std::vector<std::int64_t> next_;
};

}  // namespace

Expected<void> check_cuts(const ReducedRows& rows) {
  for (const auto& [key, row] : rows) {
    for (const Parameter& one : row) {
      if (one.tensor.scalar_type() != at::kFloat) {
        return fail(ErrorCode::kInvalidInput,
                    fmt::format("the parameter's dtype is {}, replicas share out float32 only",
                                dtype_name(one.tensor)),
                    one.name);
      }
      if (one.tensor.storage().nbytes() != static_cast<std::size_t>(one.tensor.nbytes())) {
        return fail(ErrorCode::kInvalidInput,
                    fmt::format("the parameter has {} of the {} bytes of its storage, replicas "
                                "share out parameters with storages of their own",
                                one.tensor.nbytes(), one.tensor.storage().nbytes()),
                    one.name);
      }
    }
  }
  return {};
}

ParameterShards::ParameterShards(ShardMode mode, const ReducedRows& rows, const Grid& grid,
                                 int column, ParameterStore& store, MemoryAccount& lasting,
                                 MemoryAccount& buffers)
    : mode_(mode),
      grid_(grid),
      column_(column),
      store_(store),
      lasting_(lasting),
      buffers_(buffers) {
  PLAIT_CHECK(mode != ShardMode::kNone, "nothing is cut without a mode");
  const ScopedAccount scope(lasting_);
  for (const auto& [key, row] : rows) cut_row(row, key.second);
}

void ParameterShards::cut_row(const std::vector<Parameter>& row, Group group) {
  const GroupPlace mine = place(group);
  const ShardLayout layout(sizes_of(row), mine.members);
  for (const Parameter& parameter : row) {
    Cut& cut = cuts_[parameter.name];
    cut.parameter = parameter;
    cut.member = mine.member;
    cut.runs.resize(static_cast<std::size_t>(mine.members));
  }
  for (int member = 0; member < mine.members; ++member) {
    for (const Piece& piece : layout.pieces(member))
      cuts_.at(row[piece.parameter].name).runs[static_cast<std::size_t>(member)] = {piece.first,
                                                                                    piece.count};
  }
  if (!cuts_gradients()) return;
  const at::TensorOptions options = at::TensorOptions(at::kFloat).device(store_.device());
  const at::Tensor sums = at::zeros({layout.numbers(mine.member)}, options);
  OwnRow own;
  if (cuts_parameters()) own.values = at::zeros({layout.row_numbers()}, options);
  std::int64_t first = 0;
  for (const Parameter& parameter : row) {
    Cut& cut = cuts_.at(parameter.name);
    const std::int64_t count = cut.own().count;
    cut.gradient = sums.narrow(0, first, count);
    store_.free_gradients(parameter.name);
    if (cuts_parameters()) {
      cut.value = own.values.narrow(0, first, count);
      cut.value.copy_(values(parameter.name).narrow(0, cut.own().first, count));
      store_.free_values(parameter.name);
      own.names.push_back(parameter.name);
    }
    first += count;
  }
  if (cuts_parameters()) own_rows_.push_back(std::move(own));
}

at::Tensor ParameterShards::values(const std::string& name) const {
  return cuts_.at(name).parameter.tensor.variable_data().view({-1});
}

at::Tensor ParameterShards::gradients(const std::string& name) const {
  at::Tensor& gradient = cuts_.at(name).parameter.tensor.mutable_grad();
  if (!gradient.is_contiguous()) gradient = gradient.contiguous();
  return gradient.view({-1});
}

std::optional<TrainedSlice> ParameterShards::own_slice(const std::string& name) const {
  const Cut& cut = cuts_.at(name);
  const auto [first, count] = cut.own();
  if (count == 0) return std::nullopt;
  TrainedSlice slice;
  slice.name = name;
  slice.shape = cut.parameter.tensor.sizes().vec();
  slice.first = first;
  slice.value = cuts_parameters() ? cut.value : values(name).narrow(0, first, count);
  slice.gradient = cuts_gradients() ? cut.gradient : gradients(name).narrow(0, first, count);
  return slice;
}

at::Tensor ParameterShards::own_values(const std::vector<std::string>& names,
                                       std::int64_t length) const {
  // Without a copy: others read it while the step lasts, the optimiser writes it when that is over.
  for (const OwnRow& row : own_rows_) {
    if (row.names == names) return row.values;
  }
  at::Tensor flat = at::zeros({length}, at::TensorOptions(at::kFloat).device(store_.device()));
  std::int64_t first = 0;
  for (const std::string& name : names) {
    const std::optional<TrainedSlice> slice = own_slice(name);
    if (!slice) continue;
    flat.narrow(0, first, slice->value.numel()).copy_(slice->value);
    first += slice->value.numel();
  }
  return flat;
}

void ParameterShards::need_gradients(const std::set<std::string>& names) {
  if (!cuts_gradients()) return;
  const ScopedAccount scope(lasting_);
  for (const std::string& name : names) {
    if (is_cut(name)) store_.allocate_gradients(name);
  }
}

void ParameterShards::end_run() {
  if (!cuts_parameters()) return;
  for (const auto& [name, cut] : cuts_) store_.free_values(name);
}

ShardReducer::ShardReducer(const RankProgram& program,
                           const std::map<int, std::set<std::string>>& names,
                           const ReducedRows& rows, ParameterShards& shards)
    : rows_(rows), shards_(shards) {
  // A parameter that two stages use is there while one of them is: the first UNSHARD of the two
  // gathers it, the last RESHARD frees it. Where parameters stay whole, nobody reshards.
  std::map<std::string, int> users;
  std::set<std::pair<int, int>> seen;
  for (const Instruction& one : program.instructions) {
    const std::pair<int, int> key(one.action.stage, one.part);
    if (one.opcode == Opcode::kUnshardGather) {
      gathers_[{key.first, key.second, one.group}];
      if (!seen.insert(key).second) continue;
      for (const std::string& name : names.at(one.action.stage)) {
        if (!shards_.is_cut(name) || users[name]++ > 0) continue;
        gathers_[{key.first, key.second, shards_.group_of(name)}].names.push_back(name);
      }
    } else if (one.opcode == Opcode::kReshardFree) {
      for (const std::string& name : names.at(one.action.stage)) {
        if (shards_.is_cut(name) && --users[name] == 0) frees_[key].push_back(name);
      }
    }
  }
  for (auto& [key, gather] : gathers_) gather.length = longest(gather.names, std::get<2>(key));
}

std::int64_t ShardReducer::longest(const std::vector<std::string>& names, Group group) const {
  std::int64_t most = 0;
  for (std::size_t member = 0; member < static_cast<std::size_t>(shards_.place(group).members);
       ++member) {
    std::int64_t numbers = 0;
    for (const std::string& name : names) numbers += shards_.runs_of(name)[member].count;
    most = std::max(most, numbers);
  }
  return most;
}

Expected<std::unique_ptr<ExchangeValue>> ShardReducer::scatter(int stage, Group group) {
  const ScopedAccount scope(shards_.buffers());
  const std::vector<Parameter>& row = rows_.at({stage, group});
  const GroupPlace place = shards_.place(group);
  std::vector<std::string> names;
  for (const Parameter& parameter : row) names.push_back(parameter.name);
  const at::Tensor slices =
      at::zeros({place.members, longest(names, group)},
                at::TensorOptions(at::kFloat).device(shards_.store().device()));
  std::vector<std::int64_t> next(static_cast<std::size_t>(place.members));
  for (const std::string& name : names) {
    shards_.store().add_alias_gradients(name);
    const at::Tensor gradient = shards_.gradients(name);
    const std::vector<ParameterShards::Run>& runs = shards_.runs_of(name);
    for (std::size_t member = 0; member < runs.size(); ++member) {
      const auto [first, count] = runs[member];
      slices.select(0, static_cast<std::int64_t>(member))
          .narrow(0, next[member], count)
          .copy_(gradient.narrow(0, first, count));
      next[member] += count;
    }
    // On a GPU the memory is the compute lane's, which frees it behind the scatter.
    if (shards_.cuts_gradients() && is_on_host()) shards_.store().free_gradients(name);
  }
  const std::vector<std::int64_t> ones(next.size(), 1);
  return std::make_unique<RowExchange>(slices, RowSplits{ones, ones}, place.member);
}

Expected<void> ShardReducer::finish(int stage, Group group, Value addends) {
  const ScopedAccount scope(shards_.buffers());
  const GroupPlace place = shards_.place(group);
  const std::vector<at::Tensor> slices = slices_in(addends, place.members);
  std::int64_t next = 0;
  for (const Parameter& parameter : rows_.at({stage, group})) {
    const std::optional<TrainedSlice> own = shards_.own_slice(parameter.name);
    if (own) {
      const std::int64_t count = own->gradient.numel();
      at::Tensor sum = own->gradient;
      sum.copy_(slices.front().narrow(0, next, count));
      for (std::size_t other = 1; other < slices.size(); ++other)
        sum.add_(slices[other].narrow(0, next, count));
      next += count;
    }
    if (shards_.cuts_gradients() && !is_on_host()) shards_.store().free_gradients(parameter.name);
  }
  return {};
}

Expected<std::unique_ptr<ExchangeValue>> ShardReducer::unshard(int stage, int number, Group group) {
  const ScopedAccount scope(shards_.buffers());
  const Gather& gather = gathers_.at({stage, number, group});
  const std::int64_t members = shards_.place(group).members;
  if (!shards_.gathers()) return std::make_unique<SliceGather>(shards_.own_values({}, 0), members);
  return std::make_unique<SliceGather>(shards_.own_values(gather.names, gather.length), members);
}

Expected<void> ShardReducer::end_unshard(int stage, int number, Group group, Value slices) {
  if (!shards_.gathers()) return {};
  const ScopedAccount scope(shards_.lasting());
  const GroupPlace place = shards_.place(group);
  SliceReader reader(slices_in(slices, place.members));
  for (const std::string& name : gathers_.at({stage, number, group}).names) {
    if (shards_.cuts_parameters()) shards_.store().allocate_values(name);
    const at::Tensor values = shards_.values(name);
    const std::vector<ParameterShards::Run>& runs = shards_.runs_of(name);
    for (std::size_t member = 0; member < runs.size(); ++member) {
      const auto [first, count] = runs[member];
      const at::Tensor came = reader.read(member, count);
      // Where parameters stay whole, the own numbers are in their place.
      if (!shards_.cuts_parameters() && member == static_cast<std::size_t>(place.member)) continue;
      values.narrow(0, first, count).copy_(came);
    }
    shards_.store().renew_rounded(name);
  }
  return {};
}

Expected<void> ShardReducer::reshard(int stage, int number) {
  const auto found = frees_.find({stage, number});
  if (found == frees_.end()) return {};
  for (const std::string& name : found->second) shards_.store().free_values(name);
  return {};
}

}  // namespace plait
