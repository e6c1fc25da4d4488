#include "plait/job/job_config.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <filesystem>
#include <fstream>

#include "tests/support/files.h"

namespace plait {
namespace {

class JobConfigTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("plait_config_" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
    path_ = (folder_ / "job.toml").string();
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  Expected<JobConfig> read(const std::string& text, const std::vector<Override>& overrides = {}) {
    std::ofstream(path_) << text;
    return read_job_config(path_, overrides);
  }
  std::string error_of(const std::string& text, const std::vector<Override>& overrides = {}) {
    const Expected<JobConfig> job = read(text, overrides);
    if (job) return "no error";
    std::string message = job.error().text();
    if (const std::size_t at = message.find(path_); at != std::string::npos)
      message.replace(at, path_.size(), "job.toml");
    return message;
  }

  std::filesystem::path folder_;
  std::string path_;
};

constexpr const char* kData = "[data]\ntrain = \"t\"\n";

TEST_F(JobConfigTest, DefaultsHoldButTheDataMustBeGiven) {
  EXPECT_EQ(error_of(""), "job.toml: data.train is missing, needed the file to train on");
  const Expected<JobConfig> job = read(kData);
  ASSERT_TRUE(job) << job.error().text();
  JobConfig expected;
  expected.name = "job";
  expected.data.train = "t";
  EXPECT_EQ(*job, expected);
}

TEST_F(JobConfigTest, OverridesWinAndBareWordsAreStrings) {
  const Expected<JobConfig> job =
      read(std::string(kData) + "[run]\nsteps = 5\n", {{"run.steps", "7", "--steps"},
                                                       {"run.comm", "gloo", "--comm"},
                                                       {"optimizer.lr", "1", "--set"}});
  ASSERT_TRUE(job) << job.error().text();
  EXPECT_EQ(job->run.steps, 7);
  EXPECT_EQ(job->run.comm, "gloo");
  EXPECT_EQ(job->optimizer.lr, 1.0);
}

TEST_F(JobConfigTest, ErrorsNameLineOrFlagFoundAndNeeded) {
  EXPECT_EQ(error_of(std::string(kData) + "[run]\nstep = 5\n"),
            "job.toml:4: key 'step' is not known in [run], did you mean 'steps'?");
  EXPECT_EQ(error_of("[optimiser]\nlr = 1.0\n"),
            "job.toml:1: section [optimiser] is not known, did you mean [optimizer]?");
  EXPECT_EQ(error_of("steps = 3\n"),
            "job.toml:1: 'steps' stands outside of a section, needed one such as [run]");
  EXPECT_EQ(error_of("[run]\nsteps = \"many\"\n"),
            "job.toml:2: steps is 'many', needed an integer");
  EXPECT_EQ(error_of("[run]\nsteps = 1.5\n"), "job.toml:2: steps is 1.5, needed an integer");
  EXPECT_EQ(error_of("[run]\nsteps = 5000000000\n"),
            "job.toml:2: run.steps is 5000000000, must be 1 to 2147483647");
  EXPECT_EQ(error_of("[optimizer]\nbetas = [0.5]\n"),
            "job.toml:2: betas is [ 0.5 ], needed two numbers, as in [0.9, 0.95]");
  EXPECT_EQ(error_of(std::string(kData) + "[run]\nbatch_size = 15\n"),
            "job.toml:4: batch_size is 15, must be a multiple of 8 micro-batches");
  EXPECT_EQ(error_of(std::string(kData) + "[optimizer]\naccumulate = 3\n"),
            "job.toml: batch_size is 16, must be a multiple of 24 (8 micro-batches · 3 rounds)");
  EXPECT_EQ(error_of(std::string(kData) + "[optimizer]\naccumulate = 0\n"),
            "job.toml:4: accumulate is 0, needs to be at least 1");
  EXPECT_EQ(error_of(kData, {{"run.dtype", "float16", "--set run.dtype=float16"}}),
            "--set run.dtype=float16: dtype is 'float16', needed float32, bfloat16");
  EXPECT_EQ(error_of(kData, {{"steps", "7", "--set steps=7"}}),
            "--set steps=7: 'steps' names no section, needed section.key=value");
  EXPECT_EQ(error_of(std::string(kData) + "[optimizer]\nlr = nan\n"),
            "job.toml:4: lr is nan, needs to be a positive number");
  EXPECT_EQ(read_job_config("/nowhere.toml", {}).error().text(),
            "/nowhere.toml: the job file cannot be read: No such file or directory");
}

constexpr const char* kMixture =
    "[data]\ntrain = \"t\"\n[model]\narchitecture = \"deepseek-v3\"\nn_routed_experts = 6\n"
    "num_experts_per_tok = 2\nmoe_intermediate_size = 32\n";

TEST_F(JobConfigTest, AMixtureIsRead) {
  const Expected<JobConfig> job = read(kMixture, {{"parallel.expert", "2", "--set"},
                                                  {"parallel.data", "2", "--set"},
                                                  {"run.batch_size", "32", "--set"},
                                                  {"model.router_aux_loss_coef", "0.01", "--set"}});
  ASSERT_TRUE(job) << job.error().text();
  EXPECT_EQ(job->model.n_routed_experts, 6);
  EXPECT_EQ(job->model.scoring_func, "sigmoid");
  EXPECT_EQ(job->model.router_aux_loss_coef, 0.01);
  EXPECT_EQ(*read(print_job_config(*job)), *job);
}

TEST_F(JobConfigTest, AMixtureThatDoesNotFitIsAnErrorWithTheNumbers) {
  const auto error_with = [&](const char* key, const char* value) {
    return error_of(kMixture, {{key, value, "--set"}});
  };
  EXPECT_EQ(error_with("model.num_experts_per_tok", "7"),
            "--set: num_experts_per_tok is 7, needs to be at most n_routed_experts 6");
  EXPECT_EQ(error_with("model.moe_intermediate_size", "0"),
            "--set: moe_intermediate_size is 0, needs to be at least 1");
  EXPECT_EQ(error_with("model.first_k_dense_replace", "9"),
            "--set: first_k_dense_replace is 9, needs to be at most num_hidden_layers 8");
  EXPECT_EQ(error_with("model.scoring_func", "relu"),
            "--set: scoring_func is 'relu', needed sigmoid, softmax");
  EXPECT_EQ(error_with("model.routed_scaling_factor", "0"),
            "--set: routed_scaling_factor is 0, needs to be a positive number");
  EXPECT_EQ(error_with("model.bias_update_speed", "-1.0"),
            "--set: bias_update_speed is -1, needs to be at least 0");
  EXPECT_EQ(error_with("parallel.expert", "4"),
            "--set: n_routed_experts is 6, must be a multiple of 4 expert ranks");
  EXPECT_EQ(error_with("parallel.expert", "3"),
            "job.toml: batch_size is 16, must be a multiple of 24 (8 micro-batches · 1 data · 3 "
            "expert)");
  EXPECT_EQ(error_with("model.architecture", "llama"),
            "job.toml:5: n_routed_experts is 6, but a llama has no experts, deepseek-v3 has");
}

TEST_F(JobConfigTest, RotaryPositionsAreScaledByATable) {
  constexpr const char* kScaling =
      "{ rope_type = \"llama3\", factor = 8, low_freq_factor = 1.0, high_freq_factor = 4.0, "
      "original_max_position_embeddings = 32 }";
  const Expected<JobConfig> job = read(kData, {{"model.rope_scaling", kScaling, "--set"}});
  ASSERT_TRUE(job) << job.error().text();
  EXPECT_EQ(job->model.rope_scaling, (RopeScaling{"llama3", 8.0, 1.0, 4.0, 32}));
  EXPECT_EQ(*read(print_job_config(*job)), *job);
  const auto error_with = [&](const char* value) {
    return error_of(kData, {{"model.rope_scaling", value, "--set"}});
  };
  EXPECT_EQ(error_with("{ rope_type = \"yarn\" }"),
            "--set: rope_scaling: rope_type is 'yarn', this version knows only default and llama3");
  EXPECT_EQ(error_with("{ rope_type = \"llama3\", factor = 0.0 }"),
            "--set: rope_scaling: factor is 0, needs to be a positive number");
  EXPECT_NE(error_with("{ rope_type = \"llama3\", faktor = 2.0 }").find("needed a table, as in"),
            std::string::npos);
  EXPECT_NE(error_with("8").find("needed a table, as in"), std::string::npos);
}

TEST_F(JobConfigTest, HeadsHaveASizeOfTheirOwn) {
  EXPECT_EQ(read(kData, {{"model.head_dim", "40", "--set"}})->model.head_size(), 40);
  EXPECT_EQ(error_of(kData, {{"model.head_dim", "41", "--set"}}),
            "--set: head_dim is 41, must be even for rotary positions");
  // Heads of 40 need no hidden size that they divide.
  EXPECT_TRUE(
      read(kData, {{"model.head_dim", "40", "--set"}, {"model.hidden_size", "97", "--set"}}));
  EXPECT_EQ(error_of(kData, {{"model.hidden_size", "97", "--set"}}),
            "--set: hidden_size is 97, must be a multiple of 4 attention heads, unless head_dim is "
            "given");
}

TEST_F(JobConfigTest, RanksBesideThePipelineNeedTheirShareOfTheBatch) {
  EXPECT_EQ(
      error_of(kData, {{"parallel.expert", "2", "--set"}}),
      "--set: expert is 2, needs a model with a mixture of experts (deepseek-v3), architecture "
      "is llama");
  EXPECT_EQ(error_of(kData, {{"parallel.data", "3", "--set"}}),
            "job.toml: batch_size is 16, must be a multiple of 24 (8 micro-batches · 3 data · 1 "
            "expert)");
  EXPECT_EQ(error_of(kData, {{"parallel.data", "2147483647", "--set"}}).substr(0, 40),
            "job.toml: batch_size is 16, must be a mu");
  EXPECT_EQ(error_of(kData, {{"parallel.data", "0", "--set"}}),
            "--set: data is 0, needs to be at least 1");
  EXPECT_EQ(error_of(kData, {{"parallel.pairs", "twist", "--set"}}),
            "--set: pairs is 'twist', needed braid, sequence, off");
  for (const char* value : {"selective", "full"}) {
    EXPECT_EQ(read(kData, {{"parallel.recompute", value, "--set"}})->parallel.recompute, value);
  }
}

// The folder says which model it is, the job only what no folder says.
TEST_F(JobConfigTest, ExpertsOfAFolderAreNotYetKnown) {
  EXPECT_TRUE(read(kData, {{"model.init", "folder", "--set"}, {"parallel.expert", "2", "--set"}}));
}

TEST_F(JobConfigTest, OverridesOfTextMayLeaveOutTheQuotes) {
  for (const std::string value : {"2024", "true", "2024-01-01", "a b", "\"quoted\"", "[x]"}) {
    const Expected<JobConfig> job = read(kData, {{"run.folder", value, "--set"}});
    ASSERT_TRUE(job) << job.error().text();
    EXPECT_EQ(job->run.folder, value == "\"quoted\"" ? "quoted" : value);
  }
  EXPECT_EQ(error_of(kData, {{"run.folder", "\xff", "--set x"}}),
            "--set x: folder is not UTF-8 text");
  EXPECT_EQ(error_of(kData, {{"run.steps", "many", "--steps many"}}),
            "--steps many: steps is 'many', needed an integer");
  EXPECT_EQ(error_of(kData, {{"parallel.layers_per_stage", "[1, 2", "--set x"}}),
            "--set x: layers_per_stage is '[1, 2', needed a list of integers");
  EXPECT_EQ(error_of(kData, {{"run.steps", "7\nseed = 3", "--set x"}}).substr(0, 8), "--set x:");
}

TEST_F(JobConfigTest, KeysOfAnotherSectionAreFound) {
  EXPECT_EQ(error_of("[run]\nlr = 0.1\n"),
            "job.toml:2: key 'lr' is not known in [run], did you mean 'lr' in [optimizer]?");
}

// Nothing absurd gets as far as the arithmetic on sizes and times.
TEST_F(JobConfigTest, NumbersAreFiniteAndWithinBounds) {
  EXPECT_EQ(error_of(kData, {{"optimizer.weight_decay", "inf", "--set x"}}),
            "--set x: weight_decay is inf, needs to be at most 2147483647");
  EXPECT_EQ(error_of(kData, {{"run.timeout_s", "1e300", "--set x"}}),
            "--set x: timeout_s is 1e+300, needs to be at most 2147483647");
  EXPECT_EQ(error_of(kData, {{"model.vocab_size", "9223372036854775807", "--set x"}}),
            "--set x: vocab_size is 9223372036854775807, needs to be at most 2147483647");
}

TEST_F(JobConfigTest, DropoutIsAShareBelowOne) {
  EXPECT_EQ(read(kData, {{"model.hidden_dropout", "0.1", "--set x"}})->model.hidden_dropout, 0.1);
  for (const char* value : {"1", "1.5", "-0.1", "nan"}) {
    EXPECT_NE(error_of(kData, {{"model.hidden_dropout", value, "--set x"}})
                  .find("needs to be at least 0 and below 1"),
              std::string::npos);
  }
}

TEST_F(JobConfigTest, BrokenTomlNamesLineAndColumn) {
  EXPECT_EQ(error_of("[run\n").substr(0, 11), "job.toml:1:");
}

struct Scramble {
  void operator()(std::string* field) const {
    *field = *rc::gen::container<std::string>(rc::gen::inRange<char>(0, 127));
  }
  void operator()(bool* field) const { *field = *rc::gen::arbitrary<bool>(); }
  void operator()(double* field) const { *field = *rc::gen::arbitrary<double>(); }
  void operator()(std::pair<double, double>* field) const {
    *field = {*rc::gen::arbitrary<double>(), *rc::gen::arbitrary<double>()};
  }
  void operator()(std::vector<int>* field) const {
    *field = *rc::gen::arbitrary<std::vector<int>>();
  }
  void operator()(std::uint64_t* field) const {
    *field = *rc::gen::inRange<std::uint64_t>(0, 1ULL << 62);
  }
  void operator()(RopeScaling* field) const {
    field->rope_type = *rc::gen::element<std::string>("llama3", "linear");
    field->factor = *rc::gen::arbitrary<double>();
    field->original_max_position_embeddings = *rc::gen::arbitrary<int>();
  }
  template <typename Integer>
  void operator()(Integer* field) const {
    *field = *rc::gen::arbitrary<Integer>();
  }
};

// Each key of a valid job, set to anything, prints to TOML that reads back to the same or is
// refused for its value, never for its form.
TEST_F(JobConfigTest, PrintThenReadIsTheIdentity) {
  EXPECT_TRUE(rc::check([&] {
    JobConfig job = *read(kData);
    const std::span<const KeyInfo> keys = job_keys();
    const KeyInfo& key = keys[*rc::gen::inRange<std::size_t>(0, keys.size())];
    std::visit(Scramble{}, key.field(job));
    const Expected<JobConfig> again = read(print_job_config(job));
    if (again) {
      RC_ASSERT(*again == job);
    } else {
      RC_ASSERT(again.error().message.find("needed a") == std::string::npos);
    }
  }));
}

TEST(JobKeys, TheDocumentHoldsTheTable) {
  const std::string text = testing::read_text("docs/job.md");
  EXPECT_NE(text.find(print_key_table()), std::string::npos) << "docs/job.md is stale; it needs:\n"
                                                             << print_key_table();
}

}  // namespace
}  // namespace plait
