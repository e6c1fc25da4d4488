/// The keys of a model: job.toml's [model] and Hugging Face's config.json are read, checked,
/// written and documented from this table.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "plait/base/error.h"
#include "plait/model/model_config.h"

namespace plait {

using ModelField = std::variant<std::string*, int*, std::int64_t*, double*, bool*, RopeScaling*>;

/// Which values a key may have. Integers are at most 2^31 - 1, so that products of two fit.
enum class KeyRange : std::uint8_t { kAny, kAtLeastOne, kAtLeastZero, kPositive, kShare };

/// Where a key is, beside job.toml.
enum class KeyHome : std::uint8_t {
  kRequired,  ///< in config.json, which must have it
  kOptional,  ///< in config.json, where it may be left out
  kJobOnly,   ///< of no file: it says how to train
  kForm,      ///< config.json says it in another way (model_type), or it names the folder
};

struct ModelKey {
  std::string_view name;
  ModelField (*field)(ModelConfig&);
  std::string_view meaning;
  KeyRange range = KeyRange::kAny;
  KeyHome home = KeyHome::kRequired;
  bool mixture = false;  ///< only of architectures with a mixture of experts
};

#define PLAIT_MODEL_FIELD(member) [](ModelConfig& model) -> ModelField { return &model.member; }

inline constexpr std::array kModelKeys = {
    ModelKey{"architecture", PLAIT_MODEL_FIELD(architecture),
             "`llama`, `mistral`, `qwen2`, `qwen3`, or `deepseek-v3`: with a mixture of experts",
             KeyRange::kAny, KeyHome::kForm},
    ModelKey{"vocab_size", PLAIT_MODEL_FIELD(vocab_size), "tokens of the vocabulary; 256 for bytes",
             KeyRange::kAtLeastOne},
    ModelKey{"hidden_size", PLAIT_MODEL_FIELD(hidden_size), "width of the hidden states",
             KeyRange::kAtLeastOne},
    ModelKey{"intermediate_size", PLAIT_MODEL_FIELD(intermediate_size), "width inside the SwiGLU",
             KeyRange::kAtLeastOne},
    ModelKey{"num_hidden_layers", PLAIT_MODEL_FIELD(num_hidden_layers),
             "layers, at least one per stage, or as parallel.layers_per_stage says",
             KeyRange::kAtLeastOne},
    ModelKey{"num_attention_heads", PLAIT_MODEL_FIELD(num_attention_heads), "query heads",
             KeyRange::kAtLeastOne},
    ModelKey{"num_key_value_heads", PLAIT_MODEL_FIELD(num_key_value_heads), "key and value heads",
             KeyRange::kAtLeastOne, KeyHome::kOptional},
    ModelKey{"head_dim", PLAIT_MODEL_FIELD(head_dim),
             "numbers of one head; 0: hidden_size / num_attention_heads", KeyRange::kAtLeastZero,
             KeyHome::kOptional},
    ModelKey{"rms_norm_eps", PLAIT_MODEL_FIELD(rms_norm_eps), "added under the root of RMSNorm",
             KeyRange::kPositive, KeyHome::kOptional},
    ModelKey{"rope_theta", PLAIT_MODEL_FIELD(rope_theta), "base of the rotary positions",
             KeyRange::kPositive, KeyHome::kOptional},
    ModelKey{"rope_scaling", PLAIT_MODEL_FIELD(rope_scaling),
             "rotary positions over longer sequences: `rope_type` is `default` or `llama3`, which "
             "has `factor`, `low_freq_factor`, `high_freq_factor` and "
             "`original_max_position_embeddings`",
             KeyRange::kAny, KeyHome::kOptional},
    ModelKey{"tie_word_embeddings", PLAIT_MODEL_FIELD(tie_word_embeddings),
             "one tensor for embedding and head; both must lie on one rank", KeyRange::kAny,
             KeyHome::kOptional},
    ModelKey{"hidden_dropout", PLAIT_MODEL_FIELD(hidden_dropout),
             "share of a residual branch's outputs set to zero in training; not of the model's "
             "file",
             KeyRange::kShare, KeyHome::kJobOnly},
    ModelKey{"n_routed_experts", PLAIT_MODEL_FIELD(n_routed_experts),
             "experts a layer that the router chooses from; this and the next nine keys are of "
             "`deepseek-v3` only",
             KeyRange::kAtLeastOne, KeyHome::kRequired, true},
    ModelKey{"n_shared_experts", PLAIT_MODEL_FIELD(n_shared_experts),
             "experts a layer that every token goes to", KeyRange::kAtLeastZero, KeyHome::kRequired,
             true},
    ModelKey{"num_experts_per_tok", PLAIT_MODEL_FIELD(num_experts_per_tok),
             "routed experts a token", KeyRange::kAtLeastOne, KeyHome::kRequired, true},
    ModelKey{"moe_intermediate_size", PLAIT_MODEL_FIELD(moe_intermediate_size),
             "width inside an expert's SwiGLU", KeyRange::kAtLeastOne, KeyHome::kRequired, true},
    ModelKey{"first_k_dense_replace", PLAIT_MODEL_FIELD(first_k_dense_replace),
             "layers without experts, before those with", KeyRange::kAtLeastZero,
             KeyHome::kRequired, true},
    ModelKey{"scoring_func", PLAIT_MODEL_FIELD(scoring_func),
             "the router's scores: `sigmoid` or `softmax`", KeyRange::kAny, KeyHome::kForm, true},
    ModelKey{"routed_scaling_factor", PLAIT_MODEL_FIELD(routed_scaling_factor),
             "multiplies the weights of routed experts", KeyRange::kPositive, KeyHome::kOptional,
             true},
    ModelKey{"norm_topk_prob", PLAIT_MODEL_FIELD(norm_topk_prob),
             "a token's weights are divided by their sum", KeyRange::kAny, KeyHome::kOptional,
             true},
    ModelKey{"router_aux_loss_coef", PLAIT_MODEL_FIELD(router_aux_loss_coef),
             "of the auxiliary loss that balances experts; not of the model's file",
             KeyRange::kAtLeastZero, KeyHome::kJobOnly, true},
    ModelKey{"bias_update_speed", PLAIT_MODEL_FIELD(bias_update_speed),
             "step of the router's bias that balances experts; not of the model's file",
             KeyRange::kAtLeastZero, KeyHome::kJobOnly, true},
    ModelKey{"init", PLAIT_MODEL_FIELD(init),
             "folder with config.json and safetensors to start from; it then gives all of [model] "
             "that its files hold",
             KeyRange::kAny, KeyHome::kForm},
};

#undef PLAIT_MODEL_FIELD

/// The value as a job's file has it: 4, 1e-05, true, sigmoid, { rope_type = "default" }.
std::string print_model_value(const ModelField& field);

/// Whether each key alone is in its range, whatever the others are. `where` of an error is
/// "model.<key>".
Expected<void> check_model_keys(const ModelConfig& model);

/// Whether the model can be built: its keys, and that they fit together. `where` of an error is
/// "model.<key>".
Expected<void> check_model(const ModelConfig& model);

}  // namespace plait
