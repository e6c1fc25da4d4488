#include "plait/nn/partition.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>

namespace plait {

namespace {

std::int64_t head_size(const ModelConfig& model) {
  return model.hidden_size / model.num_attention_heads;
}

std::int64_t key_value_size(const ModelConfig& model) {
  return head_size(model) * model.num_key_value_heads;
}

/// Numbers in the matrices of one layer.
std::int64_t layer_matrices(const ModelConfig& model) {
  const std::int64_t d = model.hidden_size;
  return 2 * d * d + 2 * d * key_value_size(model) + 3 * d * model.intermediate_size;
}

/// Costs of parts in arbitrary equal units: a table of prefix sums is not needed, layers are equal.
struct Costs {
  double layer, embedding, head;
  int layers, stages;

  double stage(int stage_index, int count) const {
    return layer * count + (stage_index == 0 ? embedding : 0.0) +
           (stage_index == stages - 1 ? head : 0.0);
  }
};

constexpr double kNever = std::numeric_limits<double>::infinity();

/// The smallest value that the costliest stage can have.
double best_maximum(const Costs& costs) {
  const auto layers = static_cast<std::size_t>(costs.layers);
  std::vector<double> best(layers + 1, kNever);  // [l]: stages so far hold l layers
  best[0] = 0.0;
  for (int s = 0; s < costs.stages; ++s) {
    std::vector<double> next(layers + 1, kNever);
    for (std::size_t before = 0; before < layers; ++before) {
      for (std::size_t after = before + 1; after <= layers; ++after) {
        const double cost = costs.stage(s, static_cast<int>(after - before));
        next[after] = std::min(next[after], std::max(best[before], cost));
      }
    }
    best = std::move(next);
  }
  return best[layers];
}

/// Among the spreads whose costliest stage is at most `limit`, the one with the least sum of
/// squares; ties go to the larger earlier stage. Runs from the last stage, so that the choice is
/// read off from the first.
std::vector<int> most_even(const Costs& costs, double limit) {
  const auto layers = static_cast<std::size_t>(costs.layers);
  const auto stages = static_cast<std::size_t>(costs.stages);
  // rest[s][l]: least sum of squares of stages s.. that hold the last l layers.
  std::vector<std::vector<double>> rest(stages + 1, std::vector<double>(layers + 1, kNever));
  std::vector<std::vector<int>> choice(stages, std::vector<int>(layers + 1, 0));
  rest[stages][0] = 0.0;
  for (std::size_t s = stages; s-- > 0;) {
    for (std::size_t left = 1; left <= layers; ++left) {
      for (std::size_t count = left; count >= 1; --count) {
        const double cost = costs.stage(static_cast<int>(s), static_cast<int>(count));
        if (cost > limit) continue;
        const double sum = cost * cost + rest[s + 1][left - count];
        if (sum < rest[s][left]) {
          rest[s][left] = sum;
          choice[s][left] = static_cast<int>(count);
        }
      }
    }
  }
  std::vector<int> counts;
  std::size_t left = layers;
  for (std::size_t s = 0; s < stages; ++s) {
    counts.push_back(choice[s][left]);
    left -= static_cast<std::size_t>(counts.back());
  }
  return counts;
}

Expected<void> check_list(const std::vector<int>& list, int stages, int layers) {
  const auto wrong = [&](const std::string& needed) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("layers_per_stage is [{}], {}", fmt::join(list, ", "), needed));
  };
  if (list.size() != static_cast<std::size_t>(stages)) {
    return wrong(
        fmt::format("has {} entries, must have one for each of {} stages", list.size(), stages));
  }
  if (std::any_of(list.begin(), list.end(), [](int count) { return count < 1; })) {
    return wrong("every stage must have at least 1 layer");
  }
  const auto sum = std::accumulate(list.begin(), list.end(), std::int64_t{0});
  if (sum != layers) {
    return wrong(fmt::format("sums to {}, must sum to num_hidden_layers {}", sum, layers));
  }
  return {};
}

}  // namespace

