#include "plait/train/reduce.h"

#include <ATen/ops/zeros.h>

#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>

#include "plait/nn/names.h"
#include "plait/runtime/torch/tensors.h"

namespace plait {
namespace {

class Waiter final : public CompletionSink {
 public:
  void completed(std::uint32_t, Expected<Value> result) noexcept override {
    const std::lock_guard lock(mutex_);
    result_ = std::move(result);
    changed_.notify_one();
  }
  Expected<Value> wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return result_.has_value(); });
    return *std::move(result_);
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Expected<Value>> result_;
};

/// Row k goes to member k; its row comes back in place k.
Expected<at::Tensor> exchange_rows(Comm& comm, Group group, int phase, const at::Tensor& rows) {
  const std::vector<std::int64_t> ones(static_cast<std::size_t>(rows.size(0)), 1);
  Collective collective;
  collective.group = group;
  collective.part = phase;
  Waiter waiter;
  comm.all_to_all(collective, std::make_unique<RowExchange>(rows, RowSplits{ones, ones}), 0,
                  waiter);
  PLAIT_TRY(const Value arrived, waiter.wait());
  ArrivedRows whole({at::Tensor()}, 0, ones);
  whole.pieces = std::move(static_cast<Tensors&>(*arrived).tensors);
  return whole.take().front();
}

Expected<void> reduce(Comm& comm, Group group, std::int64_t members,
                      const std::vector<at::Tensor>& gradients) {
  std::int64_t numbers = 0;
  for (const at::Tensor& gradient : gradients) numbers += gradient.numel();
  if (members == 1 || numbers == 0) return {};
  const std::int64_t slice = (numbers + members - 1) / members;
  const at::Tensor mine = at::zeros({members, slice}, gradients.front().options());
  const at::Tensor flat = mine.view({-1});
  std::int64_t first = 0;
  for (const at::Tensor& gradient : gradients) {
    flat.narrow(0, first, gradient.numel()).copy_(gradient.reshape({-1}));
    first += gradient.numel();
  }
  PLAIT_TRY(const at::Tensor theirs, exchange_rows(comm, group, 0, mine));
  const at::Tensor sum = theirs.select(0, 0).clone();
  for (std::int64_t member = 1; member < members; ++member) sum.add_(theirs.select(0, member));
  PLAIT_TRY(const at::Tensor sums,
            exchange_rows(comm, group, 1, sum.unsqueeze(0).expand({members, slice}).contiguous()));
  const at::Tensor all = sums.view({-1});
  first = 0;
  for (const at::Tensor& gradient : gradients) {
    gradient.copy_(all.narrow(0, first, gradient.numel()).view(gradient.sizes()));
    first += gradient.numel();
  }
  return {};
}

}  // namespace

Expected<void> reduce_gradients(ParameterStore& store, const Grid& grid, Comm& comm) {
  std::vector<at::Tensor> experts, others;
  for (const Parameter& parameter : store.parameters())
    (expert_of(parameter.name) ? experts : others).push_back(parameter.tensor.grad());
  PLAIT_TRY_VOID(reduce(comm, Group::kReplicas, grid.columns(), others));
  return reduce(comm, Group::kData, grid.data, experts);
}

}  // namespace plait
