/// job.toml as a value. Only job/ knows the file's syntax; keys are those of docs/job.md.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "plait/base/error.h"
#include "plait/model/model_config.h"

namespace plait {

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
  std::string recompute = "none";     ///< "none", "selective", "full"
  std::vector<int> layers_per_stage;  ///< empty: by cost
  std::string shard = "none";  ///< of replicas: "none", "optimizer", "gradients", "parameters"
  double token_bound = 0.0;    ///< rows a dispatch may bring, in even shares; 0: any
  int max_active_stages = 0;   ///< of a rank, whole at a time; 0: 3, or what the schedule says
  std::string unshard_lookahead = "full";  ///< "full", "auto", or "N,N,…", a number for each rank
  int max_outstanding_sends = 0;           ///< of a rank, without their wait; 0: any number
  std::int64_t memory_limit_bytes = 0;     ///< of each rank; 0: none

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
  int accumulate = 1;  ///< rounds of the schedule whose gradients make one step

  friend bool operator==(const OptimizerConfig&, const OptimizerConfig&) = default;
};

struct CheckpointConfig {
  int every = 0;       ///< steps; 0: none are written
  int keep_last = 2;   ///< the newest so many stay
  int keep_every = 0;  ///< and those of a multiple of so many steps; 0: none of those

  friend bool operator==(const CheckpointConfig&, const CheckpointConfig&) = default;
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
  std::string on_not_finite = "stop";
  std::string on_loss = "stop";
  double timeout_s = 60.0;
  double start_timeout_s = 300.0;

  friend bool operator==(const RunConfig&, const RunConfig&) = default;
};

/// Where keys were written, by "section.key": "job.toml:4", "--set model.init=…". No part of a
/// job's value.
struct KeyOrigins {
  std::map<std::string, std::string> by_key;

  friend bool operator==(const KeyOrigins&, const KeyOrigins&) { return true; }
};

struct JobConfig {
  std::string name;  ///< the file's stem
  KeyOrigins origins;
  ModelConfig model;
  DataConfig data;
  ParallelConfig parallel;
  OptimizerConfig optimizer;
  CheckpointConfig checkpoint;
  RunConfig run;

  /// Sequences of one micro-batch in one column.
  int sequences_per_microbatch() const {
    return run.batch_size /
           (parallel.microbatches * parallel.data * parallel.expert * optimizer.accumulate);
  }

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
                                  std::pair<double, double>*, std::vector<int>*, RopeScaling*>;
struct KeyInfo {
  std::string_view section;
  std::string_view name;
  FieldPointer (*field)(JobConfig&);
  std::string_view meaning;
};
std::span<const KeyInfo> job_keys();

/// The key's value as TOML.
std::string print_key(const KeyInfo& key, const JobConfig& job);

/// The table of keys with their defaults, as docs/job.md holds it.
std::string print_key_table();

/// The job as TOML, every key written out; read_job_config of it gives the same job.
std::string print_job_config(const JobConfig& job);

}  // namespace plait