Expected<std::vector<StagePart>> partition_layers(const ModelConfig& model, int stages,
                                                  std::int64_t sequence_length,
                                                  const std::vector<int>& layers_per_stage) {
  const int layers = model.num_hidden_layers;
  if (stages < 1 || layers < stages) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("num_hidden_layers is {}, must be at least the number of stages, {}",
                            layers, stages));
  }
  std::vector<int> counts = layers_per_stage;
  if (counts.empty()) {
    const auto flops = [&](const StagePart& part) {
      return forward_flops_per_token(model, part, sequence_length);
    };
    const Costs costs{flops({0, 1, false, false}), flops({0, 0, true, false}),
                      flops({0, 0, false, true}), layers, stages};
    counts = most_even(costs, best_maximum(costs));
  } else {
    PLAIT_TRY_VOID(check_list(counts, stages, layers));
  }
  std::vector<StagePart> parts;
  int first = 0;
  for (const int count : counts) {
    parts.push_back({first, first + count, first == 0, first + count == layers});
    first += count;
  }
  return parts;
}

Expected<void> check_tied_embeddings(const ModelConfig& model, int first_stage_rank,
                                     int last_stage_rank) {
  if (!model.tie_word_embeddings || first_stage_rank == last_stage_rank) return {};
  return fail(ErrorCode::kInvalidInput,
              fmt::format("tie_word_embeddings is true, but the first stage is on rank {} and the "
                          "last on rank {}; both must be on one rank (schedule dualpipe-v, or one "
                          "rank), or set tie_word_embeddings = false",
                          first_stage_rank, last_stage_rank));
}

std::int64_t parameter_count(const ModelConfig& model, const StagePart& part) {
  const std::int64_t table = model.vocab_size * model.hidden_size;
  std::int64_t count = part.layers() * (layer_matrices(model) + 2 * model.hidden_size);
  if (part.embedding) count += table;
  if (part.head) {
    count += model.hidden_size;
    if (!model.tie_word_embeddings || !part.embedding) count += table;
  }
  return count;
}

double forward_flops_per_token(const ModelConfig& model, const StagePart& part,
                               std::int64_t sequence_length) {
  const auto d = static_cast<double>(model.hidden_size);
  // Scores and their product with the values, each over half of the sequence.
  const double attention = 2.0 * 2.0 * d * static_cast<double>(sequence_length) / 2.0;
  const double layer = 2.0 * static_cast<double>(layer_matrices(model)) + attention;
  // A look-up copies d numbers forth and adds them back.
  const double embedding = part.embedding ? 2.0 * d : 0.0;
  // Per logit of the cross-entropy about 8 operations: exponential, sums, and the gradient.
  const double head = part.head ? (2.0 * d + 8.0) * static_cast<double>(model.vocab_size) : 0.0;
  return layer * part.layers() + embedding + head;
}

StageMemory estimate_stage_memory(const ModelConfig& model, const StagePart& part,
                                  std::int64_t sequences, std::int64_t sequence_length) {
  constexpr Bytes kFloat = 4;
  const std::int64_t tokens = sequences * sequence_length;
  const std::int64_t d = model.hidden_size;
  StageMemory memory;
  memory.parameters = kFloat * parameter_count(model, part);
  memory.gradients = memory.parameters;
  memory.optimizer = 2 * memory.parameters;
  memory.message = kFloat * tokens * d;
  // What a layer's operations save, in numbers a token. attn: its input, its norm's factor, the
  // normalised input; q, k, v; the attention's output and a log-sum per head. mlp: input, factor,
  // normalised input; gate, up and their product.
  const std::int64_t attention = 4 * d + 2 * key_value_size(model) + model.num_attention_heads + 1;
  const std::int64_t mlp = 2 * d + 1 + 3 * model.intermediate_size;
  std::int64_t activations = (attention + mlp) * part.layers() * tokens;
  // head: input, factor, normalised input, logarithms of the probabilities.
  if (part.head) activations += tokens * (2 * d + 1 + model.vocab_size);
  memory.activations = kFloat * activations;
  return memory;
}

}  // namespace plait
