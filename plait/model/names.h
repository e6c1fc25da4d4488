/// Names of the model's tensors, as Hugging Face has them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace plait {

inline constexpr const char* kEmbeddingName = "model.embed_tokens.weight";
inline constexpr const char* kFinalNormName = "model.norm.weight";
inline constexpr const char* kHeadName = "lm_head.weight";

/// The last part of the names of one layer's tensors: layer_name(layer, kQueryName).
inline constexpr std::string_view kAttentionNormName = "input_layernorm.weight";
inline constexpr std::string_view kQueryName = "self_attn.q_proj.weight";
inline constexpr std::string_view kKeyName = "self_attn.k_proj.weight";
inline constexpr std::string_view kValueName = "self_attn.v_proj.weight";
inline constexpr std::string_view kOutputName = "self_attn.o_proj.weight";
inline constexpr std::string_view kQueryBiasName = "self_attn.q_proj.bias";
inline constexpr std::string_view kKeyBiasName = "self_attn.k_proj.bias";
inline constexpr std::string_view kValueBiasName = "self_attn.v_proj.bias";
inline constexpr std::string_view kQueryNormName = "self_attn.q_norm.weight";
inline constexpr std::string_view kKeyNormName = "self_attn.k_norm.weight";
inline constexpr std::string_view kMlpNormName = "post_attention_layernorm.weight";
inline constexpr std::string_view kRouterName = "mlp.gate.weight";

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
