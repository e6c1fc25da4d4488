#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "plait/saved/checkpoint_folder.h"
#include "plait/train/checkpoint_resume.h"
#include "plait/train/checkpoint_saver.h"
#include "plait/train/checkpoint_state.h"
#include "plait/train/job_run.h"
#include "plait/train/trainer_group.h"
#include "tests/support/jobs.h"

namespace plait {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

using Numbers = std::vector<std::byte>;

/// Keeps what it is given, by name.
class Kept final : public TensorSink {
 public:
  explicit Kept(Numbers& into) : into_(into) {}
  Expected<void> begin(const std::vector<TensorInfo>&) override {
    into_.clear();
    return {};
  }
  Expected<void> write(std::span<const std::byte> bytes) override {
    into_.insert(into_.end(), bytes.begin(), bytes.end());
    return {};
  }
  Expected<void> end() override { return {}; }

 private:
  Numbers& into_;
};

/// What a run has left: by step its loss and its norm, and the numbers at its end.
struct Trained {
  std::map<int, std::pair<double, double>> steps;
  Numbers model, gradients;
  int steps_done = 0;
  std::vector<std::string> warnings;
};

struct Way {
  int stop_after = 0;  ///< asked to stop in this step; 0: it runs to its end
  const Resume* resume = nullptr;
  bool reference = false;
};

class Checkpoint : public testing::JobTest {
 protected:
  std::string run_folder(const std::string& name) const { return folder_ + "/" + name; }

  /// The job as it would be trained in that folder.
  JobConfig in(const std::string& name, JobConfig job) const {
    job.run.folder = run_folder(name);
    job.checkpoint.every = 2;
    job.checkpoint.keep_last = 100;
    return job;
  }

  Trained train(const JobConfig& job, const Way& way = {}) const {
    const JobPlan plan = make_plan(job).value();
    const DataSplit data = open_data(plan.job.data, plan.job.model.vocab_size).value();
    fs::create_directories(job.run.folder);
    Trained trained;
    RunHooks hooks;
    hooks.checkpoints = job_checkpoints(plan);
    hooks.checkpoints.on_warning = [&](const Error& error) {
      trained.warnings.push_back(error.text());
    };
    if (way.resume != nullptr) {
      hooks.resume = &way.resume->saved;
      hooks.own_state = way.resume->own;
    }
    int steps_done = way.resume == nullptr ? 0 : way.resume->step();
    hooks.stop_signal = [&] { return way.stop_after == steps_done + 1 ? SIGTERM : 0; };
    hooks.on_step = [&](const StepOutcome& outcome) -> Expected<void> {
      steps_done = outcome.line.step;
      trained.steps[outcome.line.step] = {outcome.line.loss, outcome.line.grad_norm};
      return {};
    };
    hooks.model_sink = [&] { return std::make_unique<Kept>(trained.model); };
    hooks.gradient_sink = [&] { return std::make_unique<Kept>(trained.gradients); };
    JobModel model = job_model(plan, data);
    const TrainSetup setup = job_setup(plan, model);
    const auto outcome = way.reference ? run_reference(setup, run_length(plan), hooks)
                                       : run_in_process(setup, run_length(plan), hooks);
    EXPECT_TRUE(outcome) << outcome.error().text();
    trained.steps_done = outcome ? outcome->steps_done : -1;
    return trained;
  }

