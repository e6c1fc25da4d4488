/// Which layers each stage holds, and what a stage costs.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "plait/base/error.h"
#include "plait/model/model_config.h"

namespace plait {

/// What one stage holds: layers [first_layer, end_layer), and the model's ends. A stage without a
/// layer holds the embedding or the head.
struct StagePart {
  int first_layer = 0;
  int end_layer = 0;
  bool embedding = false;
  bool head = false;

  int layers() const { return end_layer - first_layer; }
  bool operator==(const StagePart&) const = default;
};

/// Whether the layer has a mixture of experts in place of one SwiGLU.
bool is_mixture_layer(const ModelConfig& model, int layer);

/// How many layers of the part have one.
int mixture_layers(const ModelConfig& model, const StagePart& part);

/// Whether a stage with that part uses the parameter, wherever its experts lie.
bool holds(const ModelConfig& model, const StagePart& part, std::string_view parameter);

/// Spreads the layers over `stages` so that the costliest stage is cheapest, then evenly, then the
/// earlier stages larger; each holds at least one layer, the first the embedding, the last the
/// head. A `layers_per_stage` that is not empty is taken as it is: [0, 3, 3, 0] gives the embedding
/// and the head stages of their own. Cost: O(S * L^2).
/// Errors (kInvalidInput): fewer layers than stages; a list of another length or sum, with a
/// number below 0, or with a stage that would hold nothing.
Expected<std::vector<StagePart>> partition_layers(const ModelConfig& model, int stages,
                                                  std::int64_t sequence_length,
                                                  const std::vector<int>& layers_per_stage);

/// Tied embeddings are one tensor: an error (kInvalidInput) if they are tied and the first and the
/// last stage lie on different ranks.
Expected<void> check_tied_embeddings(const ModelConfig& model, int first_stage_rank,
                                     int last_stage_rank);

/// Parameters of a part on one of `expert_members` ranks that the routed experts are spread over.
/// Tied embeddings count at the embedding only, unless the part has the head alone.
std::int64_t parameter_count(const ModelConfig& model, const StagePart& part,
                             int expert_members = 1);
/// Of those, the routed experts' parameters.
std::int64_t routed_parameter_count(const ModelConfig& model, const StagePart& part,
                                    int expert_members);
/// Of the parameters, the numbers that products are computed with, of which a rank keeps a rounded
/// copy if hidden states have another dtype.
std::int64_t rounded_count(const ModelConfig& model, const StagePart& part, int expert_members = 1);
/// Numbers beside the parameters that a part keeps for the whole run: routers' biases, and the
/// table of rotary positions of a stage with layers.
std::int64_t constant_count(const ModelConfig& model, const StagePart& part,
                            std::int64_t sequence_length);

/// Floating point operations of one forward of one token: two per multiply-add, attention at half
/// of the sequence because it is causal, the experts that one token goes to.
double forward_flops_per_token(const ModelConfig& model, const StagePart& part,
                               std::int64_t sequence_length);

}  // namespace plait
