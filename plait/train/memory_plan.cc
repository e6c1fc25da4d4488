#include "plait/train/memory_plan.h"

#include <fmt/core.h>

#include <algorithm>

#include "plait/base/print.h"
#include "plait/model/dtypes.h"

namespace plait {
namespace {

constexpr Bytes kParameter = bytes_of(kDtypes.parameter);
constexpr Bytes kToken = bytes_of(kDtypes.index);

/// A stage's experts' gradients are added up over replicas, all others over all columns.
Bytes reductions_of(const ModelOnRanks& input, const StagePart& part) {
  const Grid& grid = input.grid;
  const std::int64_t experts = routed_parameter_count(input.model, part, grid.expert);
  const std::int64_t others = parameter_count(input.model, part, grid.expert) - experts;
  return reduction_bytes(others, grid.columns()) + reduction_bytes(experts, grid.data);
}

RankMemory memory_of_rank(const ModelOnRanks& input, int rank) {
  const ModelConfig& model = input.model;
  const MicrobatchShape& shape = input.microbatch;
  std::int64_t numbers = 0, buffers = 0, rounded = 0;
  bool embedding = false, head = false;
  RankMemory memory;
  for (const int stage : input.placement.stages_of(rank)) {
    const StagePart& part = input.parts[static_cast<std::size_t>(stage)];
    numbers += parameter_count(model, part, shape.members);
    rounded += rounded_count(model, part, shape.members);
    embedding = embedding || part.embedding;
    head = head || part.head;
    buffers += constant_count(model, part, shape.sequence_length);
    memory.reductions += reductions_of(input, part);
  }
  const std::int64_t table = model.vocab_size * model.hidden_size;
  const bool shared = model.tie_word_embeddings && embedding && head;
  // A part with the head alone has counted the table once more.
  if (shared && input.parts.size() > 1) numbers -= table;
  memory.weights = kParameter * (numbers + buffers);
  if (shape.compute != kDtypes.parameter) memory.weights += bytes_of(shape.compute) * rounded;
  memory.gradients = kParameter * (numbers + (shared ? table : 0));
  memory.optimizer = kAdamWMoments * kParameter * numbers;
  // Tokens, their targets, and a loss of each micro-batch.
  memory.batch =
      input.microbatches * (2 * kToken * shape.sequences * shape.sequence_length + kLossBytes);
  return memory;
}

}  // namespace

RankMemory& RankMemory::operator+=(const RankMemory& stage) {
  weights += stage.weights;
  gradients += stage.gradients;
  optimizer += stage.optimizer;
  batch += stage.batch;
  whole += stage.whole;
  start += stage.start;
  reductions += stage.reductions;
  return *this;
}

// In slices of n members: the gradients that leave (n), the addends that come (n), their sum (1),
// and the sums of all members (n).
Bytes reduction_bytes(std::int64_t numbers, int members) {
  if (members == 1) return 0;
  const std::int64_t slice = (numbers + members - 1) / members;
  return kParameter * slice * (3 * std::int64_t{members} + 1);
}

std::vector<RankMemory> model_memory(const ModelOnRanks& input) {
  std::vector<RankMemory> memory;
  for (int rank = 0; rank < input.placement.ranks; ++rank)
    memory.push_back(memory_of_rank(input, rank));
  return memory;
}

void set_activations(std::vector<RankMemory>& memory, const std::vector<RankProgram>& training,
                     const std::vector<RankProgram>& validation,
                     const std::vector<std::vector<PartMemory>>& parts) {
  const std::vector<Bytes> in_training = peak_memory(training, parts);
  const std::vector<Bytes> in_validation = peak_memory(validation, parts);
  for (std::size_t rank = 0; rank < memory.size(); ++rank)
    memory[rank].activations = std::max(in_training[rank], in_validation[rank]);
}

Expected<void> check_memory(Bytes limit, const Grid& grid, const std::vector<RankMemory>& memory) {
  const auto most = std::max_element(
      memory.begin(), memory.end(),
      [](const RankMemory& a, const RankMemory& b) { return a.total() < b.total(); });
  if (limit == 0 || most->total() <= limit) return {};
  const auto rank = static_cast<int>(most - memory.begin());
  std::string who = fmt::format("rank {}", grid.rank_of(rank, 0));
  if (grid.columns() > 1) {
    who = fmt::format("each of ranks {} to {}", grid.rank_of(rank, 0),
                      grid.rank_of(rank, grid.columns() - 1));
  }
  return fail(
      ErrorCode::kInvalidInput,
      fmt::format("{} needs up to {} bytes, memory_limit_bytes is {}", who, most->total(), limit),
      "parallel.memory_limit_bytes");
}

std::string ranks_at(const Grid& grid, int pipeline_rank) {
  const int first = grid.rank_of(pipeline_rank, 0);
  return grid.columns() == 1 ? std::to_string(first)
                             : fmt::format("{}-{}", first, first + grid.columns() - 1);
}

std::string describe_memory(const Grid& grid, const std::vector<RankMemory>& memory) {
  // Columns of what a run may have.
  const auto column = [&](Bytes RankMemory::*field, const std::string& cell) {
    const bool any = std::any_of(memory.begin(), memory.end(),
                                 [&](const RankMemory& one) { return one.*field > 0; });
    return any ? fmt::format("  {:>10}", cell) : std::string();
  };
  const auto whole = [&](const std::string& cell) { return column(&RankMemory::whole, cell); };
  const auto snapshot = [&](const std::string& cell) {
    return column(&RankMemory::snapshot, cell);
  };
  std::string text =
      fmt::format("{:>5}  {:>10}  {:>10}{}  {:>10}  {:>10}{}  {:>12}  {:>14}  (MB, at most)\n",
                  "rank", "weights", "gradients", whole("whole"), "reductions", "optimizer",
                  snapshot("snapshot"), "activations", "bytes in all");
  for (std::size_t rank = 0; rank < memory.size(); ++rank) {
    const RankMemory& one = memory[rank];
    const bool known = one.activations.has_value();
    text += fmt::format(
        "{:>5}  {:>10}  {:>10}{}  {:>10}  {:>10}{}  {:>12}  {:>14}\n",
        ranks_at(grid, static_cast<int>(rank)), megabytes(one.weights), megabytes(one.gradients),
        whole(megabytes(one.whole)), megabytes(one.reductions), megabytes(one.optimizer),
        snapshot(megabytes(one.snapshot)), known ? megabytes(*one.activations) : "-",
        known ? std::to_string(one.total()) : "-");
  }
  return text;
}

}  // namespace plait
