#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>
#include <utility>

#include "plait/job/job_config.h"
#include "plait/job/validate.h"
#include "plait/model/model_keys.h"

namespace plait {
namespace {

#define PLAIT_FIELD(member) [](JobConfig& job) -> FieldPointer { return &job.member; }

/// The field of key `Index` of model/model_keys.h.
template <std::size_t Index>
FieldPointer model_field(JobConfig& job) {
  return std::visit([](auto* field) -> FieldPointer { return field; },
                    kModelKeys[Index].field(job.model));
}

template <std::size_t... Index>
constexpr std::array<KeyInfo, sizeof...(Index)> model_section(std::index_sequence<Index...>) {
  return {
      KeyInfo{"model", kModelKeys[Index].name, model_field<Index>, kModelKeys[Index].meaning}...};
}

constexpr std::array kModelSection = model_section(std::make_index_sequence<kModelKeys.size()>());

constexpr std::array kOtherSections = {
    KeyInfo{"data", "train", PLAIT_FIELD(data.train), "file to train on; must be given"},
    KeyInfo{"data", "validation", PLAIT_FIELD(data.validation),
            "file to validate on; empty: a share of train"},
    KeyInfo{"data", "validation_share", PLAIT_FIELD(data.validation_share),
            "tail of train that is held out; 0: nothing is, and there is no validation"},
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
    KeyInfo{
        "parallel", "layers_per_stage", PLAIT_FIELD(parallel.layers_per_stage),
        "a number for each stage, 0 for the embedding or the head alone; empty: spread by cost"},
    KeyInfo{"parallel", "shard", PLAIT_FIELD(parallel.shard),
            "what replicas share out: `none`; `optimizer` its state; `gradients` these too; "
            "`parameters` these too (docs/shard.md)"},
    KeyInfo{"parallel", "max_active_stages", PLAIT_FIELD(parallel.max_active_stages),
            "stages of a rank that are unsharded at a time, where replicas share out anything; 0: "
            "3, or what the schedule's file says"},
    KeyInfo{"parallel", "unshard_lookahead", PLAIT_FIELD(parallel.unshard_lookahead),
            "how many stages ahead are unsharded: `full`, `auto` (min(rank + 2, all)), or a number "
            "for each rank with commas"},
    KeyInfo{"parallel", "max_outstanding_sends", PLAIT_FIELD(parallel.max_outstanding_sends),
            "sends of a rank that it may not have waited for; 0: any number"},
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
    KeyInfo{"optimizer", "accumulate", PLAIT_FIELD(optimizer.accumulate),
            "rounds of the schedule, each of `microbatches`, whose gradients add up to one step"},
    KeyInfo{"checkpoint", "every", PLAIT_FIELD(checkpoint.every),
            "steps between checkpoints ([checkpoint](checkpoint.md)), one more when the run ends; "
            "0: none"},
    KeyInfo{"checkpoint", "keep_last", PLAIT_FIELD(checkpoint.keep_last),
            "the newest so many checkpoints stay"},
    KeyInfo{"checkpoint", "keep_every", PLAIT_FIELD(checkpoint.keep_every),
            "and those of a multiple of so many steps; 0: none of those"},
    KeyInfo{"run", "steps", PLAIT_FIELD(run.steps), "optimiser steps"},
    KeyInfo{"run", "batch_size", PLAIT_FIELD(run.batch_size),
            "sequences a step over all replicas; a multiple of microbatches · data · "
            "expert · accumulate"},
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
    KeyInfo{"run", "device", PLAIT_FIELD(run.device),
            "`cpu`; `cuda`: rank r on GPU r modulo their number, in a build with CUDA"},
    KeyInfo{"run", "dtype", PLAIT_FIELD(run.dtype),
            "`float32`; `bfloat16`: hidden states and products, while parameters, gradients and "
            "moments stay float32"},
    KeyInfo{
        "run", "on_not_finite", PLAIT_FIELD(run.on_not_finite),
        "a step with an infinity or NaN in a loss, a value between stages or a gradient: `stop` "
        "ends the run; `skip` leaves parameters and optimiser as they were, and goes on"},
    KeyInfo{
        "run", "on_loss", PLAIT_FIELD(run.on_loss),
        "when a rank's process dies: `stop` ends the run; `restart` starts all ranks again from "
        "the newest checkpoint ([checkpoint](checkpoint.md))"},
    KeyInfo{"run", "timeout_s", PLAIT_FIELD(run.timeout_s),
            "a step in which nothing completes for so long has failed"},
    KeyInfo{"run", "start_timeout_s", PLAIT_FIELD(run.start_timeout_s),
            "the same for rendezvous and the first step"},
};

#undef PLAIT_FIELD

constexpr auto kKeys = [] {
  std::array<KeyInfo, kModelSection.size() + kOtherSections.size()> all{};
  std::copy(kModelSection.begin(), kModelSection.end(), all.begin());
  std::copy(kOtherSections.begin(), kOtherSections.end(), all.begin() + kModelSection.size());
  return all;
}();

std::string number(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

struct Printer {
  std::string operator()(const std::string* value) const { return quote_toml(*value); }
  std::string operator()(const bool* value) const { return *value ? "true" : "false"; }
  std::string operator()(const double* value) const { return number(*value); }
  std::string operator()(RopeScaling* value) const { return print_model_value(value); }
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

std::string print_key(const KeyInfo& key, const JobConfig& job) {
  JobConfig copy = job;
  return print_field(key, copy);
}

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

std::int64_t least_value(const KeyInfo& key) {
  constexpr std::array<std::string_view, 7> kFromZero{
      "chunks", "memory_limit_bytes", "warmup_steps", "validate_every", "seed",
      "every",  "keep_every"};
  return std::find(kFromZero.begin(), kFromZero.end(), key.name) == kFromZero.end() ? 1 : 0;
}

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
