/// A job's plan, taken apart into the values that each part of its run is given. Only make_plan()
/// and these functions know the job behind a run.
#pragma once

#include "plait/train/job_costs.h"
#include "plait/train/job_model.h"
#include "plait/train/plan.h"
#include "plait/train/run.h"
#include "plait/train/run_recorder.h"
#include "plait/train/train_setup.h"

namespace plait {

JobModel job_model(const JobPlan& plan, const DataSplit& data);
/// `plan` and `model` outlive the setup.
TrainSetup job_setup(const JobPlan& plan, JobModel& model);
RunLength run_length(const JobPlan& plan);
/// In the run's folder; with checkpoint.every 0 none are written.
CheckpointOptions job_checkpoints(const JobPlan& plan);
ProfiledRun profiled_run(const JobPlan& plan);
RecordedRun recorded_run(const JobPlan& plan);

}  // namespace plait
