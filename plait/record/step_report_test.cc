#include "plait/record/step_report.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "plait/record/step_fields.h"
#include "tests/support/files.h"

namespace plait {
namespace {

TEST(StepLine, PrintsTheKeysOfTheFormatInTheirOrder) {
  StepLine line;
  line.bubble_share = {0.5};
  std::vector<std::string> keys;
  const auto read = nlohmann::ordered_json::parse(print_json(line));
  for (const auto& [key, value] : read.items()) keys.push_back(key);
  keys.resize(14);  // later ones are additions
  EXPECT_EQ(keys, (std::vector<std::string>{
                      "step", "loss", "grad_norm", "learning_rate", "tokens", "step_ns",
                      "tokens_per_s", "bubble_share", "exposed_comm_ns", "peak_activation_bytes",
                      "peak_state_bytes", "cpu_ns", "pairs_braided", "pairs_in_sequence"}));
}

TEST(StepLine, NumbersReadBackToTheSame) {
  StepLine line;
  line.step = 7;
  line.loss = 1.0 / 3;
  line.grad_norm = 5e-324;  // the smallest double
  line.learning_rate = 0.1;
  line.tokens = 1 << 20;
  line.step_ns = 123456789012345678;  // beyond a double's 53 bits
  line.bubble_share = {0.1 + 0.2, 1.0};
  line.exposed_comm_ns = {1, 2};
  line.peak_activation_bytes = {9007199254740993, 0};
  line.cpu_ns = {4, 5};
  line.pairs_in_sequence = 3;
  const auto read = nlohmann::json::parse(print_json(line));
  EXPECT_EQ(read.at("step"), line.step);
  EXPECT_EQ(read.at("loss").get<double>(), line.loss);
  EXPECT_EQ(read.at("grad_norm").get<double>(), line.grad_norm);
  EXPECT_EQ(read.at("learning_rate").get<double>(), line.learning_rate);
  EXPECT_EQ(read.at("step_ns").get<Nanoseconds>(), line.step_ns);
  EXPECT_EQ(read.at("tokens_per_s").get<double>(), line.tokens_per_s());
  EXPECT_EQ(read.at("bubble_share").get<std::vector<double>>(), line.bubble_share);
  EXPECT_EQ(read.at("peak_activation_bytes").get<std::vector<Bytes>>(), line.peak_activation_bytes);
  EXPECT_EQ(read.at("pairs_in_sequence"), 3);
}

TEST(StepLine, IsOneLineEvenIfALossIsNotFinite) {
  StepLine line;
  line.loss = std::numeric_limits<double>::quiet_NaN();
  const std::string text = print_json(line);
  EXPECT_EQ(text.find('\n'), std::string::npos);
  EXPECT_TRUE(nlohmann::json::parse(text).at("loss").is_null());  // JSON has no NaN
}

TEST(StepFields, AreEachFilledFromTheirSource) {
  RankReport first, second;
  first.cpu_ns = 3;
  second.cpu_ns = 4;
  first.pairs_braided = 5;
  second.pairs_braided = 6;
  StepMetrics metrics;
  metrics.span_ns = 100;
  metrics.ranks.resize(2);
  metrics.ranks[1].bubble_ns = 50;
  metrics.ranks[1].drain_ns = 7;
  StepLine line;
  fill_step_line({first, second}, metrics, line);
  EXPECT_EQ(line.cpu_ns, (std::vector<Nanoseconds>{3, 4}));
  EXPECT_EQ(line.pairs_braided, 11);
  EXPECT_EQ(line.span_ns, 100);
  EXPECT_EQ(line.drain_ns, (std::vector<Nanoseconds>{0, 7}));
  EXPECT_EQ(line.bubble_share, (std::vector<double>{0, 0.5}));
  EXPECT_EQ(line.mean_bubble_share, 0.25);
  EXPECT_TRUE(line.clock_error_ns.empty());  // the trainer's
}

// A member that the table does not have would be lost on its way to the file.
TEST(StepFields, HoldEveryMemberOfALine) {
  std::size_t bytes = 0;
  each_stored_field([&](const StepField&, const auto place) {
    bytes += sizeof(std::declval<StepLine&>().*place);
  });
  // Four ints before numbers of eight bytes: at most one gap of four for each.
  constexpr std::size_t kGaps = 20;
  EXPECT_GT(bytes + kGaps, sizeof(StepLine));
}

TEST(StepFields, DocumentsHoldTheTable) {
  EXPECT_NE(testing::read_text("docs/job.md").find(print_step_table()), std::string::npos)
      << "docs/job.md is stale; it needs:\n"
      << print_step_table();
}

TEST(MetricsHeader, CarriesTheVersion) {
  EXPECT_EQ(nlohmann::json::parse(metrics_header()).at("version"), 1);
}

TEST(ValidationLine, TurnsNatsIntoBits) {
  ValidationLine line;
  line.step = 3;
  line.loss = 1.3862943611198906;  // 2 ln 2
  const auto read = nlohmann::json::parse(print_json(line));
  EXPECT_EQ(read.at("step"), 3);
  EXPECT_EQ(read.at("validation_loss").get<double>(), line.loss);
  EXPECT_DOUBLE_EQ(read.at("validation_bits_per_byte").get<double>(), 2);
}

TEST(NotFinite, TheEarlierInAStepTheSmaller) {
  using Phase = NotFinite::Phase;
  const std::vector<NotFinite> in_order = {
      {Phase::kForward, 0, 1, ""},  {Phase::kForward, 1, 0, ""},  {Phase::kLoss, 0, 3, ""},
      {Phase::kBackward, 0, 2, ""}, {Phase::kBackward, 0, 1, ""}, {Phase::kGradient, -1, -1, ""}};
  for (std::size_t i = 1; i < in_order.size(); ++i)
    EXPECT_LT(in_order[i - 1].place(), in_order[i].place()) << i;
  EXPECT_EQ((NotFinite{Phase::kLoss, 2, 3, "loss is nan"}.text()),
            "loss is nan at micro-batch 2, stage 3");
  EXPECT_EQ((NotFinite{Phase::kGradient, -1, -1, "the gradient of w is inf"}.text()),
            "the gradient of w is inf");
}

TEST(RankReport, PackThenUnpackIsTheIdentity) {
  RankReport report;
  report.square_sums = {{"model.norm.weight", 0, {1.0 / 3}},
                        {"lm_head.weight", 5, {std::numeric_limits<double>::infinity(), 5e-324}}};
  report.losses = {0.1, -0.0, 5e-324};
  report.times = {{1, 123456789012345678}, {-3, 4}};
  report.memory = {{0, 9007199254740993, 5}, {1, 2, 3}};
  report.peak_activation_bytes = 9007199254740993;
  report.peak_state_bytes = 9007199254740995;
  report.cpu_ns = 17;
  report.pairs_braided = 5;
  report.router_loads = {{1, {7, 0, 9}}, {12, {4}}};
  report.pairs_in_sequence = 2;
  report.whole_backwards = 3;
  report.stop_signal = 15;
  report.passage = {-5, 123456789012345678};
  report.not_finite = {{NotFinite::Phase::kLoss, 2, 3, "loss is nan"}};
  const Expected<RankReport> read = RankReport::unpack(report.pack());
  ASSERT_TRUE(read) << read.error().text();
  EXPECT_EQ(read->square_sums, report.square_sums);
  EXPECT_EQ(read->losses, report.losses);
  EXPECT_EQ(read->not_finite, report.not_finite);
  EXPECT_TRUE(std::signbit(read->losses[1]));
  EXPECT_EQ(read->times, report.times);
  EXPECT_EQ(read->peak_activation_bytes, report.peak_activation_bytes);
  EXPECT_EQ(read->peak_state_bytes, report.peak_state_bytes);
  EXPECT_EQ(read->cpu_ns, 17);
  EXPECT_EQ(read->pairs_braided, 5);
  EXPECT_EQ(read->router_loads, report.router_loads);
  EXPECT_EQ(read->pairs_in_sequence, 2);
  EXPECT_EQ(read->whole_backwards, 3);
  EXPECT_EQ(read->stop_signal, 15);
  EXPECT_EQ(read->passage, report.passage);
  EXPECT_EQ(read->memory, report.memory);
}

TEST(RankReport, TornBytesAreAnErrorOfThePeer) {
  const std::string bytes = RankReport{}.pack();
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const Expected<RankReport> read = RankReport::unpack(bytes.substr(0, size));
    ASSERT_FALSE(read) << size;
    EXPECT_EQ(read.error().code, ErrorCode::kPeer);
  }
  EXPECT_FALSE(RankReport::unpack("\x83\x01\x02\x03"));  // a list of other things
}

}  // namespace
}  // namespace plait
