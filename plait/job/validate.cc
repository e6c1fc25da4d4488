#include "plait/job/validate.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <optional>
#include <span>

#include "plait/model/architectures.h"
#include "plait/model/model_keys.h"
#include "plait/model/segment_info.h"

namespace plait {
namespace {

constexpr int kMost = std::numeric_limits<int>::max();

/// Collects the first complaint.
class Validator {
 public:
  void need(bool holds, std::string_view key, std::string message,
            ErrorCode code = ErrorCode::kInvalidInput) {
    if (!holds && !error_) error_ = Error{code, std::move(message), std::string(key)};
  }
  template <typename Number>
  void at_least(std::string_view key, Number value, Number least) {
    need(value >= least, key,
         fmt::format("{} is {}, needs to be at least {}", name_of(key), value, least));
    // Products of sizes and whole numbers of nanoseconds must stay within 64 bits.
    need(value <= static_cast<Number>(kMost), key,
         fmt::format("{} is {}, needs to be at most {}", name_of(key), value, kMost));
  }
  /// Open at neither end.
  void between(std::string_view key, double value, double low, double high) {
    need(value >= low && value <= high, key,
         fmt::format("{} is {}, needs to be between {} and {}", name_of(key), value, low, high));
  }
  void positive(std::string_view key, double value) {
    need(std::isfinite(value) && value > 0, key,
         fmt::format("{} is {}, needs to be a positive number", name_of(key), value));
    need(value <= kMost, key,
         fmt::format("{} is {}, needs to be at most {}", name_of(key), value, kMost));
  }
  /// `name`: whose value it is, if not the key's.
  void multiple(std::string_view key, std::int64_t value, std::int64_t of, std::string_view what,
                std::string_view name = {}) {
    need(of > 0 && value % of == 0, key,
         fmt::format("{} is {}, must be a multiple of {} {}", name.empty() ? name_of(key) : name,
                     value, of, what));
  }
  void one_of(std::string_view key, const std::string& value,
              std::initializer_list<std::string_view> built,
              std::initializer_list<std::string_view> later, std::string_view what) {
    one_of(key, value, std::span(built.begin(), built.size()), later, what);
  }
  void one_of(std::string_view key, const std::string& value,
              std::span<const std::string_view> built,
              std::initializer_list<std::string_view> later, std::string_view what) {
    const auto is = [&](std::string_view name) { return name == value; };
    need(std::none_of(later.begin(), later.end(), is), key,
         fmt::format("{} is {}, this version {}", name_of(key), value, what), ErrorCode::kNotBuilt);
    std::string known;
    for (const std::string_view name : built)
      known += fmt::format("{}{}", known.empty() ? "" : ", ", name);
    need(std::any_of(built.begin(), built.end(), is), key,
         fmt::format("{} is '{}', needed {}", name_of(key), value, known));
  }
  void take(const Expected<void>& checked) {
    if (!checked && !error_) error_ = checked.error();
  }
  Expected<void> result() const {
    if (error_) return tl::unexpected<Error>(*error_);
    return {};
  }

