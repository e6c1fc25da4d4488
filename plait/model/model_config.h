/// ModelConfig: what a decoder-only transformer is built from.
#pragma once

#include <cstdint>
#include <string>

namespace plait {

/// How rotary positions are stretched over longer sequences: Hugging Face's `rope_scaling`.
/// rope_type "default": not at all. "llama3": a frequency whose wavelength is longer than
/// original_max_position_embeddings / low_freq_factor is divided by `factor`, one shorter than
/// original_max_position_embeddings / high_freq_factor stays, and between both it is interpolated.
struct RopeScaling {
  std::string rope_type = "default";
  double factor = 1.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  std::int64_t original_max_position_embeddings = 8192;

  bool scales() const { return rope_type != "default"; }
  friend bool operator==(const RopeScaling&, const RopeScaling&) = default;
};

/// Keys of Hugging Face's config.json, and what no file holds: dropout, how routers are balanced.
/// model/model_keys.h has each key's meaning and range.
struct ModelConfig {
  std::string architecture = "llama";  ///< a name of kArchitectures (model/architectures.h)
  std::int64_t vocab_size = 256;
  std::int64_t hidden_size = 96;
  std::int64_t intermediate_size = 256;
  int num_hidden_layers = 8;
  int num_attention_heads = 4;
  int num_key_value_heads = 4;
  std::int64_t head_dim = 0;  ///< 0: hidden_size / num_attention_heads
  double rms_norm_eps = 1e-5;
  double rope_theta = 10000.0;
  RopeScaling rope_scaling;
  bool tie_word_embeddings = false;
  double hidden_dropout = 0.0;  ///< of no file
  int n_routed_experts = 0;     ///< this and what follows: of mixtures of experts only
  int n_shared_experts = 0;
  int num_experts_per_tok = 0;
  std::int64_t moe_intermediate_size = 0;
  int first_k_dense_replace = 0;  ///< layers before the first mixture
  std::string scoring_func = "sigmoid";
  double routed_scaling_factor = 1.0;
  bool norm_topk_prob = true;
  double router_aux_loss_coef = 0.0;
  double bias_update_speed = 0.0;
  std::string init;  ///< folder with safetensors to start from; empty: from the seed

  /// Numbers of one head. Requires num_attention_heads > 0.
  std::int64_t head_size() const {
    return head_dim > 0 ? head_dim : hidden_size / num_attention_heads;
  }
  /// Numbers of all query heads of a token, and of all key heads.
  std::int64_t query_size() const { return head_size() * num_attention_heads; }
  std::int64_t key_value_size() const { return head_size() * num_key_value_heads; }

  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;
};

}  // namespace plait
