#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "plait/train/job_run.h"
#include "plait/train/trainer_group.h"
#include "tests/support/jobs.h"
#include "tests/support/steps.h"

namespace plait {
namespace {

/// What a run leaves: each step's loss and norm, and at its end the state's numbers by key.
struct Outcome {
  testing::Course course;
  std::map<std::string, std::vector<std::byte>> state;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

using Make = TrainerGroup::Made (*)(const TrainSetup& setup);

TrainerGroup::Made make_threads(const TrainSetup& setup) { return TrainerGroup::as_threads(setup); }

Outcome train(const JobConfig& job, Make make) {
  const JobPlan plan = make_plan(job).value();
  const DataSplit data = open_data(plan.job.data, plan.job.model.vocab_size).value();
  JobModel model = job_model(plan, data);
  const auto group = make(job_setup(plan, model)).value();
  Outcome outcome{testing::run_steps(*group, 3), {}};
  for (const auto& trainer : group->trainers()) {
    for (const StateSlice& slice : trainer->state()) {
      if (slice.speaks) outcome.state[slice.key()] = {slice.bytes.begin(), slice.bytes.end()};
    }
  }
  return outcome;
}

class Rounds : public testing::JobTest {};

// Gradients, router loads, dropout and the sampler count through the rounds of a step.
TEST_F(Rounds, TwoAreOneOfTwiceTheMicrobatches) {
  for (const auto& [replicas, expert] : {std::pair(1, 1), std::pair(2, 2)}) {
    SCOPED_TRACE(replicas * expert);
    JobConfig large = mixture_job(replicas, expert);
    large.run.batch_size *= 2;
    JobConfig rounds = large;
    large.parallel.microbatches = 8;
    rounds.optimizer.accumulate = 2;
    const Outcome expected = train(large, make_threads);
    EXPECT_EQ(expected.course.losses.size(), 3U);
    EXPECT_EQ(train(rounds, make_threads), expected);
    EXPECT_EQ(train(rounds, TrainerGroup::as_reference), expected);
  }
}

TEST_F(Rounds, APlanSaysThem) {
  JobConfig job = mixture_job(2, 1);
  EXPECT_EQ(describe_rounds(make_plan(job).value()), "");
  job.optimizer.accumulate = 2;
  job.run.batch_size *= 2;
  const JobPlan plan = make_plan(job).value();
  EXPECT_EQ(describe_rounds(plan),
            "rounds: 2 of 4 micro-batches make a step, gradients are summed and divided in the "
            "last\n");
  // Nothing travels between replicas before the last round.
  for (const RankProgram& program : plan.accumulating_programs) {
    for (const Instruction& one : program.instructions)
      EXPECT_NE(one.opcode, Opcode::kReduceScatter);
  }
}

}  // namespace
}  // namespace plait
