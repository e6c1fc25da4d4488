/// job.toml as a value. Only config/ knows the file's syntax; keys are those of docs/job.md.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "plait/base/error.h"

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

struct DataConfig {
  std::string train;
  std::string validation;
  double validation_share = 0.05;  ///< tail of train, used if `validation` is empty
  std::string format = "bytes";    ///< "bytes", "uint16", "uint32"
  int sequence_length = 64;

  friend bool operator==(const DataConfig&, const DataConfig&) = default;
};

struct ParallelConfig {
  int pipeline = 4;  ///< ranks P
  int chunks = 0;    ///< stages per rank V; 0: what the schedule needs
  int data = 1;
  int expert = 1;
  std::string schedule = "dualpipe-v";  ///< a name or a file
  int microbatches = 8;
  std::string pairs = "sequence";  ///< "braid", "sequence", "off"
  std::string braid;  ///< file of the order inside a braided pair; empty: the default order
  std::string recompute = "none";       ///< "none", "selective", "full"
  std::vector<int> layers_per_stage;    ///< empty: by cost
  double token_bound = 0.0;             ///< rows a dispatch may bring, in even shares; 0: any
  std::int64_t memory_limit_bytes = 0;  ///< of each rank; 0: none

  friend bool operator==(const ParallelConfig&, const ParallelConfig&) = default;
};

struct OptimizerConfig {
  double lr = 3e-3;
  std::pair<double, double> betas{0.9, 0.95};
  double eps = 1e-8;
  double weight_decay = 0.1;
  double clip_norm = 1.0;  ///< 0: no clipping
  int warmup_steps = 20;
  double min_lr_share = 0.1;

  friend bool operator==(const OptimizerConfig&, const OptimizerConfig&) = default;
};

struct RunConfig {
  int steps = 100;
  int batch_size = 16;     ///< sequences a step, over all replicas
  int validate_every = 0;  ///< steps; 0: only at the end
  int log_every = 1;
  std::uint64_t seed = 1;
  std::string folder;  ///< empty: runs/<job's name>
  int threads = 1;     ///< intra-op threads per rank
  bool pin = false;    ///< each rank on `threads` cores of its own
  std::string comm = "inproc";
  std::string device = "cpu";
  std::string dtype = "float32";
  double timeout_s = 60.0;
  double start_timeout_s = 300.0;

  friend bool operator==(const RunConfig&, const RunConfig&) = default;
};

struct JobConfig {
  std::string name;  ///< the file's stem
  ModelConfig model;
  DataConfig data;
  ParallelConfig parallel;
  OptimizerConfig optimizer;
  RunConfig run;

  friend bool operator==(const JobConfig&, const JobConfig&) = default;
};

/// `section.key` and the text right of the `=`, as given by --set or a shortcut flag.
struct Override {
  std::string key;
  std::string value;
  std::string flag;  ///< how the user wrote it, for messages
};

/// Reads a job file; later overrides win. Unknown keys (with the nearest known one), wrong types,
/// values out of range and keys of features that are not built yet are errors that name the file
/// and line, or the flag. Paths in [data] and model.init are relative to the working directory. An
/// override's value is TOML; where a key holds text, quotes may be left out.
Expected<JobConfig> read_job_config(const std::string& path,
                                    const std::vector<Override>& overrides);

/// The same of a text; `path` is what messages call it, and its stem the job's name.
Expected<JobConfig> parse_job_config(const std::string& text, const std::string& path,
                                     const std::vector<Override>& overrides);

/// One key of job.toml, for parser, printer, documents and tests.
using FieldPointer = std::variant<std::string*, int*, std::int64_t*, std::uint64_t*, double*, bool*,
                                  std::pair<double, double>*, std::vector<int>*>;
struct KeyInfo {
  std::string_view section;
  std::string_view name;
  FieldPointer (*field)(JobConfig&);
  std::string_view meaning;
};
std::span<const KeyInfo> job_keys();

/// The table of keys with their defaults, as docs/job.md holds it.
std::string print_key_table();

/// The job as TOML, every key written out; read_job_config of it gives the same job.
std::string print_job_config(const JobConfig& job);

}  // namespace plait
