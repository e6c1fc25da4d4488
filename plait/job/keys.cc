#include <fmt/core.h>

#include <array>
#include <type_traits>

#include "plait/job/job_config.h"
#include "plait/job/validate.h"

namespace plait {
namespace {

#define PLAIT_FIELD(member) [](JobConfig& job) -> FieldPointer { return &job.member; }

constexpr std::array kKeys = {
    KeyInfo{"model", "architecture", PLAIT_FIELD(model.architecture),
            "`llama`, or `deepseek-v3`: with a mixture of experts"},
    KeyInfo{"model", "vocab_size", PLAIT_FIELD(model.vocab_size),
            "tokens of the vocabulary; 256 for bytes"},
    KeyInfo{"model", "hidden_size", PLAIT_FIELD(model.hidden_size), "width of the hidden states"},
    KeyInfo{"model", "intermediate_size", PLAIT_FIELD(model.intermediate_size),
            "width inside the SwiGLU"},
    KeyInfo{"model", "num_hidden_layers", PLAIT_FIELD(model.num_hidden_layers),
            "layers, at least one per stage"},
    KeyInfo{"model", "num_attention_heads", PLAIT_FIELD(model.num_attention_heads), "query heads"},
    KeyInfo{"model", "num_key_value_heads", PLAIT_FIELD(model.num_key_value_heads),
            "key and value heads"},
    KeyInfo{"model", "rms_norm_eps", PLAIT_FIELD(model.rms_norm_eps),
            "added under the root of RMSNorm"},
    KeyInfo{"model", "rope_theta", PLAIT_FIELD(model.rope_theta), "base of the rotary positions"},
    KeyInfo{"model", "tie_word_embeddings", PLAIT_FIELD(model.tie_word_embeddings),
            "one tensor for embedding and head; both must lie on one rank"},
    KeyInfo{"model", "hidden_dropout", PLAIT_FIELD(model.hidden_dropout),
            "share of a residual branch's outputs set to zero in training; not of the model's "
            "file"},
    KeyInfo{"model", "n_routed_experts", PLAIT_FIELD(model.n_routed_experts),
            "experts a layer that the router chooses from; this and the next nine keys are of "
            "`deepseek-v3` only"},
    KeyInfo{"model", "n_shared_experts", PLAIT_FIELD(model.n_shared_experts),
            "experts a layer that every token goes to"},
    KeyInfo{"model", "num_experts_per_tok", PLAIT_FIELD(model.num_experts_per_tok),
            "routed experts a token"},
    KeyInfo{"model", "moe_intermediate_size", PLAIT_FIELD(model.moe_intermediate_size),
            "width inside an expert's SwiGLU"},
    KeyInfo{"model", "first_k_dense_replace", PLAIT_FIELD(model.first_k_dense_replace),
            "layers without experts, before those with"},
    KeyInfo{"model", "scoring_func", PLAIT_FIELD(model.scoring_func),
            "the router's scores: `sigmoid` or `softmax`"},
    KeyInfo{"model", "routed_scaling_factor", PLAIT_FIELD(model.routed_scaling_factor),
            "multiplies the weights of routed experts"},
    KeyInfo{"model", "norm_topk_prob", PLAIT_FIELD(model.norm_topk_prob),
            "a token's weights are divided by their sum"},
    KeyInfo{"model", "router_aux_loss_coef", PLAIT_FIELD(model.router_aux_loss_coef),
            "of the auxiliary loss that balances experts; not of the model's file"},
    KeyInfo{"model", "bias_update_speed", PLAIT_FIELD(model.bias_update_speed),
            "step of the router's bias that balances experts; not of the model's file"},
    KeyInfo{"model", "init", PLAIT_FIELD(model.init),
            "folder with config.json and safetensors to start from; it then gives all of [model] "
            "that its "
            "files hold"},
    KeyInfo{"data", "train", PLAIT_FIELD(data.train), "file to train on; must be given"},
    KeyInfo{"data", "validation", PLAIT_FIELD(data.validation),
            "file to validate on; empty: a share of train"},
    KeyInfo{"data", "validation_share", PLAIT_FIELD(data.validation_share),
            "tail of train that is held out"},
    KeyInfo{"data", "format", PLAIT_FIELD(data.format),
            "`bytes`, `uint16` or `uint32`, little-endian"},
    KeyInfo{"data", "sequence_length", PLAIT_FIELD(data.sequence_length), "tokens a sequence"},
    KeyInfo{"parallel", "pipeline", PLAIT_FIELD(parallel.pipeline), "ranks P"},
    KeyInfo{"parallel", "chunks", PLAIT_FIELD(parallel.chunks),
            "stages a rank V; 0: what the schedule needs"},
    KeyInfo{"parallel", "data", PLAIT_FIELD(parallel.data), "replicas D"},
    KeyInfo{"parallel", "expert", PLAIT_FIELD(parallel.expert),
            "ranks E that the routed experts are spread over"},
    KeyInfo{"parallel", "schedule", PLAIT_FIELD(parallel.schedule),
            "a name of `plait list`, or a CSV file"},
    KeyInfo{"parallel", "microbatches", PLAIT_FIELD(parallel.microbatches),
            "micro-batches a step M"},
    KeyInfo{
        "parallel", "pairs", PLAIT_FIELD(parallel.pairs),
        "`braid`: a pair's F and B alternate by segments; `sequence`: F, then B; `off`: no pairs"},
    KeyInfo{"parallel", "braid", PLAIT_FIELD(parallel.braid),
            "file with the order inside a braided pair (docs/braid.md); empty: the default"},
    KeyInfo{"parallel", "recompute", PLAIT_FIELD(parallel.recompute),
            "`none`, `selective` or `full`"},
    KeyInfo{"parallel", "layers_per_stage", PLAIT_FIELD(parallel.layers_per_stage),
            "a number for each stage; empty: spread by cost"},
    KeyInfo{"parallel", "token_bound", PLAIT_FIELD(parallel.token_bound),
            "most rows that a dispatch may bring to a rank, in multiples of the even share; more "
            "end the run; 0: any number"},
    KeyInfo{"parallel", "memory_limit_bytes", PLAIT_FIELD(parallel.memory_limit_bytes),
            "a plan that may need more on a rank is refused; 0: no limit"},
    KeyInfo{"optimizer", "lr", PLAIT_FIELD(optimizer.lr), "AdamW's learning rate after warm-up"},
    KeyInfo{"optimizer", "betas", PLAIT_FIELD(optimizer.betas), "AdamW's two decays"},
    KeyInfo{"optimizer", "eps", PLAIT_FIELD(optimizer.eps), "AdamW's epsilon"},
    KeyInfo{"optimizer", "weight_decay", PLAIT_FIELD(optimizer.weight_decay),
            "of matrices; vectors have none"},
    KeyInfo{"optimizer", "clip_norm", PLAIT_FIELD(optimizer.clip_norm),
            "largest global gradient norm; 0: no clipping"},
    KeyInfo{"optimizer", "warmup_steps", PLAIT_FIELD(optimizer.warmup_steps),
            "steps of linear warm-up"},
    KeyInfo{"optimizer", "min_lr_share", PLAIT_FIELD(optimizer.min_lr_share),
            "share of lr at the end of the cosine"},
    KeyInfo{"run", "steps", PLAIT_FIELD(run.steps), "optimiser steps"},
    KeyInfo{"run", "batch_size", PLAIT_FIELD(run.batch_size),
            "sequences a step over all replicas; a multiple of microbatches · data · expert"},
    KeyInfo{"run", "validate_every", PLAIT_FIELD(run.validate_every),
            "steps between validations; 0: at the end only"},
    KeyInfo{"run", "log_every", PLAIT_FIELD(run.log_every),
            "steps between lines where there is no terminal"},
    KeyInfo{"run", "seed", PLAIT_FIELD(run.seed), "of parameters and batches"},
    KeyInfo{"run", "folder", PLAIT_FIELD(run.folder), "the run's folder; empty: runs/<job's name>"},
    KeyInfo{"run", "threads", PLAIT_FIELD(run.threads), "intra-op threads a rank"},
    KeyInfo{"run", "pin", PLAIT_FIELD(run.pin),
            "each rank stays on `threads` cores of its own, which must be there"},
    KeyInfo{"run", "comm", PLAIT_FIELD(run.comm),
            "`inproc`: ranks are threads; `gloo`: ranks are processes"},
    KeyInfo{"run", "device", PLAIT_FIELD(run.device), "`cpu` in this version"},
    KeyInfo{"run", "dtype", PLAIT_FIELD(run.dtype), "`float32` in this version"},
    KeyInfo{"run", "timeout_s", PLAIT_FIELD(run.timeout_s),
            "a step in which nothing completes for so long has failed"},
    KeyInfo{"run", "start_timeout_s", PLAIT_FIELD(run.start_timeout_s),
            "the same for rendezvous and the first step"},
};

#undef PLAIT_FIELD

std::string number(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

struct Printer {
  std::string operator()(const std::string* value) const { return quote_toml(*value); }
  std::string operator()(const bool* value) const { return *value ? "true" : "false"; }
  std::string operator()(const double* value) const { return number(*value); }
  std::string operator()(const std::pair<double, double>* value) const {
    return fmt::format("[{}, {}]", number(value->first), number(value->second));
  }
  std::string operator()(const std::vector<int>* value) const {
    std::string text;
    for (const int one : *value) text += fmt::format("{}{}", text.empty() ? "" : ", ", one);
    return fmt::format("[{}]", text);
  }
  template <typename Integer>
  std::string operator()(const Integer* value) const {
    return fmt::format("{}", *value);
  }
};

std::string print_field(const KeyInfo& key, JobConfig& job) {
  return std::visit(Printer{}, key.field(job));
}

}  // namespace

std::string quote_toml(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::span<const KeyInfo> job_keys() { return kKeys; }

std::string print_job_config(const JobConfig& job) {
  JobConfig copy = job;
  std::string text = "# plait job, format 1\n";
  std::string_view section;
  for (const KeyInfo& key : kKeys) {
    if (key.section != section) text += fmt::format("\n[{}]\n", key.section);
    section = key.section;
    text += fmt::format("{} = {}\n", key.name, print_field(key, copy));
  }
  return text;
}

std::string print_key_table() {
  JobConfig defaults;
  std::string text = "| key | default | meaning |\n|---|---|---|\n";
  for (const KeyInfo& key : kKeys) {
    const bool needed = key.section == "data" && key.name == "train";
    text +=
        fmt::format("| `{}.{}` | {} | {} |\n", key.section, key.name,
                    needed ? "none" : fmt::format("`{}`", print_field(key, defaults)), key.meaning);
  }
  return text;
}

}  // namespace plait
