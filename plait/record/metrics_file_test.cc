#include "plait/record/metrics_file.h"

#include <gtest/gtest.h>

#include <unistd.h>
#include <limits>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace plait {
namespace {

StepLine step_line(int step) {
  StepLine line;
  line.step = step;
  line.loss = 1.0 / 3;
  line.grad_norm = 5e-324;
  line.learning_rate = 0.1;
  line.tokens = 1 << 20;
  line.step_ns = 123456789012345678;
  line.bubble_share = {0.1 + 0.2, 1.0};
  line.fill_ns = {1, 2};
  line.steady_ns = {3, 4};
  line.drain_ns = {5, 6};
  line.exposed_comm_ns = {7, -8};
  line.peak_activation_bytes = {9007199254740993, 0};
  line.peak_state_bytes = {22, 23};
  line.cpu_ns = {9, 10};
  line.pairs_braided = 11;
  line.pairs_in_sequence = 12;
  line.whole_backwards = 13;
  line.span_ns = 14;
  line.mean_bubble_share = 0.65;
  line.peer_wait_ns = {15, 16};
  line.transfer_ns = {17, 18};
  line.hidden_comm_ns = {19, 20};
  line.overlap_efficiency = 0.75;
  line.clock_error_ns = {0, 21};
  line.checkpoint_ns = 22;
  return line;
}

std::string file_of(const std::vector<std::string>& lines) {
  std::string text = metrics_header() + "\n";
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

std::string error_of(const std::string& text) {
  const auto read = MetricsReader("m.jsonl").read(text);
  EXPECT_FALSE(read) << text;
  return read ? "" : read.error().text();
}

/// What is said of a good line in which the value of a key is another one, or missing.
std::string error_with(const char* key, const nlohmann::json& value) {
  auto line = nlohmann::json::parse(print_json(step_line(1)));
  line[key] = value;
  return error_of(file_of({line.dump()}));
}

TEST(MetricsReader, ReadsWhatIsPrintedPieceByPiece) {
  ValidationLine validation;
  validation.step = 2;
  validation.loss = 0.7;
  validation.tokens = 99;
  const std::string text =
      file_of({print_json(step_line(1)), print_json(step_line(2)), print_json(validation)});
  for (const std::size_t size : {std::size_t{1}, std::size_t{7}, text.size()}) {
    MetricsReader reader("m.jsonl");
    std::vector<MetricsLine> all;
    for (std::size_t at = 0; at < text.size(); at += size) {
      const auto lines = reader.read(std::string_view(text).substr(at, size));
      ASSERT_TRUE(lines) << lines.error().text();
      all.insert(all.end(), lines->begin(), lines->end());
    }
    ASSERT_EQ(all.size(), 3U);
    // The printer holds every field.
    EXPECT_EQ(print_json(std::get<StepLine>(all[0])), print_json(step_line(1)));
    EXPECT_EQ(print_json(std::get<StepLine>(all[1])), print_json(step_line(2)));
    EXPECT_EQ(print_json(std::get<ValidationLine>(all[2])), print_json(validation));
  }
}

TEST(MetricsReader, ALineThatIsBeingWrittenWaits) {
  MetricsReader reader("m.jsonl");
  const std::string text = file_of({print_json(step_line(1)), print_json(step_line(2))});
  EXPECT_EQ(reader.read("")->size(), 0U);
  EXPECT_EQ(reader.read(text.substr(0, text.size() - 1))->size(), 1U);
  EXPECT_EQ(reader.read("\n")->size(), 1U);
}

TEST(MetricsReader, KeysOfLaterProgramsAreIgnored) {
  auto line = nlohmann::json::parse(print_json(step_line(1)));
  line["new"] = {{"a", 1}};
  EXPECT_TRUE(MetricsReader("m.jsonl").read(file_of({line.dump()})));
}

TEST(MetricsReader, AReferenceRunHasNoTimes) {
  StepLine line = step_line(1);
  for (auto* list : {&line.fill_ns, &line.steady_ns, &line.drain_ns, &line.exposed_comm_ns,
                     &line.peer_wait_ns, &line.transfer_ns, &line.hidden_comm_ns})
    list->clear();
  line.bubble_share.clear();
  EXPECT_TRUE(MetricsReader("m.jsonl").read(file_of({print_json(line)})));
}

TEST(MetricsReader, OfASkippedStepLossAndNormMayBeMissing) {
  StepLine line = step_line(1);
  line.loss = std::numeric_limits<double>::quiet_NaN();
  line.grad_norm = std::numeric_limits<double>::infinity();
  EXPECT_EQ(error_of(file_of({print_json(line)})), "m.jsonl:2: loss is null, needed a number");
  line.skipped = 1;
  const auto read = MetricsReader("m.jsonl").read(file_of({print_json(line)}));
  ASSERT_TRUE(read) << read.error().text();
  EXPECT_EQ(print_json(std::get<StepLine>(read->front())), print_json(line));
}

TEST(MetricsReader, ErrorsNameFileAndLine) {
  EXPECT_EQ(
      error_of("\x7f"
               "ELF\n"),
      R"(m.jsonl:1: is not a run's metrics: needed {"format":"plait metrics","version":1} first)");
  EXPECT_EQ(error_of("{\"format\":\"plait metrics\",\"version\":2}\n"),
            "m.jsonl:1: the metrics' version is 2, this program reads 1");
  EXPECT_EQ(error_of("{\"format\":\"plait metrics\"}\n"),
            "m.jsonl:1: the metrics' version is missing, this program reads 1");
  EXPECT_EQ(error_of(file_of({print_json(step_line(1)), "{\"step\":"})),
            "m.jsonl:3: is not a JSON object, needed a step or a validation");
  EXPECT_EQ(error_of(file_of({print_json(step_line(2)), print_json(step_line(2))})),
            "m.jsonl:3: step 2 follows step 2, needed a later one");
  EXPECT_EQ(error_of(file_of({"{\"step\":1,\"validation_loss\":null,\"tokens\":1}"})),
            "m.jsonl:2: validation_loss is null, needed a number");
  EXPECT_EQ(error_of(std::string((std::size_t{64} << 20) + 1, 'x')),
            "m.jsonl:1: the line is longer than 67108864 bytes");
}

TEST(MetricsReader, EveryKeyIsHeldAgainstItsType) {
  EXPECT_EQ(error_with("loss", nullptr), "m.jsonl:2: loss is null, needed a number");
  EXPECT_EQ(error_with("step", 1.5), "m.jsonl:2: step is 1.5, needed an integer");
  EXPECT_EQ(error_with("step", 1LL << 40), "m.jsonl:2: step is 1099511627776, needed an integer");
  EXPECT_EQ(error_with("step_ns", -3), "m.jsonl:2: step_ns is -3, needed 0 or more");
  EXPECT_EQ(error_with("cpu_ns", 3), "m.jsonl:2: cpu_ns is 3, needed a list of integers");
  EXPECT_EQ(error_with("bubble_share", {0.5, nullptr}),
            "m.jsonl:2: bubble_share is [0.5,null], needed a list of numbers");
  EXPECT_EQ(error_with("drain_ns", {1}),
            "m.jsonl:2: drain_ns has 1 entries, needed 2, one for each rank");
  // JSON has no NaN and no infinity; what stands for them elsewhere is no JSON.
  for (const char* value : {"NaN", "Infinity", "1e999"}) {
    std::string line = print_json(step_line(1));
    const std::string key = "\"grad_norm\":";
    const std::size_t at = line.find(key) + key.size();
    line.replace(at, line.find(',', at) - at, value);
    EXPECT_EQ(error_of(file_of({line})),
              "m.jsonl:2: is not a JSON object, needed a step or a validation");
  }
  const auto good = nlohmann::ordered_json::parse(print_json(step_line(1)));
  for (const auto& [key, value] : good.items()) {
    if (key == "tokens_per_s") continue;  // follows from two others
    auto line = good;
    line.erase(key);
    EXPECT_EQ(error_of(file_of({line.dump()})), "m.jsonl:2: " + key + " is missing");
  }
}

// A run that goes on from step 2 has those lines: the validation of step 2 is made anew, a line
// that was being written is not whole.
TEST(MetricsUntil, LaterLinesAndTheStepsOwnValidationGo) {
  ValidationLine validation;
  validation.tokens = 9;
  const auto validated = [&](int step) {
    validation.step = step;
    return print_json(validation);
  };
  const std::string path =
      (std::filesystem::temp_directory_path() / ("until_" + std::to_string(::getpid()))).string();
  std::ofstream(path) << file_of({print_json(step_line(1)), validated(1), print_json(step_line(2)),
                                  validated(2), print_json(step_line(3))})
                      << "{\"step\": 4";
  const MetricsUntil until = metrics_until(path, 2).value();
  EXPECT_EQ(until.lines,
            file_of({print_json(step_line(1)), validated(1), print_json(step_line(2))}));
  EXPECT_EQ(until.missing, 0);
  EXPECT_EQ(metrics_until(path, 5).value().missing, 2);
  std::ofstream(path) << "no metrics\n";
  EXPECT_FALSE(metrics_until(path, 2));
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace plait
