#include "plait/train/model_stream.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "plait/checkpoint/model_folder.h"
#include "plait/train/job_run.h"
#include "plait/train/trainer_group.h"
#include "tests/support/files.h"
#include "tests/support/jobs.h"

namespace plait {
namespace {

class ModelStream : public testing::JobTest {};

/// What one rank held while the model was written.
struct Held {
  Bytes share = 0;  ///< before
  Bytes peak = 0;
};

TEST_F(ModelStream, NoRankHoldsMoreThanItsShareAndOneTensor) {
  JobConfig job = mixture_job(1, 2);
  job.model.vocab_size = 256;
  const JobPlan plan = make_plan(job).value();
  const DataSplit data = open_data(plan.job.data, plan.job.model.vocab_size).value();
  JobModel model = job_model(plan, data);
  const auto group = TrainerGroup::as_threads(job_setup(plan, model)).value();
  std::vector<Held> held(static_cast<std::size_t>(plan.ranks()));
  const auto ran = group->run([&](RankTrainer& trainer, Exchange& exchange) -> Expected<void> {
    PLAIT_TRY_VOID(trainer.step(0));
    Held& mine = held[static_cast<std::size_t>(exchange.rank())];
    mine.share = trainer.lasting().live() + trainer.received().live();
    trainer.received().reset_peak();
    ModelFolderSink sink(folder_ + "/model", plan.job.model, plan.job.data.sequence_length);
    PLAIT_TRY_VOID(trainer.stream(Saved::kModel, exchange.rank() == 0 ? &sink : nullptr));
    mine.peak = trainer.lasting().live() + trainer.received().peak();
    return {};
  });
  ASSERT_TRUE(ran) << ran.error().text();
  Bytes whole = 0, largest = 0;
  for (const auto& [name, shape] : parameter_shapes(plan.job.model)) {
    Bytes bytes = 4;
    for (const std::int64_t size : shape) bytes *= size;
    whole += bytes;
    largest = std::max(largest, bytes);
  }
  for (std::size_t rank = 0; rank < held.size(); ++rank) {
    // Weights, gradients and two moments: a rank's share of the weights is at most a fourth of it.
    EXPECT_LT(held[rank].share / 4, whole) << rank;
    EXPECT_LE(held[rank].peak, held[rank].share + largest) << rank;
  }
  // Rank 0 did take what others have.
  EXPECT_GT(held[0].peak, held[0].share);
  EXPECT_GT(whole, 2 * largest);
}

TEST_F(ModelStream, TheFileIsThatOfOneWriterWhoHoldsAll) {
  for (const int replicas : {1, 2}) {
    JobConfig job = mixture_job(replicas, 2);
    job.run.steps = 2;
    const JobPlan plan = make_plan(job).value();
    const DataSplit data = open_data(plan.job.data, plan.job.model.vocab_size).value();
    const std::string streamed = folder_ + "/streamed", whole = folder_ + "/whole";
    RunHooks hooks;
    hooks.validates = false;
    hooks.model_sink = [&] {
      return std::make_unique<ModelFolderSink>(streamed, plan.job.model,
                                               plan.job.data.sequence_length);
    };
    JobModel in_threads = job_model(plan, data);
    ASSERT_TRUE(run_in_process(job_setup(plan, in_threads), run_length(plan), hooks));

    JobModel model = job_model(plan, data);
    const auto reference = TrainerGroup::as_reference(job_setup(plan, model)).value();
    ASSERT_TRUE(reference->run([&](RankTrainer& trainer, Exchange&) -> Expected<void> {
      for (int step = 0; step < plan.job.run.steps; ++step) PLAIT_TRY_VOID(trainer.step(0));
      return {};
    }));
    std::map<std::string, at::Tensor> tensors;
    for (const StateSlice& slice : reference->trainers().front()->state()) {
      if (slice.what != "parameter" && slice.what != "buffer") continue;
      at::Tensor tensor = at::empty(slice.shape, at::kFloat);
      std::copy(slice.bytes.begin(), slice.bytes.end(),
                static_cast<std::byte*>(tensor.mutable_data_ptr()));
      tensors.emplace(slice.name, std::move(tensor));
    }
    std::vector<Parameter> all;
    for (auto& [name, tensor] : tensors) all.push_back({name, tensor});
    ASSERT_TRUE(write_model_folder(whole, plan.job.model, plan.job.data.sequence_length, all));
    for (const char* file : {"/model.safetensors", "/config.json"})
      EXPECT_EQ(testing::read_text(streamed + file), testing::read_text(whole + file)) << file;
  }
}

/// Fails at the given write; counts what comes.
class FailingSink final : public TensorSink {
 public:
  Expected<void> begin(const std::vector<TensorInfo>&) override { return {}; }
  Expected<void> write(std::span<const std::byte>) override {
    ++writes;
    return fail(ErrorCode::kIo, "no space left on device", "model.safetensors");
  }
  Expected<void> end() override { return {}; }
  int writes = 0;
};

TEST_F(ModelStream, AFullDiskIsRankZerosErrorAndNobodyWaits) {
  const JobPlan plan = make_plan(mixture_job(1, 1)).value();
  const DataSplit data = open_data(plan.job.data, plan.job.model.vocab_size).value();
  JobModel model = job_model(plan, data);
  const auto group = TrainerGroup::as_threads(job_setup(plan, model)).value();
  FailingSink sink;
  std::vector<std::string> errors(2);
  const auto ran = group->run([&](RankTrainer& trainer, Exchange& exchange) -> Expected<void> {
    const auto streamed = trainer.stream(Saved::kModel, exchange.rank() == 0 ? &sink : nullptr);
    if (!streamed) errors[static_cast<std::size_t>(exchange.rank())] = streamed.error().text();
    return {};
  });
  EXPECT_TRUE(ran);
  EXPECT_EQ(errors[0], "model.safetensors: no space left on device");
  EXPECT_EQ(errors[1], "");
  EXPECT_EQ(sink.writes, 1);
}

/// Counts the pieces between two meetings.
class CountingExchange final : public Exchange, public TensorSink {
 public:
  explicit CountingExchange(Exchange& below) : below_(below) {}
  int rank() const override { return below_.rank(); }
  int ranks() const override { return below_.ranks(); }
  Expected<std::vector<std::string>> all_gather(std::string_view mine) override {
    ++meetings;
    since_ = 0;
    return below_.all_gather(mine);
  }
  Expected<void> hand_to_first(int from, std::span<std::byte> bytes) override {
    if (rank() != 0) count();
    return below_.hand_to_first(from, bytes);
  }
  Expected<void> begin(const std::vector<TensorInfo>&) override { return {}; }
  Expected<void> write(std::span<const std::byte>) override {
    count();
    return {};
  }
  Expected<void> end() override { return {}; }

