#include "plait/train/memory_plan.h"

#include <fmt/core.h>

#include <algorithm>

#include "plait/model/dtypes.h"
#include "plait/model/part_memory.h"
#include "plait/program/peak_memory.h"

namespace plait {
namespace {

constexpr Bytes kParameter = bytes_of(kDtypes.parameter);
constexpr Bytes kToken = bytes_of(kDtypes.index);
constexpr Bytes kLoss = 8;

Grid grid_of(const MemoryInput& input) {
  return {input.placement.ranks, input.job.parallel.data, input.job.parallel.expert};
}

MicrobatchShape shape_of(const MemoryInput& input) {
  const JobConfig& job = input.job;
  MicrobatchShape shape;
  shape.sequences = job.sequences_per_microbatch();
  shape.sequence_length = job.data.sequence_length;
  shape.members = job.parallel.expert;
  shape.token_bound = job.parallel.token_bound;
  shape.threads = job.run.threads;
  return shape;
}

/// What one group's reduction holds (train/reduce.h), in slices of n members: the gradients that
/// leave (n), the addends that come (n), their sum (1), and the sums of all members (n).
Bytes reduction(std::int64_t numbers, int members) {
  if (members == 1) return 0;
  const std::int64_t slice = (numbers + members - 1) / members;
  return kParameter * slice * (3 * std::int64_t{members} + 1);
}

/// What is there before and after a step.
RankMemory lasting(const MemoryInput& input, int rank) {
  const ModelConfig& model = input.job.model;
  const MicrobatchShape shape = shape_of(input);
  std::int64_t numbers = 0, buffers = 0;
  bool embedding = false, head = false;
  for (const int stage : input.placement.stages_of(rank)) {
    const StagePart& part = input.parts[static_cast<std::size_t>(stage)];
    numbers += parameter_count(model, part, shape.members);
    embedding = embedding || part.embedding;
    head = head || part.head;
    buffers += constant_count(model, part, shape.sequence_length);
  }
  const std::int64_t table = model.vocab_size * model.hidden_size;
  const bool shared = model.tie_word_embeddings && embedding && head;
  // A part with the head alone has counted the table once more.
  if (shared && input.parts.size() > 1) numbers -= table;
  RankMemory memory;
  memory.weights = kParameter * (numbers + buffers);
  memory.gradients = kParameter * (numbers + (shared ? table : 0));
  memory.optimizer = 2 * kParameter * numbers;
  // Tokens, their targets, and a loss of each micro-batch.
  memory.batch = input.job.parallel.microbatches *
                 (2 * kToken * shape.sequences * shape.sequence_length + kLoss);
  return memory;
}

/// A stage's experts' gradients are added up over replicas, all others over all columns.
Bytes reductions(const MemoryInput& input, int rank) {
  const ModelConfig& model = input.job.model;
  const Grid grid = grid_of(input);
  Bytes bytes = 0;
  for (const int stage : input.placement.stages_of(rank)) {
    const StagePart& part = input.parts[static_cast<std::size_t>(stage)];
    const std::int64_t experts = routed_parameter_count(model, part, grid.expert);
    bytes += reduction(parameter_count(model, part, grid.expert) - experts, grid.columns()) +
             reduction(experts, grid.data);
  }
  return bytes;
}

}  // namespace

std::vector<RankMemory> plan_memory(const MemoryInput& input) {
  std::vector<std::vector<PartMemory>> parts;
  for (const StagePart& part : input.parts)
    parts.push_back(part_memory(input.job.model, part, shape_of(input), input.recomputed));
  const std::vector<Bytes> training = peak_memory(input.training, parts);
  const std::vector<Bytes> validation = peak_memory(input.validation, parts);
  std::vector<RankMemory> memory;
  for (int rank = 0; rank < input.placement.ranks; ++rank) {
    memory.push_back(lasting(input, rank));
    const auto r = static_cast<std::size_t>(rank);
    memory.back().reductions = reductions(input, rank);
    memory.back().activations = std::max(training[r], validation[r]);
  }
  return memory;
}

Expected<void> check_memory(const JobConfig& job, const std::vector<RankMemory>& memory) {
  const std::int64_t limit = job.parallel.memory_limit_bytes;
  const auto most = std::max_element(
      memory.begin(), memory.end(),
      [](const RankMemory& a, const RankMemory& b) { return a.total() < b.total(); });
  if (limit == 0 || most->total() <= limit) return {};
  const Grid grid{static_cast<int>(memory.size()), job.parallel.data, job.parallel.expert};
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

}  // namespace plait
