/// Names of the model's tensors, as Hugging Face has them. Knows no torch.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace plait {

inline constexpr const char* kEmbeddingName = "model.embed_tokens.weight";
inline constexpr const char* kFinalNormName = "model.norm.weight";
inline constexpr const char* kHeadName = "lm_head.weight";

/// model.layers.<layer>.<rest>
std::string layer_name(int layer, std::string_view rest);

/// model.layers.<layer>.mlp.experts.<expert>.<rest>
std::string expert_name(int layer, int expert, std::string_view rest);

/// The bias that the router adds when it chooses: a buffer.
std::string router_bias_name(int layer);

/// The layer a tensor belongs to; nothing if it is one of the model's ends.
std::optional<int> layer_of(std::string_view tensor);

struct ExpertOfLayer {
  int layer = 0;
  int expert = 0;
  bool operator==(const ExpertOfLayer&) const = default;
};

/// Which routed expert a parameter belongs to; nothing if it is no routed expert's. A routed
/// expert lies on one member of each expert group, every other parameter on all of them.
std::optional<ExpertOfLayer> expert_of(std::string_view parameter);

}  // namespace plait
