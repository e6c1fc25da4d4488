#include "plait/sim/cost_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plait/braid/braid_text.h"
#include "tests/support/files.h"

namespace plait {
namespace {

using ::testing::ElementsAre;

CostModel model(const std::string& text, int stages) {
  Expected<CostSettings> settings = parse_cost_file(text, "costs.toml");
  EXPECT_TRUE(settings) << settings.error().text();
  Expected<CostModel> costs = make_cost_model(*settings, stages);
  EXPECT_TRUE(costs) << costs.error().text();
  return *std::move(costs);
}

std::string error_of(const std::string& text, int stages = 2) {
  const Expected<CostSettings> settings = parse_cost_file(text, "costs.toml");
  if (!settings) return settings.error().text();
  const Expected<CostModel> costs = make_cost_model(*settings, stages);
  return costs ? "" : costs.error().text();
}

TEST(CostFile, NumbersAreForEveryStageAndListsForEach) {
  const CostModel costs = model(
      "[stage]\nf_ns = 3\ni_ns = [4, 5]\nw_ns = 2\nactivation_bytes = [7, 8]\n"
      "[link]\nlatency_ns = 9\nbandwidth_bytes_per_s = 1000000000\nmessage_bytes = 5\n"
      "[[link.between]]\nfrom = 0\nto = 1\nlatency_ns = 20\n[pair]\nshare = 0.75\n",
      2);
  EXPECT_THAT(costs.actions.forward, ElementsAre(3, 3));
  EXPECT_THAT(costs.actions.backward_input, ElementsAre(4, 5));
  EXPECT_THAT(costs.actions.backward, ElementsAre(4 + 2, 5 + 2));
  EXPECT_THAT(costs.activation_bytes, ElementsAre(7, 8));
  EXPECT_EQ(costs.network->transfer(1, 0), 9 + 5);
  EXPECT_EQ(costs.network->transfer(0, 1), 20 + 5);
  EXPECT_EQ(costs.pairs.pricing, PairPricing::kBlock);
}

TEST(CostFile, RecomputationIsATimeAndBytes) {
  const CostModel costs = model(
      "[stage]\nf_ns = 3\ni_ns = 4\nw_ns = 2\nrecompute_ns = [3, 0]\nrecomputed_bytes = 7\n", 2);
  EXPECT_THAT(costs.actions.recompute, ElementsAre(3, 0));
  EXPECT_THAT(costs.actions.backward_input, ElementsAre(4, 4));
  EXPECT_THAT(costs.recomputed_bytes, ElementsAre(7, 7));
  EXPECT_TRUE(costs.has_bytes());
  EXPECT_TRUE(model("[stage]\nf_ns = 1\ni_ns = 1\nw_ns = 1\n", 2).actions.recompute.empty());
}

TEST(CostFile, WithoutTimesEveryActionTakesOne) {
  const CostModel costs = model("[link]\ncomm_ns = 2\n", 3);
  EXPECT_EQ(costs.actions.backward, (std::vector<Nanoseconds>{2, 2, 2}));
  EXPECT_EQ(costs.actions.hop, 2);
}

TEST(CostFile, SegmentsRepeatByLayer) {
  const CostModel costs = model(
      "[pair]\nlayers = 2\n[[pair.segment]]\nname = \"a.F\"\nlane = \"compute\"\n"
      "ns = [1, 2]\nneeds_of_layer_before = [\"a.B\"]\n[[pair.segment]]\nname = \"a.B\"\n"
      "lane = \"compute\"\nns = 3\nneeds = [\"a.F\"]\n",
      1);
  ASSERT_EQ(costs.pairs.pricing, PairPricing::kBraid);
  EXPECT_EQ(costs.pairs.braid->run({}, true).end, 1 + 3 + 2 + 3);
}

TEST(CostFile, ReplicasShareALinkOfTheirOwn) {
  const CostModel costs = model(
      "[stage]\nparameter_bytes = 10\ngradient_bytes = 20\n[collective]\nreplicas = 2\n"
      "latency_ns = 3\nbandwidth_bytes_per_s = 1_000_000_000\n",
      2);
  EXPECT_THAT(costs.unshard_times(), ElementsAre(3 + 5, 3 + 5));
  EXPECT_THAT(costs.reduce_grad_times(), ElementsAre(3 + 10, 3 + 10));
}

TEST(CostFile, SaysWhereWhatIsWrong) {
  EXPECT_EQ(error_of("[stage]\nf_n = 3\n"),
            "costs.toml:2: key 'f_n' is not known in [stage], did you mean 'f_ns'?");
  EXPECT_EQ(error_of("[stages]\nf_ns = 3\n"),
            "costs.toml:1: section [stages] is not known, did you mean [stage]?");
  EXPECT_EQ(error_of("f_ns = 3\n"),
            "costs.toml:1: 'f_ns' stands outside of a section, needed one of [stage], [link], "
            "[collective], [pair]");
  const std::string needed = ", needed an integer of 0 or more, or a list with one for each stage";
  EXPECT_EQ(error_of("[[link.between]]\nfrom = 99999999999\nto = 1\n"),
            "costs.toml:2: from is 99999999999, must be 0 to 2147483647");
  EXPECT_EQ(parse_stage_cost("1,99999999999999999999", "--f").error().text(),
            "--f: '1,99999999999999999999' holds 99999999999999999999, must be 0 to "
            "9223372036854775807");
  EXPECT_EQ(error_of("[stage]\nf_ns = 1.5\n"), "costs.toml:2: f_ns is 1.5" + needed);
  EXPECT_EQ(error_of("[stage]\nf_ns = -1\n"), "costs.toml:2: f_ns is -1" + needed);
  EXPECT_EQ(error_of("[stage]\nf_ns = [1, nan]\n"), "costs.toml:2: f_ns is nan" + needed);
  EXPECT_EQ(error_of("[stage]\nf_ns = [1, 2, 3]\ni_ns = 1\nw_ns = 1\n"),
            "costs.toml:2: f_ns has 3 entries, needed one for each of 2 stages");
  EXPECT_EQ(error_of("[stage]\nrecompute_ns = -1\n"), "costs.toml:2: recompute_ns is -1" + needed);
  EXPECT_EQ(error_of("[stage]\nrecomputed_bytes = [1, 2, 3]\n"),
            "costs.toml:2: recomputed_bytes has 3 entries, needed one for each of 2 stages");
  EXPECT_EQ(error_of("[stage]\nrecompute = 1\n"),
            "costs.toml:2: key 'recompute' is not known in [stage], did you mean 'recompute_ns'?");
  EXPECT_EQ(error_of("[stage]\nf_ns = 1\ni_ns = 1\n"),
            "costs: w_ns is missing, needed f_ns, i_ns and w_ns");
  EXPECT_EQ(error_of("[pair]\nshare = nan\n"),
            "costs.toml:2: share is nan, needed a number of 0 or more");
  EXPECT_EQ(error_of("[link]\ncomm_ns = 1\nlatency_ns = 1\n"),
            "costs: comm is given together with latency, bandwidth or message_bytes, needed one or "
            "the other");
  EXPECT_EQ(error_of("[collective]\nlatency_ns = 1\n"),
            "costs: a link of collectives is given without replicas, needed their number");
  EXPECT_EQ(error_of("[collective]\nreplicas = 0\n"),
            "costs.toml:2: replicas is 0, needed an integer of 1 or more");
  EXPECT_EQ(error_of("[collective]\nreplicas = 2\nbandwidth_bytes_per_s = 0\n"),
            "costs: bandwidth_bytes_per_s of [collective] is 0, needed 1 or more");
  EXPECT_EQ(error_of("[[link.between]]\nfrom = 0\n"),
            "costs.toml:1: to is missing in [link.between]");
  EXPECT_EQ(error_of("[pair]\nns = 1\nshare = 0.5\n"),
            "costs: a pair's ns and share are both given, needed one");
  EXPECT_THAT(error_of("[stage\n"), ::testing::StartsWith("costs.toml:1:"));
  EXPECT_EQ(error_of("[[pair.segment]]\nname = \"a.F\"\nlane = \"compute\"\nns = 1\n"
                     "needs = [\"b.F\"]\n"),
            "costs.toml:1: a.F needs 'b.F', which is no segment, did you mean 'a.F'?");
  EXPECT_EQ(error_of("[[pair.segment]]\nname = \"a\"\n"),
            "costs.toml:2: name is 'a', needed a word such as attn.F, mlp.B or mlp.W");
  EXPECT_EQ(error_of("[pair]\nlayers = 2\nbraid = \"a.braid\"\n"),
            "costs.toml:3: braid and layers are both given, needed one");
  EXPECT_EQ(error_of("[pair]\nbraid = \"absent.braid\"\n"),
            "absent.braid: the braid file cannot be read: No such file or directory");
  EXPECT_EQ(error_of("[[pair.segment]]\nname = \"a.F\"\nlane = \"comm\"\n"),
            "costs.toml:3: lane is 'comm', needed one of \"compute\", \"communication\"");
}

TEST(CostFile, FlagsAreNumbersOrLists) {
  EXPECT_THAT(parse_stage_cost("12", "--f")->values, ElementsAre(12));
  EXPECT_THAT(parse_stage_cost("10,12", "--f")->values, ElementsAre(10, 12));
  for (const char* wrong : {"", "1.5", "-1", "1,", ",1", "1 2", "x", "99999999999999999999"})
    EXPECT_FALSE(parse_stage_cost(wrong, "--f")) << wrong;
}

TEST(CostFile, ExamplesAreRead) {
  for (const char* path : {"examples/costs.toml", "examples/deepseek-v3-pair.toml"})
    EXPECT_TRUE(make_cost_model(*read_cost_file(path), 8)) << path;
}

TEST(CostFile, ABraidsFileStandsBesideIt) {
  const std::string table = "tests/golden/deepseek-v3-pair.csv";
  EXPECT_EQ(read_cost_file("examples/deepseek-v3-pair.toml")->braid,
            *read_braid_csv(testing::read_text(table), table));
}

}  // namespace
}  // namespace plait
