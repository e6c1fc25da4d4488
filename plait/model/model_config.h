/// ModelConfig: what a decoder-only transformer is built from.
#pragma once

#include <cstdint>
#include <string>

namespace plait {

/// Keys of Hugging Face's config.json, and what no file holds: dropout, how routers are balanced.
struct ModelConfig {
  std::string architecture = "llama";  ///< or "deepseek-v3": with a mixture of experts
  std::int64_t vocab_size = 256;
  std::int64_t hidden_size = 96;
  std::int64_t intermediate_size = 256;
  int num_hidden_layers = 8;
  int num_attention_heads = 4;
  int num_key_value_heads = 4;
  double rms_norm_eps = 1e-5;
  double rope_theta = 10000.0;
  bool tie_word_embeddings = false;
  double hidden_dropout = 0.0;  ///< of no file
  int n_routed_experts = 0;     ///< this and what follows: of deepseek-v3 only
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

  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;
};

}  // namespace plait
