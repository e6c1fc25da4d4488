#include "plait/model/partition.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>

#include "plait/model/architectures.h"
#include "plait/model/names.h"

namespace plait {

namespace {

/// What parts cost, in arbitrary equal units.
struct Costs {
  std::vector<double> before;  ///< [l]: of layers 0 … l - 1
  double embedding, head;
  std::size_t stages;

  std::size_t layers() const { return before.size() - 1; }
  double stage(std::size_t stage_index, std::size_t first, std::size_t end) const {
    return before[end] - before[first] + (stage_index == 0 ? embedding : 0.0) +
           (stage_index == stages - 1 ? head : 0.0);
  }
};

Costs costs_of(const ModelConfig& model, int stages, std::int64_t sequence_length) {
  const auto flops = [&](const StagePart& part) {
    return forward_flops_per_token(model, part, sequence_length);
  };
  Costs costs{{0.0},
              flops({0, 0, true, false}),
              flops({0, 0, false, true}),
              static_cast<std::size_t>(stages)};
  for (int layer = 0; layer < model.num_hidden_layers; ++layer) {
    costs.before.push_back(costs.before.back() + flops({layer, layer + 1, false, false}));
  }
  return costs;
}

constexpr double kNever = std::numeric_limits<double>::infinity();

/// The smallest value that the costliest stage can have.
double best_maximum(const Costs& costs) {
  const std::size_t layers = costs.layers();
  std::vector<double> best(layers + 1, kNever);  // [l]: stages so far hold l layers
  best[0] = 0.0;
  for (std::size_t s = 0; s < costs.stages; ++s) {
    std::vector<double> next(layers + 1, kNever);
    for (std::size_t before = 0; before < layers; ++before) {
      for (std::size_t after = before + 1; after <= layers; ++after) {
        next[after] = std::min(next[after], std::max(best[before], costs.stage(s, before, after)));
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
  const std::size_t layers = costs.layers();
  // rest[s][l]: least sum of squares of stages s.. that hold the last l layers.
  std::vector<std::vector<double>> rest(costs.stages + 1, std::vector<double>(layers + 1, kNever));
  std::vector<std::vector<std::size_t>> choice(costs.stages,
                                               std::vector<std::size_t>(layers + 1, 0));
  rest[costs.stages][0] = 0.0;
  for (std::size_t s = costs.stages; s-- > 0;) {
    for (std::size_t left = 1; left <= layers; ++left) {
      const std::size_t first = layers - left;
      for (std::size_t count = left; count >= 1; --count) {
        const double cost = costs.stage(s, first, first + count);
        if (cost > limit) continue;
        const double sum = cost * cost + rest[s + 1][left - count];
        if (sum < rest[s][left]) {
          rest[s][left] = sum;
          choice[s][left] = count;
        }
      }
    }
  }
  std::vector<int> counts;
  std::size_t left = layers;
  for (std::size_t s = 0; s < costs.stages; ++s) {
    counts.push_back(static_cast<int>(choice[s][left]));
    left -= choice[s][left];
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
  for (std::size_t stage = 0; stage < list.size(); ++stage) {
    const bool end = stage == 0 || stage + 1 == list.size();
    if (list[stage] >= (end ? 0 : 1)) continue;
    if (list[stage] < 0) return wrong("every stage must have at least 0 layers");
    return wrong(fmt::format(
        "stage {} would hold nothing: only the first stage, which has the embedding, and the "
        "last, which has the head, may have 0 layers",
        stage));
  }
  const auto sum = std::accumulate(list.begin(), list.end(), std::int64_t{0});
  if (sum != layers) {
    return wrong(fmt::format("sums to {}, must sum to num_hidden_layers {}", sum, layers));
  }
  return {};
}

}  // namespace

int mixture_layers(const ModelConfig& model, const StagePart& part) {
  int count = 0;
  for (int layer = part.first_layer; layer < part.end_layer; ++layer) {
    count += is_mixture_layer(model, layer) ? 1 : 0;
  }
  return count;
}

bool holds(const ModelConfig& model, const StagePart& part, std::string_view parameter) {
  if (const std::optional<int> layer = layer_of(parameter))
    return part.first_layer <= *layer && *layer < part.end_layer;
  if (parameter == kEmbeddingName)
    return part.embedding || (part.head && model.tie_word_embeddings);
  return part.head;
}

bool is_mixture_layer(const ModelConfig& model, int layer) {
  return model.n_routed_experts > 0 && layer >= model.first_k_dense_replace;
}

Expected<std::vector<StagePart>> partition_layers(const ModelConfig& model, int stages,
                                                  std::int64_t sequence_length,
                                                  const std::vector<int>& layers_per_stage) {
  const int layers = model.num_hidden_layers;
  if (stages < 1 || (layers < stages && layers_per_stage.empty())) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("num_hidden_layers is {}, must be at least the number of stages, {}, "
                            "unless layers_per_stage gives the first and the last no layer",
                            layers, stages));
  }
  std::vector<int> counts = layers_per_stage;
  if (counts.empty()) {
    const Costs costs = costs_of(model, stages, sequence_length);
    counts = most_even(costs, best_maximum(costs));
  } else {
    PLAIT_TRY_VOID(check_list(counts, stages, layers));
  }
  std::vector<StagePart> parts;
  int first = 0;
  for (const int count : counts) {
    const std::size_t stage = parts.size();
    parts.push_back({first, first + count, stage == 0, stage + 1 == counts.size()});
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

std::int64_t parameter_count(const ModelConfig& model, const StagePart& part, int expert_members) {
  std::int64_t count = 0;
  for (const SegmentSpec& segment : segments_of(model, part, {0, expert_members})) {
    for (const ModelTensor& tensor : segment.tensors) {
      const bool counted = tensor.tied && part.embedding;
      if (tensor.trained && !counted) count += tensor.numbers();
    }
  }
  return count;
}

std::int64_t rounded_count(const ModelConfig& model, const StagePart& part, int expert_members) {
  std::int64_t count = 0;
  for (const SegmentSpec& segment : segments_of(model, part, {0, expert_members})) {
    for (const ModelTensor& tensor : segment.tensors)
      if (segment.rounds(tensor)) count += tensor.numbers();
  }
  return count;
}

std::int64_t routed_parameter_count(const ModelConfig& model, const StagePart& part,
                                    int expert_members) {
  std::int64_t count = 0;
  for (const SegmentSpec& segment : segments_of(model, part, {0, expert_members})) {
    for (const ModelTensor& tensor : segment.tensors)
      if (expert_of(tensor.name)) count += tensor.numbers();
  }
  return count;
}

std::int64_t constant_count(const ModelConfig& model, const StagePart& part,
                            std::int64_t sequence_length) {
  std::int64_t count = part.layers() > 0 ? sequence_length * model.head_size() : 0;
  for (const SegmentSpec& segment : segments_of(model, part)) {
    for (const ModelTensor& tensor : segment.tensors)
      if (!tensor.trained) count += tensor.numbers();
  }
  return count;
}

double forward_flops_per_token(const ModelConfig& model, const StagePart& part,
                               std::int64_t sequence_length) {
  double flops = 0;
  for (const SegmentSpec& segment : segments_of(model, part))
    flops += segment.info().flops(model, segment.tensors, sequence_length);
  return flops;
}

}  // namespace plait
