#include "plait/train/job_run.h"

#include <fmt/core.h>

#include <utility>

#include "plait/job/validate.h"
#include "plait/model/dtypes.h"
#include "plait/record/run_folder.h"
#include "plait/train/adamw.h"

namespace plait {

JobModel job_model(const JobPlan& plan, const DataSplit& data) {
  const JobConfig& job = plan.job;
  JobModelValues values;
  values.model = job.model;
  values.parts = plan.parts;
  values.grid = plan.grid();
  values.seed = job.run.seed;
  values.token_bound = job.parallel.token_bound;
  values.compute = plan.compute_dtype();
  values.microbatches = plan.microbatches();
  values.rounds = job.optimizer.accumulate;
  values.sequences = job.sequences_per_microbatch();
  values.sequence_length = job.data.sequence_length;
  values.tokens_are_bytes = job.data.format == "bytes";
  return {std::move(values), data};
}

TrainSetup job_setup(const JobPlan& plan, JobModel& model) {
  const JobConfig& job = plan.job;
  TrainSettings settings;
  settings.gpu = job.run.device == "cuda";
  settings.threads = job.run.threads;
  settings.pin = job.run.pin;
  settings.timeout_s = job.run.timeout_s;
  settings.start_timeout_s = job.run.start_timeout_s;
  settings.folder = run_folder_path(job);
  settings.skips_not_finite = job.run.on_not_finite == "skip";
  settings.recompute = plan.recomputed();
  settings.tokens_per_step = std::int64_t{job.run.batch_size} * job.data.sequence_length;
  settings.clip_norm = job.optimizer.clip_norm;
  settings.learning_rate = [optimizer = job.optimizer, steps = job.run.steps](int step) {
    return learning_rate(optimizer, step, steps);
  };
  settings.optimizer = [optimizer = job.optimizer](const std::vector<TrainedSlice>& slices) {
    return std::make_unique<AdamW>(slices, optimizer);
  };
  return {plan, model, std::move(settings), print_job_config(job)};
}

RunLength run_length(const JobPlan& plan) {
  const RunConfig& run = plan.job.run;
  return {run.steps, run.validate_every, has_validation(plan.job.data)};
}

CheckpointOptions job_checkpoints(const JobPlan& plan) {
  const CheckpointConfig& checkpoint = plan.job.checkpoint;
  CheckpointOptions options;
  options.every = checkpoint.every;
  options.keeping = {checkpoint.keep_last, checkpoint.keep_every};
  options.run = run_folder_path(plan.job);
  options.job = print_job_config(plan.job);
  return options;
}

ProfiledRun profiled_run(const JobPlan& plan) {
  ProfiledRun run;
  run.title = fmt::format("{} under {}, {} ranks, {} micro-batches", plan.job.name,
                          plan.job.parallel.schedule, plan.placement().ranks, plan.microbatches());
  for (const StagePart& part : plan.parts) {
    run.parameter_bytes.push_back(bytes_of(kDtypes.parameter) *
                                  parameter_count(plan.job.model, part));
  }
  return run;
}

RecordedRun recorded_run(const JobPlan& plan) {
  RecordedRun run;
  run.folder = run_folder_path(plan.job);
  run.job = print_job_config(plan.job);
  run.steps = plan.job.run.steps;
  run.model = plan.job.model;
  run.max_sequence = plan.job.data.sequence_length;
  run.costs = profiled_run(plan);
  run.placement = plan.placement();
  run.message_bytes = plan.message_bytes();
  run.has_whole_actions = has_whole_actions(plan);
  return run;
}

}  // namespace plait
