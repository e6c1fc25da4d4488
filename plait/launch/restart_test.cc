#include "plait/launch/restart.h"

#include <gtest/gtest.h>

namespace plait {
namespace {

using List = std::vector<std::string>;

TEST(Restart, GoesOnFromItsOwnCheckpoint) {
  EXPECT_EQ(restarted_arguments({"train", "job.toml", "--overwrite", "--steps", "9"}, true),
            List({"train", "job.toml", "--steps", "9", "--resume"}));
  EXPECT_EQ(restarted_arguments({"train", "--resume-from", "runs/a", "job.toml"}, true),
            List({"train", "job.toml", "--resume"}));
  EXPECT_EQ(restarted_arguments({"train", "--resume-from=runs/a", "job.toml", "--resume"}, true),
            List({"train", "job.toml", "--resume"}));
}

TEST(Restart, WithoutACheckpointItBeginsAsItWasBegun) {
  EXPECT_EQ(restarted_arguments({"train", "--resume-from", "runs/a", "job.toml"}, false),
            List({"train", "--resume-from", "runs/a", "job.toml", "--overwrite"}));
}

TEST(Restart, IsGivenUpWhenItBringsNothing) {
  RestartLimit limit;
  EXPECT_TRUE(limit.allows(10));
  EXPECT_TRUE(limit.allows(10));
  EXPECT_TRUE(limit.allows(20));  // it has come on
  EXPECT_TRUE(limit.allows(20));
  EXPECT_TRUE(limit.allows(20));
  EXPECT_FALSE(limit.allows(20));
}

}  // namespace
}  // namespace plait