  int meetings = 0, pieces = 0, most = 0;

 private:
  void count() {
    ++pieces;
    most = std::max(most, ++since_);
  }
  Exchange& below_;
  int since_ = 0;
};

TEST(StreamTensors, RanksMeetAgainAndAgain) {
  InprocWorld world(2);
  std::array<std::unique_ptr<CountingExchange>, 2> exchanges;
  std::vector<std::thread> ranks;
  for (const int rank : {0, 1}) {
    auto& exchange = exchanges[static_cast<std::size_t>(rank)];
    exchange = std::make_unique<CountingExchange>(world.exchange(rank));
    ranks.emplace_back([&exchange, rank] {
      // The second half is rank 1's, which would wait for all of the first.
      MemoryAccount buffers;
      const std::vector<TensorSlice> mine{
          whole_tensor(rank == 0 ? "a" : "b", at::empty({20 * kStreamPiece / 4}, at::kFloat))};
      EXPECT_TRUE(stream_tensors(*exchange, mine, rank == 0 ? exchange.get() : nullptr, buffers));
    });
  }
  for (std::thread& rank : ranks) rank.join();
  EXPECT_EQ(exchanges[0]->pieces, 40);
  EXPECT_EQ(exchanges[1]->pieces, 20);
  EXPECT_EQ(exchanges[0]->most, kPiecesBetweenMeetings);
  for (const auto& exchange : exchanges) EXPECT_EQ(exchange->meetings, 1 + 40 / 16);
}

/// Keeps what comes.
class KeepingSink final : public TensorSink {
 public:
  Expected<void> begin(const std::vector<TensorInfo>& infos) override {
    tensors = infos;
    return {};
  }
  Expected<void> write(std::span<const std::byte> piece) override {
    bytes.insert(bytes.end(), piece.begin(), piece.end());
    return {};
  }
  Expected<void> end() override { return {}; }
  std::vector<TensorInfo> tensors;
  std::vector<std::byte> bytes;
};

// "a" lies on three ranks in a row that is not theirs, "b" on one.
TEST(StreamTensors, PutsSlicesTogether) {
  const at::Tensor a = at::arange(64 * 9, at::kFloat).view({64, 9}), b = at::ones({5}, at::kFloat);
  const auto part = [&](std::int64_t begin, std::int64_t end) {
    return TensorSlice{"a", {64, 9}, begin, a.view({-1}).slice(0, begin, end)};
  };
  const std::vector<std::vector<TensorSlice>> held{
      {part(192, 320)}, {whole_tensor("b", b), part(320, 576)}, {part(0, 192)}};
  InprocWorld world(3);
  KeepingSink sink;
  std::vector<std::thread> ranks;
  for (const int rank : {0, 1, 2}) {
    ranks.emplace_back([&, rank] {
      MemoryAccount buffers;
      EXPECT_TRUE(stream_tensors(world.exchange(rank), held[static_cast<std::size_t>(rank)],
                                 rank == 0 ? &sink : nullptr, buffers));
    });
  }
  for (std::thread& rank : ranks) rank.join();
  ASSERT_EQ(sink.tensors.size(), 2U);
  EXPECT_EQ(sink.tensors[0].name, "a");
  EXPECT_EQ(sink.tensors[0].shape, (std::vector<std::int64_t>{64, 9}));
  EXPECT_EQ(sink.tensors[1].name, "b");
  const at::Tensor both = at::cat({a.view({-1}), b});
  ASSERT_EQ(sink.bytes.size(), both.nbytes());
  EXPECT_EQ(std::memcmp(sink.bytes.data(), both.const_data_ptr(), both.nbytes()), 0);
}

}  // namespace
}  // namespace plait