  /// The steps of `whole` from the one behind `step` on, and all that is there at its end.
  static void expect_goes_on(const Trained& resumed, const Trained& whole, int step) {
    std::map<int, std::pair<double, double>> later = whole.steps;
    std::erase_if(later, [&](const auto& one) { return one.first <= step; });
    EXPECT_EQ(resumed.steps, later);
    EXPECT_TRUE(resumed.model == whole.model);
    EXPECT_TRUE(resumed.gradients == whole.gradients);
  }
};

// Whatever schedule, placement and number of ranks wrote the checkpoint, and whichever go on.
TEST_F(Checkpoint, ARunGoesOnUnderAnyScheduleWithTheSameBits) {
  const JobConfig job = in("whole", mixture_job(1, 1));
  const Trained whole = train(job);
  ASSERT_EQ(whole.steps_done, 8);
  ASSERT_FALSE(whole.model.empty() || whole.gradients.empty());
  struct Case {
    const char* schedule;
    int ranks;
    const char* pairs;
    const char* recompute;
  };
  const std::vector<Case> cases = {{"dualpipe-v", 2, "braid", "none"},
                                   {"zbv", 3, "off", "selective"},
                                   {"1f1b", 4, "off", "full"},
                                   {"gpipe", 1, "off", "none"},
                                   {"interleaved-1f1b", 2, "sequence", "none"}};
  const auto as = [&](const std::string& name, const Case& one) {
    JobConfig other = in(name, job);
    other.run.folder = run_folder(name);
    other.parallel.schedule = one.schedule;
    other.parallel.pipeline = one.ranks;
    other.parallel.pairs = one.pairs;
    other.parallel.recompute = one.recompute;
    return other;
  };
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const Case& next = cases[(i + 1) % cases.size()];
    SCOPED_TRACE(::testing::Message() << cases[i].schedule << ", then " << next.schedule);
    const JobConfig first = as("first" + std::to_string(i), cases[i]);
    const Trained stopped = train(first, {.stop_after = 3});
    EXPECT_EQ(stopped.steps_done, 3);
    const Expected<Resume> resume = resume_from(first.run.folder, as("next", next));
    ASSERT_TRUE(resume) << resume.error().text();
    EXPECT_EQ(resume->step(), 3);
    expect_goes_on(train(as("next" + std::to_string(i), next), {.resume = &*resume}), whole, 3);
    if (i == 0)
      expect_goes_on(train(as("reference", next), {.resume = &*resume, .reference = true}), whole,
                     3);
  }
}

// Also where replicas share out their state otherwise than those that wrote it did.
TEST_F(Checkpoint, ReplicasAndExpertsGoOnWithTheSameBits) {
  struct Case {
    int data, expert;
    const char *shard, *then;
  };
  for (const Case& one : {Case{2, 1, "none", "parameters"}, Case{1, 2, "optimizer", "none"},
                          Case{2, 2, "parameters", "gradients"}}) {
    SCOPED_TRACE(::testing::Message() << one.data << " replicas, expert " << one.expert
                                      << ", shard " << one.shard << ", then " << one.then);
    const std::string name = std::to_string(one.data) + std::to_string(one.expert);
    const Trained whole = train(in("whole" + name, mixture_job(one.data, one.expert)));
    JobConfig first = in("first" + name, mixture_job(one.data, one.expert));
    first.parallel.shard = one.shard;
    train(first, {.stop_after = 4});
    JobConfig other = in("other" + name, first);
    other.parallel.schedule = "1f1b";
    other.parallel.pipeline = 3;
    other.parallel.pairs = "off";
    other.parallel.shard = one.then;
    const Expected<Resume> resume = resume_from(first.run.folder, other);
    ASSERT_TRUE(resume) << resume.error().text();
    expect_goes_on(train(other, {.resume = &*resume}), whole, 4);
  }
}

TEST_F(Checkpoint, ADamagedOneIsNamedAndPassedOver) {
  const JobConfig job = in("run", mixture_job(1, 1));
  const Trained whole = train(job);
  EXPECT_THAT(checkpoint_steps(job.run.folder), ElementsAre(2, 4, 6, 8));
  const auto file = [&](int step, const std::string& name) {
    return checkpoint_path(job.run.folder, step) + "/" + name;
  };
  fs::resize_file(file(8, "manifest.json"), 60);
  std::fstream flipped(file(6, "rank-1.safetensors"), std::ios::in | std::ios::out);
  flipped.seekp(-5, std::ios::end);
  flipped.put('?');
  flipped.close();
  fs::resize_file(file(4, "rank-0.safetensors"), 1000);
  fs::create_directories(job.run.folder + "/checkpoints/.step-9.1-2");  // of a run that was killed
  const Expected<Resume> resume = resume_from(job.run.folder, job);
  ASSERT_TRUE(resume) << resume.error().text();
  EXPECT_EQ(resume->step(), 2);
  ASSERT_EQ(resume->from.passed_over.size(), 3u);
  EXPECT_THAT(resume->from.passed_over[0].text(),
              AllOf(HasSubstr("step-8/manifest.json"), HasSubstr("torn")));
  EXPECT_THAT(resume->from.passed_over[1].text(),
              AllOf(HasSubstr("step-6/rank-1.safetensors"), HasSubstr("damaged")));
  EXPECT_THAT(resume->from.passed_over[2].text(),
              AllOf(HasSubstr("step-4/rank-0.safetensors"), HasSubstr("has 1000 bytes")));
  expect_goes_on(train(job, {.resume = &*resume}), whole, 2);
  // What was damaged has been written anew, and what was left behind is gone.
  EXPECT_EQ(find_checkpoint(job.run.folder).value().manifest.step, 8);
  EXPECT_TRUE(find_checkpoint(checkpoint_path(job.run.folder, 6)));
  EXPECT_FALSE(fs::exists(job.run.folder + "/checkpoints/.step-9.1-2"));
  fs::remove(file(2, "job.toml"));
  const auto damaged = find_checkpoint(checkpoint_path(job.run.folder, 2));
  ASSERT_FALSE(damaged);
  EXPECT_THAT(damaged.error().text(), HasSubstr("step-2/job.toml: is missing"));
}