 private:
  static std::string_view name_of(std::string_view key) { return key.substr(key.find('.') + 1); }
  std::optional<Error> error_;
};

/// With `init` the folder says which model it is.
void validate_model(const ModelConfig& model, Validator& v) {
  v.take(model.init.empty() ? check_model(model) : check_model_keys(model));
}

/// What `init` leaves open until its folder is read, make_model_segments() checks.
void validate_experts(const JobConfig& job, Validator& v) {
  const int expert = job.parallel.expert;
  if (expert <= 1 || !job.model.init.empty()) return;
  v.need(job.model.n_routed_experts > 0, "parallel.expert",
         fmt::format("expert is {}, needs a model with a mixture of experts (deepseek-v3), "
                     "architecture is {}",
                     expert, job.model.architecture));
  v.multiple("parallel.expert", job.model.n_routed_experts, expert, "expert ranks",
             "n_routed_experts");
}

void validate_data(const DataConfig& data, Validator& v) {
  v.need(!data.train.empty(), "data.train", "data.train is missing, needed the file to train on");
  v.one_of("data.format", data.format, {"bytes", "uint16", "uint32"}, {}, "");
  v.at_least("data.sequence_length", data.sequence_length, 1);
  v.need(
      data.validation_share >= 0 && data.validation_share < 1, "data.validation_share",
      fmt::format("validation_share is {}, needs to be 0 (no validation), or above 0 and below 1",
                  data.validation_share));
}

void validate_parallel(const ParallelConfig& parallel, Validator& v) {
  v.at_least("parallel.pipeline", parallel.pipeline, 1);
  v.at_least("parallel.chunks", parallel.chunks, 0);
  v.at_least("parallel.microbatches", parallel.microbatches, 1);
  v.at_least("parallel.data", parallel.data, 1);
  v.at_least("parallel.expert", parallel.expert, 1);
  v.one_of("parallel.pairs", parallel.pairs, {"braid", "sequence", "off"}, {}, "");
  v.one_of("parallel.recompute", parallel.recompute, recompute_names(), {}, "");
  v.one_of("parallel.shard", parallel.shard, {"none", "optimizer", "gradients", "parameters"}, {},
           "");
  v.at_least("parallel.max_active_stages", parallel.max_active_stages, 0);
  v.at_least("parallel.max_outstanding_sends", parallel.max_outstanding_sends, 0);
  const double bound = parallel.token_bound;
  v.need(
      bound == 0 || (bound >= 1 && bound <= kMost), "parallel.token_bound",
      fmt::format("token_bound is {}, needs to be 0, or at least 1 and at most {}", bound, kMost));
  v.need(
      parallel.memory_limit_bytes >= 0, "parallel.memory_limit_bytes",
      fmt::format("memory_limit_bytes is {}, needs to be at least 0", parallel.memory_limit_bytes));
  for (const int layers : parallel.layers_per_stage) {
    v.need(layers >= 0, "parallel.layers_per_stage",
           fmt::format("layers_per_stage holds {}, needs at least 0 a stage", layers));
  }
}

void validate_checkpoint(const JobConfig& job, Validator& v) {
  const CheckpointConfig& checkpoint = job.checkpoint;
  v.at_least("checkpoint.every", checkpoint.every, 0);
  v.at_least("checkpoint.keep_last", checkpoint.keep_last, 1);
  v.at_least("checkpoint.keep_every", checkpoint.keep_every, 0);
  v.need(checkpoint.every == 0 || checkpoint.keep_every % std::max(1, checkpoint.every) == 0,
         "checkpoint.keep_every",
         fmt::format("keep_every is {}, must be a multiple of checkpoint.every {}",
                     checkpoint.keep_every, checkpoint.every));
  v.need(checkpoint.every == 0 || job.run.device == "cpu", "checkpoint.every",
         fmt::format("every is {}, this version writes checkpoints with run.device cpu only",
                     checkpoint.every),
         ErrorCode::kNotBuilt);
}

void validate_optimizer(const OptimizerConfig& optimizer, Validator& v) {
  v.positive("optimizer.lr", optimizer.lr);
  for (const double beta : {optimizer.betas.first, optimizer.betas.second}) {
    v.need(beta >= 0 && beta < 1, "optimizer.betas",
           fmt::format("betas holds {}, needs to be at least 0 and below 1", beta));
  }
  v.positive("optimizer.eps", optimizer.eps);
  v.at_least("optimizer.weight_decay", optimizer.weight_decay, 0.0);
  v.at_least("optimizer.clip_norm", optimizer.clip_norm, 0.0);
  v.at_least("optimizer.warmup_steps", optimizer.warmup_steps, 0);
  v.between("optimizer.min_lr_share", optimizer.min_lr_share, 0, 1);
  v.at_least("optimizer.accumulate", optimizer.accumulate, 1);
}

/// Every rank's micro-batch has as many sequences.
void validate_batch(const JobConfig& job, Validator& v) {
  const ParallelConfig& parallel = job.parallel;
  std::int64_t shares = 1;
  const int rounds = job.optimizer.accumulate;
  for (const int factor : {parallel.microbatches, parallel.data, parallel.expert, rounds}) {
    shares = std::min<std::int64_t>(shares * factor, kMost);  // stays within 64 bits
  }
  std::string what = "micro-batches";
  if (parallel.data != 1 || parallel.expert != 1) {
    what = fmt::format("({} micro-batches · {} data · {} expert{})", parallel.microbatches,
                       parallel.data, parallel.expert,
                       rounds == 1 ? "" : fmt::format(" · {} rounds", rounds));
  } else if (rounds != 1) {
    what = fmt::format("({} micro-batches · {} rounds)", parallel.microbatches, rounds);
  }
  v.multiple("run.batch_size", job.run.batch_size, shares, what);
}

void validate_run(const JobConfig& job, Validator& v) {
  const RunConfig& run = job.run;
  v.at_least("run.steps", run.steps, 1);
  v.at_least("run.batch_size", run.batch_size, 1);
  validate_batch(job, v);
  v.at_least("run.validate_every", run.validate_every, 0);
  v.need(run.validate_every == 0 || has_validation(job.data), "run.validate_every",
         fmt::format("validate_every is {}, but nothing is held out: validation_share is 0 and no "
                     "validation file is given",
                     run.validate_every));
  v.at_least("run.log_every", run.log_every, 1);
  v.at_least("run.threads", run.threads, 1);
  v.one_of("run.comm", run.comm, {"inproc", "gloo"}, {"nccl"}, "trains over inproc and gloo only");
  v.one_of("run.device", run.device, {"cpu", "cuda"}, {}, "");
  v.need(run.device == "cpu" || run.comm == "inproc", "run.device",
         fmt::format("device is {}, this version needs comm inproc for it, comm is {}", run.device,
                     run.comm),
         ErrorCode::kNotBuilt);
  v.one_of("run.dtype", run.dtype, {"float32", "bfloat16"}, {}, "");
  v.one_of("run.on_not_finite", run.on_not_finite, {"stop", "skip"}, {}, "");
  v.one_of("run.on_loss", run.on_loss, {"stop", "restart"}, {"shrink"},
           "stops or starts all ranks again");
  v.need(run.on_loss == "stop" || run.comm == "gloo", "run.on_loss",
         fmt::format("on_loss is {}, needs comm gloo: ranks that are threads are lost together",
                     run.on_loss));
  v.positive("run.timeout_s", run.timeout_s);
  v.positive("run.start_timeout_s", run.start_timeout_s);
}

}  // namespace

bool has_validation(const DataConfig& data) {
  return !data.validation.empty() || data.validation_share > 0;
}

Expected<void> validate_job(const JobConfig& job) {
  Validator validator;
  validate_model(job.model, validator);
  validate_data(job.data, validator);
  validate_parallel(job.parallel, validator);
  validate_experts(job, validator);
  validate_optimizer(job.optimizer, validator);
  validate_checkpoint(job, validator);
  validate_run(job, validator);
  return validator.result();
}

}  // namespace plait
