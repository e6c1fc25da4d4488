#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tanh.h>
#include <gmock/gmock.h>

#include <future>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "plait/passes/insert_comm.h"
#include "plait/runtime/driver.h"
#include "plait/runtime/inproc_comm.h"
#include "plait/schedule/generators.h"
#include "plait/torch/c10d_world.h"
#include "plait/torch/rendezvous.h"
#include "plait/torch/tensors.h"
#include "plait/torch/torch_stage.h"
#include "tests/support/segments.h"

namespace plait {
namespace {

using ::testing::HasSubstr;
using List = std::vector<at::Tensor>;

/// The ends of all ranks, over Gloo on 127.0.0.1; each rank is a thread here.
class GlooRanks {
 public:
  GlooRanks(const Grid& grid, const MessageTags& tags, double timeout_s = 60) {
    Expected<StoreServer> server = StoreServer::start(0);
    EXPECT_TRUE(server);
    server_.emplace(std::move(*server));
    worlds_.resize(static_cast<std::size_t>(grid.ranks()));
    std::vector<std::thread> threads;
    for (int rank = 0; rank < grid.ranks(); ++rank) {
      threads.emplace_back([&, rank] {
        C10dOptions options;
        options.rank = rank;
        options.ranks = grid.ranks();
        options.grid = grid;
        options.address = "127.0.0.1";
        options.port = server_->port();
        options.tags = tags;
        options.timeout_s = timeout_s;
        auto world = C10dWorld::connect(options);
        ASSERT_TRUE(world) << world.error().text();
        worlds_[static_cast<std::size_t>(rank)] = std::move(*world);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  Exchange& exchange(int rank) { return worlds_[static_cast<std::size_t>(rank)]->exchange(); }
  Comm& comm(int rank) { return worlds_[static_cast<std::size_t>(rank)]->comm(); }
  void end_start() {
    for (auto& world : worlds_) world->end_start();
  }
  void abort(const Error& error) {
    for (auto& world : worlds_) world->abort(error);
  }

 private:
  std::optional<StoreServer> server_;
  std::vector<std::unique_ptr<C10dWorld>> worlds_;
};

constexpr int kMicrobatches = 4, kStages = 4;

/// Stage s hands on three tensors, of float32, int64 and bfloat16, or the first two of them.
struct Model {
  explicit Model(int tensors) : losses(std::make_shared<LossSink>()) {
    losses->reset(kMicrobatches);
    for (int stage = 0; stage < kStages; ++stage) {
      parameters.push_back(numbers({3, 2}, static_cast<unsigned>(stage)));
      const auto function = [stage, tensors](const List& in, const List& w, int mb) -> List {
        List x = in;
        if (stage == 0) {
          x = {at::full({3, 2}, 0.25 * (mb + 1), at::kFloat), at::full({3, 1}, mb, at::kLong),
               at::full({2}, 0.5 + mb, at::kBFloat16)};
          x.resize(static_cast<std::size_t>(tensors));
        }
        List y = {at::tanh(x[0] * w[0]) + x[1].to(at::kFloat), x[1] + 1};
        if (tensors == 3) {
          y[0] = y[0] * x[2].to(at::kFloat);
          y.push_back(x[2] * w[0].sum().to(at::kBFloat16));
        }
        if (stage < kStages - 1) return y;
        return {y[0].sum() + (tensors == 3 ? y[2].to(at::kFloat).sum() : y[1].sum())};
      };
      std::vector<std::shared_ptr<Segment>> segments{std::make_shared<FunctionSegment>(
          std::to_string(stage) + ".block", List{parameters.back()}, function)};
      stages.push_back(std::make_unique<TorchStage>(std::move(segments),
                                                    stage == kStages - 1 ? losses : nullptr));
    }
  }
  List results() const {
    List all;
    for (const at::Tensor& parameter : parameters) all.push_back(parameter.grad());
    return all;
  }
  std::shared_ptr<LossSink> losses;
  List parameters;
  std::vector<std::unique_ptr<TorchStage>> stages;
};

Boundaries boundaries_of(int tensors) {
  ValueSpec value{{{3, 2}, Dtype::kFloat32}, {{3, 1}, Dtype::kInt64}, {{2}, Dtype::kBFloat16}};
  value.resize(static_cast<std::size_t>(tensors));
  return Boundaries(kStages - 1, Boundary(value));
}

template <typename World>
Expected<void> run(Model& model, const char* name, const Boundaries& boundaries, World& world) {
  const VerifiedSchedule schedule = *verify(*insert_comm(*generate(name, {2, kMicrobatches, 2})));
  LowerOptions options;
  options.boundaries = boundaries;
  std::vector<RankProgram> programs;
  std::vector<Stage*> pointers;
  for (const auto& stage : model.stages) pointers.push_back(stage.get());
  std::vector<std::unique_ptr<Executor>> executors;
  for (const int rank : {0, 1}) programs.push_back(*lower(schedule, rank, options));
  for (const int rank : {0, 1}) {
    executors.push_back(std::make_unique<Executor>(programs[static_cast<std::size_t>(rank)],
                                                   pointers, world.comm(rank)));
  }
  return run_ranks(
      2,
      [&](int rank) {
        return run_step(*executors[static_cast<std::size_t>(rank)], Wait::kSleep,
                        Chaining::kOwnThread);
      },
      [&](const Error& error) { world.abort(error); });
}

TEST(GlooComm, BoundariesOfSeveralTensorsGiveTheBitsOfRanksInOneProcess) {
  for (const int tensors : {2, 3}) {
    for (const char* name : {"dualpipe-v", "interleaved-1f1b"}) {
      Model threads(tensors), processes(tensors);
      InprocWorld inproc(2);
      const Expected<void> one = run(threads, name, boundaries_of(tensors), inproc);
      ASSERT_TRUE(one) << one.error().text();
      GlooRanks gloo({2, 1, 1}, {kStages, kMicrobatches, tensors});
      const Expected<void> other = run(processes, name, boundaries_of(tensors), gloo);
      ASSERT_TRUE(other) << other.error().text();
      EXPECT_EQ(threads.losses->losses(), processes.losses->losses());
      for (std::size_t i = 0; i < threads.parameters.size(); ++i)
        EXPECT_TRUE(same_bits(threads.results()[i], processes.results()[i])) << name << " " << i;
    }
  }
}

TEST(Comm, AValueThatIsNotAsItsBoundaryDeclaresIsNamed) {
  const auto error_of = [](const Boundaries& boundaries, auto& world) {
    Model model(3);
    const Expected<void> ran = run(model, "interleaved-1f1b", boundaries, world);
    return ran ? std::string() : ran.error().text();
  };
  const auto all = [&](const std::string& error, const char* found_and_needed) {
    EXPECT_THAT(error, HasSubstr(found_and_needed));
    EXPECT_THAT(error, HasSubstr("rank 0 in 0SEND_F0 to rank 1, output of stage 0, micro-batch 0"));
  };
  Boundaries dtype = boundaries_of(3), sizes = boundaries_of(3), fewer = boundaries_of(2);
  dtype[0] =
      Boundary({{{3, 2}, Dtype::kFloat32}, {{3, 1}, Dtype::kInt32}, {{2}, Dtype::kBFloat16}});
  sizes[0] =
      Boundary({{{3, 2}, Dtype::kFloat32}, {{3, 1}, Dtype::kInt64}, {{4}, Dtype::kBFloat16}});
  const char* wrong_dtype =
      "tensor 1 of 3 is int64 [3, 1], the boundary between stages 0 and 1 needs int32 [3, 1]";
  const char* wrong_sizes =
      "tensor 2 of 3 is bfloat16 [2], the boundary between stages 0 and 1 needs bfloat16 [4]";
  const char* one_more =
      "tensor 2 of 3 is bfloat16 [2], the boundary between stages 0 and 1 needs no tensor";
  {
    InprocWorld one(2), two(2), three(2);
    all(error_of(dtype, one), wrong_dtype);
    all(error_of(sizes, two), wrong_sizes);
    all(error_of(fewer, three), one_more);
  }
  GlooRanks gloo({2, 1, 1}, {kStages, kMicrobatches, 3});
  all(error_of(dtype, gloo), wrong_dtype);
}

/// Gives its result when the comm is done with it: behind settled(), which follows no error.
class OneResult final : public CompletionSink {
 public:
  void completed(std::uint32_t, Expected<Value> result) noexcept override {
    result_ = std::move(result);
    if (!result_) done_.set_value();
  }
  void settled() noexcept override { done_.set_value(); }
  Expected<Value> get() {
    done_.get_future().wait();
    return std::move(result_);
  }

 private:
  Expected<Value> result_;
  std::promise<void> done_;
};

TEST(GlooComm, AMessageWhoseBoundaryDeclaresNothingIsRefused) {
  GlooRanks gloo({2, 1, 1}, {});
  OneResult result;
  gloo.comm(0).recv({1, 0, Direction::kBackward, 1, 0}, {}, 0, result);
  const Expected<Value> got = result.get();
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().message,
            "the boundary between stages 0 and 1 declares no tensors, needed by a message between "
            "processes");
}

/// What each of three members gets from a collective of that kind.
template <typename World, typename Make>
std::vector<at::Tensor> results_of(World& world, CollectiveKind kind, const Make& make) {
  Collective which;
  which.kind = kind;
  which.group = Group::kReplicas;
  std::vector<OneResult> results(3);
  for (int rank = 0; rank < 3; ++rank)
    world.comm(rank).collective(which, make(rank), 0, results[static_cast<std::size_t>(rank)]);
  std::vector<at::Tensor> all;
  for (OneResult& result : results) {
    const Expected<Value> got = result.get();
    EXPECT_TRUE(got);
    List rows;
    for (const at::Tensor& piece : static_cast<const Tensors&>(**got).tensors) {
      for (const at::Tensor& row : piece.reshape({-1, 5}).unbind()) rows.push_back(row);
    }
    EXPECT_EQ(rows.size(), 3U);
    // As a reader adds up: in ascending order of members.
    all.push_back(rows[0] + rows[1] + rows[2]);
    all.insert(all.end(), rows.begin(), rows.end());
  }
  return all;
}

TEST(GlooComm, CollectivesBringWhatTheyBringInOneProcess) {
  const auto rows_of = [](int rank) -> std::unique_ptr<ExchangeValue> {
    return std::make_unique<RowExchange>(numbers({3, 5}, static_cast<unsigned>(rank)),
                                         RowSplits{{1, 1, 1}, {1, 1, 1}}, rank);
  };
  const auto slice_of = [](int rank) -> std::unique_ptr<ExchangeValue> {
    return std::make_unique<SliceGather>(numbers({5}, static_cast<unsigned>(rank)), 3);
  };
  const Grid grid{1, 3, 1};
  InprocWorld inproc(grid);
  GlooRanks gloo(grid, {});
  const auto compare = [&](CollectiveKind kind, const auto& make) {
    List one = results_of(inproc, kind, make);
    const List other = results_of(gloo, kind, make);
    for (std::size_t i = 0; i < one.size(); ++i)
      EXPECT_TRUE(same_bits(one[i], other[i])) << static_cast<int>(kind) << " " << i;
    return one;
  };
  compare(CollectiveKind::kAllToAll, rows_of);
  const List scattered = compare(CollectiveKind::kReduceScatter, rows_of);
  EXPECT_TRUE(same_bits(scattered[5], numbers({3, 5}, 0)[1]));  // rank 1: what rank 0 adds to it
  for (int round = 0; round < 3; ++round) {
    const List gathered = compare(CollectiveKind::kAllGather, slice_of);
    for (std::size_t rank = 0; rank < 3; ++rank)
      EXPECT_TRUE(same_bits(gathered[4 * rank + 3], numbers({5}, 2)));
  }
}

// Copying from no text at all was undefined: the sanitizer build sees it.
TEST(GlooExchange, GathersNoTextBesideATextOfAnotherRank) {
  GlooRanks gloo(Grid{1, 2, 1}, {});
  auto other = std::async(std::launch::async, [&] { return gloo.exchange(1).all_gather("text"); });
  const auto gathered = gloo.exchange(0).all_gather({});
  ASSERT_TRUE(gathered) << gathered.error().text();
  EXPECT_EQ(*gathered, (std::vector<std::string>{"", "text"}));
  EXPECT_EQ(*other.get(), *gathered);
}

TEST(MessageTags, AreDistinctBeyond1024StagesAndAMillionMicrobatches) {
  const MessageTags tags{1100, 100'000, 2};
  ASSERT_TRUE(tags.check());
  std::set<int> seen;
  for (const Direction direction : {Direction::kForward, Direction::kBackward}) {
    for (const int stage : {0, 1, 1023, 1024, 1099}) {
      for (const int mb : {0, 1, 99'999}) {
        for (const std::size_t tensor : {0U, 1U})
          EXPECT_TRUE(seen.insert(tags.of({0, 1, direction, stage, mb}, tensor)).second);
      }
    }
  }
  EXPECT_GE(*seen.begin(), 0);
  const MessageTags many{8, (1 << 20) + 2, 1};
  ASSERT_TRUE(many.check());
  EXPECT_NE(many.of({0, 1, Direction::kForward, 0, 1 << 20}, 0),
            many.of({0, 1, Direction::kForward, 1, 0}, 0));
  EXPECT_EQ((MessageTags{2048, 1 << 20, 1}).check().error().message,
            "2048 stages, 1048576 micro-batches and 1 tensors a boundary need 4294967296 tags of "
            "messages, Gloo has 2147483647");
}

TEST(C10dWorld, AHandOverWaitsForTheJobsTimeoutAndNoLonger) {
  GlooRanks ranks({2, 1, 1}, {2, 1, 1}, 0.2);
  ranks.end_start();
  std::vector<std::byte> sent(8, std::byte{7}), came(8);
  std::thread first([&] { EXPECT_TRUE(ranks.exchange(0).hand_to_first(1, came)); });
  EXPECT_TRUE(ranks.exchange(1).hand_to_first(1, sent));
  first.join();
  EXPECT_EQ(came, sent);
  // Nobody sends: were it an hour, the test would take one.
  const Expected<void> alone = ranks.exchange(0).hand_to_first(1, came);
  ASSERT_FALSE(alone);
  EXPECT_EQ(alone.error().code, ErrorCode::kTimeout);
}

}  // namespace
}  // namespace plait