TEST_F(Checkpoint, EveryTensorThatDoesNotFitIsNamed) {
  JobConfig job = in("run", mixture_job(1, 1));
  job.run.steps = 2;
  train(job);
  JobConfig other = in("other", job);
  other.model.num_hidden_layers = 7;   // layer 6 is missing
  other.model.n_shared_experts = 0;    // these are in the checkpoint only
  other.model.intermediate_size = 40;  // layer 0's mlp is larger there
  for (const char* key : {"num_hidden_layers", "n_shared_experts", "intermediate_size"})
    other.origins.by_key[std::string("model.") + key] = "--set";
  const Expected<Resume> resume = resume_from(job.run.folder, other);
  ASSERT_TRUE(resume) << resume.error().text();
  const JobPlan plan = make_plan(other).value();
  const DataSplit data = open_data(plan.job.data, plan.job.model.vocab_size).value();
  RunHooks hooks;
  hooks.resume = &resume->saved;
  bool began = false;
  hooks.on_begin = [&]() -> Expected<void> {
    began = true;
    return {};
  };
  JobModel model = job_model(plan, data);
  const auto ran = run_in_process(job_setup(plan, model), run_length(plan), hooks);
  ASSERT_FALSE(ran);
  EXPECT_FALSE(began);  // so nothing of the run's folder was touched
  EXPECT_EQ(ran.error().code, ErrorCode::kInvalidInput);
  EXPECT_THAT(
      ran.error().message,
      AllOf(HasSubstr("parameter/model.layers.6.self_attn.q_proj.weight: is not in the checkpoint"),
            HasSubstr("optimizer.second/model.layers.0.mlp.up_proj.weight: is F32 [48, 32] in the "
                      "checkpoint, needed F32 [40, 32]"),
            HasSubstr("optimizer.first/model.layers.1.mlp.shared_experts.up_proj.weight: is in the "
                      "checkpoint, and the job has none")));
}

TEST_F(Checkpoint, AChangedJobIsRefusedOrNoted) {
  JobConfig job = in("run", mixture_job(1, 1));
  job.run.steps = 2;
  train(job);
  JobConfig other = job;
  other.parallel.schedule = "zbv";
  other.parallel.pipeline = 3;
  const Expected<Resume> noted = resume_from(job.run.folder, other);
  ASSERT_TRUE(noted) << noted.error().text();
  EXPECT_THAT(noted->notes, ::testing::Contains("parallel.pipeline is 3, was 2"));
  other.optimizer.lr *= 2;
  const auto refused = resume_from(job.run.folder, other);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message,
              AllOf(HasSubstr("optimizer.lr is"), Not(HasSubstr("parallel"))));
  other.optimizer.lr = job.optimizer.lr;
  other.run.seed = 5;
  other.origins.by_key["run.seed"] = "--set run.seed=5";
  const auto meant = resume_from(job.run.folder, other);
  ASSERT_TRUE(meant) << meant.error().text();
  EXPECT_THAT(meant->own, ElementsAre("sampler.seed"));
}

TEST_F(Checkpoint, ASnapshotIsInThePlan) {
  JobConfig job = in("run", mixture_job(1, 2));
  const JobPlan plan = make_plan(job).value();
  job.checkpoint.every = 0;
  const JobPlan without = make_plan(job).value();
  const DataSplit data = open_data(plan.job.data, plan.job.model.vocab_size).value();
  JobModel model = job_model(plan, data);
  const auto group = TrainerGroup::as_threads(job_setup(plan, model)).value();
  for (int rank = 0; rank < plan.ranks(); ++rank) {
    StateSnapshot snapshot;
    snapshot.take(group->trainers()[static_cast<std::size_t>(rank)]->state());
    const auto place = static_cast<std::size_t>(plan.grid().pipeline_of(rank));
    const RankMemory& planned = plan.memory[place];
    EXPECT_GT(snapshot.bytes(), 0);
    EXPECT_LE(snapshot.bytes(), planned.snapshot);
    EXPECT_EQ(planned.total(), without.memory[place].total() + planned.snapshot);
  }
}

