#include "plait/job/compare_jobs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

namespace plait {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kJob = R"(
[data]
train = "text"
[parallel]
schedule = "1f1b"
pipeline = 2
[optimizer]
lr = 0.001
)";

JobConfig job(const std::string& text, const std::vector<Override>& overrides = {}) {
  return parse_job_config(text, "job.toml", overrides).value();
}

TEST(CompareJobs, AJobAsItWasResolvedIsTheSame) {
  const JobConfig first = job(kJob);
  EXPECT_TRUE(compare_jobs(first, job(print_job_config(first))).empty());
}

TEST(CompareJobs, WhatChangesNoResultIsNoted) {
  const auto notes =
      check_resumed_job(job(kJob), job(kJob, {{"parallel.schedule", "zbv", "--schedule zbv"},
                                              {"parallel.pipeline", "4", "--ranks 4"}}));
  ASSERT_TRUE(notes) << notes.error().text();
  EXPECT_THAT(*notes, ElementsAre("parallel.pipeline is 4, was 2",
                                  "parallel.schedule is \"zbv\", was \"1f1b\""));
}

TEST(CompareJobs, WhatChangesResultsIsRefusedUnlessAFlagSaysSo) {
  const std::string edited = std::string(kJob) + "eps = 1e-6\n[run]\nseed = 7\nthreads = 2\n";
  const auto refused = check_resumed_job(job(kJob), job(edited));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("\n  optimizer.eps is 1e-06, was 1e-08"));
  EXPECT_THAT(refused.error().message, HasSubstr("\n  run.seed is 7, was 1"));
  EXPECT_THAT(refused.error().message, Not(HasSubstr("threads")));
  const auto meant = check_resumed_job(
      job(kJob), job(kJob, {{"optimizer.lr", "0.002", "--set optimizer.lr=0.002"}}));
  ASSERT_TRUE(meant) << meant.error().text();
  EXPECT_THAT(*meant, ElementsAre("optimizer.lr is 0.002, was 0.001, which changes results (--set "
                                  "optimizer.lr=0.002)"));
}

// Batches, models, optimisers and what is drawn are of the result; a new key is too, until it is
// known not to be.
TEST(CompareJobs, EveryKeyIsOfOneKind) {
  for (const char* section : {"model", "data", "optimizer"}) {
    for (const KeyInfo& key : job_keys()) {
      if (key.section != section || key.name == "init") continue;
      EXPECT_TRUE(changes_results(std::string(section) + "." + std::string(key.name))) << key.name;
    }
  }
  for (const char* key : {"parallel.microbatches", "parallel.data", "parallel.expert", "run.steps",
                          "run.batch_size", "run.seed", "run.dtype", "run.device"})
    EXPECT_TRUE(changes_results(key)) << key;
  EXPECT_TRUE(changes_results("run.a_key_of_tomorrow"));
}

}  // namespace
}  // namespace plait