TEST_F(Checkpoint, ADiskThatTakesNoneEndsNoRun) {
  JobConfig job = in("run", mixture_job(1, 1));
  job.run.steps = 4;
  fs::create_directories(job.run.folder);
  std::ofstream(job.run.folder + "/checkpoints") << "a file is in their place";
  const Trained trained = train(job);
  EXPECT_EQ(trained.steps_done, 4);
  ASSERT_EQ(trained.warnings.size(), 2u);
  EXPECT_THAT(trained.warnings[0], HasSubstr("no checkpoint of step 2"));
}

TEST_F(Checkpoint, OldOnesGo) {
  JobConfig job = in("run", mixture_job(1, 1));
  job.checkpoint.every = 1;
  job.checkpoint.keep_last = 2;
  job.checkpoint.keep_every = 3;
  train(job);
  EXPECT_THAT(checkpoint_steps(job.run.folder), ElementsAre(3, 6, 7, 8));
  // Those behind the newest are another run's.
  EXPECT_THAT(steps_to_remove({10, 20, 30, 40}, 30, {1, 0}), ElementsAre(10, 20));
  EXPECT_THAT(steps_to_remove({10, 20}, 20, {3, 0}), IsEmpty());
}

/// One number a float: 0, 1, 2, …
std::vector<float> counted(int count) {
  std::vector<float> numbers;
  for (int i = 0; i < count; ++i) numbers.push_back(static_cast<float>(i));
  return numbers;
}

StateSlice slice(std::vector<float>& numbers, std::int64_t first, std::int64_t count) {
  StateSlice one;
  one.what = "optimizer.first";
  one.name = "a.weight";
  one.dtype = "F32";
  one.shape = {4, 6};
  one.first = first;
  one.count = count;
  one.bytes = std::as_writable_bytes(std::span(numbers));
  return one;
}

// Parts of a tensor in several files, also overlapping ones, fill any part of it.
TEST_F(Checkpoint, AnySliceIsFilledFromWhateverFilesHoldIt) {
  const std::vector<float> all = counted(24);
  Manifest manifest;
  for (const auto& [first, count] : {std::pair(0, 10), std::pair(16, 8), std::pair(8, 8)}) {
    std::vector<float> part(all.begin() + first, all.begin() + first + count);
    StateSnapshot snapshot;
    snapshot.take({slice(part, first, count)});
    const std::string name = rank_file(manifest.ranks++);
    manifest.files[name] = snapshot.write(folder_ + "/" + name).value();
  }
  const SavedState saved = SavedState::open(folder_, manifest).value();
  for (int first = 0; first < 24; ++first) {
    for (int count = 0; first + count <= 24; ++count) {
      std::vector<float> into(static_cast<std::size_t>(count), -1.0F);
      const StateSlice wanted = slice(into, first, count);
      ASSERT_EQ(saved.mismatch(wanted), "");
      ASSERT_TRUE(saved.fill(wanted));
      EXPECT_EQ(into, std::vector<float>(all.begin() + first, all.begin() + first + count));
    }
  }
  manifest.ranks = 2;  // without the file of 8 to 16
  const SavedState hole = SavedState::open(folder_, manifest).value();
  std::vector<float> into(24);
  EXPECT_EQ(hole.mismatch(slice(into, 0, 24)),
            "optimizer.first/a.weight: number 10 of 24 is in no file of the checkpoint");
  into.resize(6);
  EXPECT_EQ(hole.mismatch(slice(into, 17, 6)), "");
}

TEST_F(Checkpoint, AFileKnowsItsHash) {
  std::ofstream(folder_ + "/abc") << "abc";
  // printf abc | xxhsum -H2
  EXPECT_EQ(seal_of(folder_ + "/abc").value(), (FileSeal{3, "06b05ab6733a618578af5f94892f3950"}));
}

TEST_F(Checkpoint, AManifestReadsBackAndNamesNoOtherFolder) {
  Manifest manifest{7, 1, {{rank_file(0), {3, std::string(32, 'a')}}}};
  std::ofstream(folder_ + "/manifest.json") << print_manifest(manifest);
  EXPECT_EQ(read_manifest(folder_).value(), manifest);
  manifest.files["../text"] = {3, std::string(32, 'a')};
  std::ofstream(folder_ + "/manifest.json") << print_manifest(manifest);
  EXPECT_THAT(read_manifest(folder_).error().text(), HasSubstr("'../text' is no file"));
  manifest.files.erase("../text");
  manifest.ranks = 2;
  std::ofstream(folder_ + "/manifest.json") << print_manifest(manifest);
  EXPECT_THAT(read_manifest(folder_).error().text(), HasSubstr("names no rank-1.safetensors"));
}

}  // namespace
}  // namespace plait
