#include "plait/sim/simulate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <functional>
#include <map>
#include <tuple>

#include "plait/passes/insert_comm.h"
#include "plait/passes/passes.h"
#include "plait/schedule/generators.h"
#include "plait/sim/cost_file.h"
#include "tests/support/prices.h"

namespace plait {
namespace {

using testing::price;
using testing::proven;

CostModel blocks(CostModel costs) {
  costs.pairs.pricing = PairPricing::kBlock;
  return costs;
}

TEST(Simulate, OneForwardOneBackwardIdlesForAPipeOfForwardsAndBackwards) {
  for (const int ranks : {1, 2, 4, 7}) {
    const VerifiedSchedule schedule = proven("1f1b", ranks, 2 * ranks, 1);
    CostModel costs = unit_cost_model(ranks);
    costs.actions.forward.assign(static_cast<std::size_t>(ranks), 3);
    costs.actions.backward.assign(static_cast<std::size_t>(ranks), 5);
    for (const RankPrediction& rank : price(schedule, costs).ranks)
      EXPECT_EQ(rank.idle_ns, (ranks - 1) * (3 + 5));
  }
}

struct UnitRow {
  const char* name;
  int ranks, microbatches, chunks;
  Nanoseconds makespan;
  std::vector<std::int64_t> live;  // by rank; one entry: the same on all
};

std::ostream& operator<<(std::ostream& out, const UnitRow& row) {
  return out << row.name << "_" << row.ranks << "_" << row.microbatches;
}

class UnitTable : public ::testing::TestWithParam<UnitRow> {};

// torch's visualizer and its liveness analysis give the same numbers.
TEST_P(UnitTable, MakespanAndPeak) {
  const UnitRow& row = GetParam();
  const VerifiedSchedule schedule = proven(row.name, row.ranks, row.microbatches, row.chunks);
  const Prediction prediction = price(schedule, blocks(unit_cost_model(row.ranks * row.chunks)));
  EXPECT_EQ(prediction.makespan_ns, row.makespan);
  for (std::size_t r = 0; r < prediction.ranks.size(); ++r) {
    EXPECT_EQ(prediction.ranks[r].busy_ns, 3 * row.chunks * row.microbatches);
    EXPECT_EQ(prediction.ranks[r].peak_activations.amount, row.live[row.live.size() == 1 ? 0 : r]);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Torch, UnitTable,
    ::testing::Values(UnitRow{"gpipe", 4, 8, 1, 33, {8}}, UnitRow{"looped-bfs", 4, 8, 2, 57, {16}},
                      UnitRow{"interleaved-1f1b", 4, 8, 2, 57, {11, 9, 7, 5}},
                      UnitRow{"interleaved-1f1b", 4, 10, 2, 69, {12, 10, 8, 6}},
                      UnitRow{"interleaved-1f1b", 8, 24, 2, 165, {23, 21, 19, 17, 15, 13, 11, 9}},
                      UnitRow{"interleaved-zero-bubble", 4, 8, 2, 51, {8}},
                      UnitRow{"interleaved-zero-bubble", 4, 10, 2, 63, {9}},
                      UnitRow{"interleaved-zero-bubble", 8, 24, 2, 151, {16}},
                      UnitRow{"zbv", 4, 8, 2, 51, {8}}, UnitRow{"zbv", 4, 10, 2, 63, {8}},
                      UnitRow{"zbv", 8, 20, 2, 127, {16}}, UnitRow{"dualpipe-v", 4, 8, 2, 54, {9}},
                      UnitRow{"dualpipe-v", 4, 10, 2, 66, {9}},
                      UnitRow{"dualpipe-v", 8, 20, 2, 134, {17}}));

TEST(UnitTable, DualPipeVWithPairsInSequence) {
  for (const auto& [ranks, microbatches, makespan] :
       {std::tuple(4, 8, 51), std::tuple(4, 10, 63), std::tuple(8, 20, 127)}) {
    const VerifiedSchedule schedule = proven("dualpipe-v", ranks, microbatches, 2);
    EXPECT_EQ(price(schedule, unit_cost_model(2 * ranks)).makespan_ns, makespan);
  }
}

// DeepSeek's formula: where F = I every rank idles for (P-1)(F&B + B - 3W) if F&B = F + B,
// otherwise the last two do.
TEST(Simulate, DualPipeVAsBlocksIdlesAsItsAuthorsSay) {
  for (int ranks = 2; ranks <= 6; ++ranks) {
    const int stage_count = 2 * ranks;
    const auto stages = static_cast<std::size_t>(stage_count);
    const Nanoseconds f = 10;
    const Nanoseconds w = 8;
    const Nanoseconds b = f + w;
    for (const Nanoseconds pair : {f + b, f + b - 3, f + b - 6}) {
      CostModel costs = blocks(unit_cost_model(2 * ranks));
      costs.actions.forward.assign(stages, f);
      costs.actions.backward_input.assign(stages, f);
      costs.actions.backward_weight.assign(stages, w);
      costs.actions.backward.assign(stages, b);
      costs.pairs.block = pair;
      const Prediction prediction = price(proven("dualpipe-v", ranks, 3 * ranks, 2), costs);
      for (int r = pair == f + b ? 0 : ranks - 2; r < ranks; ++r) {
        EXPECT_EQ(prediction.ranks[static_cast<std::size_t>(r)].idle_ns,
                  (ranks - 1) * (pair + b - 3 * w));
      }
    }
  }
}

// P = 8, F = I = W = 1 of a rank's share: in sequence, as blocks of F + B, and of three quarters.
TEST(Simulate, PairsAsBlocksLengthenFillAndDrainAndPayOnlyWhenTheyOverlap) {
  const auto tenths = [](const char* name, int chunks, int microbatches, PairPricing pricing,
                         double share) {
    CostModel costs = unit_cost_model(8 * chunks, 1000 / chunks);
    costs.pairs.pricing = pricing;
    costs.pairs.share = share;
    const Prediction prediction = price(proven(name, 8, microbatches, chunks), costs);
    return (prediction.makespan_ns + 50) / 100;
  };
  for (const auto& [name, chunks, microbatches, sequence, whole, overlapped] :
       {std::tuple("dualpipe-v", 2, 16, 515, 550, 468),
        std::tuple("dualpipe-v", 2, 32, 995, 1030, 828),
        std::tuple("dualpipe", 1, 16, 510, 540, 465),
        std::tuple("dualpipe", 1, 32, 990, 1020, 825)}) {
    EXPECT_EQ(tenths(name, chunks, microbatches, PairPricing::kSequence, 1), sequence);
    EXPECT_EQ(tenths(name, chunks, microbatches, PairPricing::kBlock, 1), whole);
    EXPECT_EQ(tenths(name, chunks, microbatches, PairPricing::kBlock, 0.75), overlapped);
  }
}

/// Times by repetition until nothing changes: every rank's list again and again, each message from
/// what both ends posted last time. Slow, and nothing in it is the engine's.
class Reference {
 public:
  Reference(const Schedule& schedule, const CostModel& costs)
      : schedule_(schedule),
        costs_(costs),
        last_end_(schedule.ranks.size()),
        busy_(schedule.ranks.size()) {
    do {
      changed_ = false;
      for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) run_rank(rank);
      move_messages();
    } while (changed_);
  }

  Nanoseconds last_end(std::size_t rank) const { return last_end_[rank]; }
  Nanoseconds busy(std::size_t rank) const { return busy_[rank]; }

 private:
  using Value = std::tuple<bool, int, int>;  // of a forward, stage, micro-batch

  void set(std::map<Value, Nanoseconds>& times, const Value& value, Nanoseconds time) {
    Nanoseconds& known = times[value];
    changed_ = changed_ || known != time;
    known = time;
  }
  Nanoseconds cost(const Action& action) const {
    const auto stage = static_cast<std::size_t>(action.stage);
    if (action.type == ActionType::kForward) return costs_.actions.forward[stage];
    if (action.type == ActionType::kBackwardInput) return costs_.actions.backward_input[stage];
    if (action.type == ActionType::kBackwardWeight) return costs_.actions.backward_weight[stage];
    return costs_.actions.backward[stage];
  }
  /// What it recomputes before it.
  Nanoseconds again(const Action& action) const {
    const bool backward =
        action.type == ActionType::kBackwardInput || action.type == ActionType::kBackward;
    if (!backward || costs_.actions.recompute.empty()) return 0;
    return costs_.actions.recompute[static_cast<std::size_t>(action.stage)];
  }
  Nanoseconds input(const Action& action) {
    const bool forward = action.type == ActionType::kForward;
    const int source = action.stage + (forward ? -1 : 1);
    if (action.type == ActionType::kBackwardWeight || source < 0 ||
        source == schedule_.placement.stages())
      return 0;
    const Value value{forward, source, action.microbatch};
    if (schedule_.rank_of(source, action.microbatch) ==
        schedule_.rank_of(action.stage, action.microbatch))
      return made_[value];
    return costs_.network ? arrived_[value] : made_[value] + costs_.actions.hop;
  }
  void end(const Action& action, Nanoseconds time) {
    if (action.type == ActionType::kBackwardWeight) return;
    set(made_, {action.type == ActionType::kForward, action.stage, action.microbatch}, time);
  }

  void run_rank(std::size_t rank) {
    Nanoseconds free = 0;
    Nanoseconds posted = 0;
    busy_[rank] = 0;
    const std::vector<Action>& list = schedule_.ranks[rank];
    for (std::size_t i = 0; i < list.size(); ++i) {
      const Action& action = list[i];
      if (is_communication(action.type)) {
        post(action, posted);
      } else if (is_compute(action.type)) {
        free = std::max(free + again(action), input(action)) + cost(action);
        busy_[rank] += again(action) + cost(action);
        end(action, free);
      } else if (action.type == ActionType::kOverlapFB &&
                 costs_.pairs.pricing == PairPricing::kBlock) {
        const Nanoseconds begin = std::max({free, input(list[i + 1]), input(list[i + 2])});
        const Nanoseconds block = costs_.pairs.block.value_or(
            cost(list[i + 1]) + again(list[i + 1]) + cost(list[i + 2]) + again(list[i + 2]));
        free = begin + block;
        busy_[rank] += block;
        end(list[i + 1], free);
        end(list[i + 2], free);
        i += 2;
      }
    }
    last_end_[rank] = free;
  }
  void post(const Action& action, Nanoseconds& posted) {
    const bool forward = action.type == ActionType::kSendF || action.type == ActionType::kRecvF;
    if (is_send(action.type)) {
      const Value value{forward, action.stage, action.microbatch};
      posted = std::max(posted, made_[value]);
      set(sent_, value, posted);
    } else {
      set(awaited_, {forward, action.stage + (forward ? -1 : 1), action.microbatch}, posted);
    }
  }
  void move_messages() {
    std::map<std::pair<int, int>, Nanoseconds> link_free;
    if (!costs_.network) return;
    for (const std::vector<Action>& list : schedule_.ranks) {
      for (const Action& action : list) {
        if (!is_send(action.type)) continue;
        const bool forward = action.type == ActionType::kSendF;
        const Value value{forward, action.stage, action.microbatch};
        const int from = schedule_.rank_of(action.stage, action.microbatch);
        const int to = schedule_.rank_of(action.stage + (forward ? 1 : -1), action.microbatch);
        Nanoseconds& free = link_free[{from, to}];
        free = std::max({free, sent_[value], awaited_[value]}) + costs_.network->transfer(from, to);
        set(arrived_, value, free);
      }
    }
  }

  const Schedule& schedule_;
  const CostModel& costs_;
  bool changed_ = false;
  std::vector<Nanoseconds> last_end_;
  std::vector<Nanoseconds> busy_;
  std::map<Value, Nanoseconds> made_;
  std::map<Value, Nanoseconds> sent_;
  std::map<Value, Nanoseconds> awaited_;
  std::map<Value, Nanoseconds> arrived_;
};

std::vector<Nanoseconds> random_costs(int stages) {
  return *rc::gen::container<std::vector<Nanoseconds>>(static_cast<std::size_t>(stages),
                                                       rc::gen::inRange<Nanoseconds>(0, 30));
}

/// Costs, hop or network, recomputation or none, and pairs in sequence or as blocks.
CostModel random_cost_model(int stages, int ranks, bool network) {
  CostModel costs;
  costs.actions.forward = random_costs(stages);
  costs.actions.backward_input = random_costs(stages);
  costs.actions.backward_weight = random_costs(stages);
  costs.actions.backward = random_costs(stages);
  costs.actions.hop = *rc::gen::inRange<Nanoseconds>(0, 20);
  if (*rc::gen::arbitrary<bool>()) costs.actions.recompute = random_costs(stages);
  if (network) {
    Network links;
    links.link = {*rc::gen::inRange<Nanoseconds>(0, 9),
                  *rc::gen::inRange<std::int64_t>(100'000'000, 1'000'000'000)};
    links.message_bytes = *rc::gen::inRange<Bytes>(0, 9);
    links.between.push_back({0, ranks - 1, {17, 0}});
    costs.network = links;
  }
  if (*rc::gen::arbitrary<bool>()) {
    costs = blocks(std::move(costs));
    if (*rc::gen::arbitrary<bool>()) costs.pairs.block = *rc::gen::inRange<Nanoseconds>(0, 60);
  }
  return costs;
}

/// A small shape that the generator has.
Schedule random_schedule(const GeneratorInfo& info) {
  const int ranks = *rc::gen::element(2, 4);
  const int microbatches = ranks * *rc::gen::inRange(3, 5);
  Expected<Schedule> schedule =
      info.generate({.ranks = ranks, .microbatches = microbatches, .chunks = info.default_chunks});
  RC_ASSERT(schedule.has_value());
  return *std::move(schedule);
}

class EverySchedule : public ::testing::TestWithParam<GeneratorInfo> {
 protected:
  static void holds(const std::string& law, const std::function<void()>& property) {
    EXPECT_TRUE(rc::check(law, property)) << law;
  }
};

TEST_P(EverySchedule, IsTimedAsTheSlowReferenceTimesIt) {
  holds("engine and reference agree", [] {
    const Schedule schedule = random_schedule(GetParam());
    const bool network = *rc::gen::arbitrary<bool>();
    const VerifiedSchedule checked = proven(network ? *insert_comm(schedule) : schedule);
    const CostModel costs =
        random_cost_model(schedule.placement.stages(), schedule.placement.ranks, network);
    const Prediction prediction = price(checked, costs);
    const Reference reference(checked.schedule(), costs);
    for (std::size_t r = 0; r < prediction.ranks.size(); ++r) {
      RC_ASSERT(prediction.ranks[r].last_end == reference.last_end(r));
      RC_ASSERT(prediction.ranks[r].busy_ns == reference.busy(r));
    }
  });
}

TEST_P(EverySchedule, CostsTheSameWithItsCommunicationWhereLinksHaveNoPrice) {
  holds("compute-only and lowered agree", [] {
    const Schedule schedule = random_schedule(GetParam());
    const CostModel costs =
        random_cost_model(schedule.placement.stages(), schedule.placement.ranks, false);
    const Prediction alone = price(proven(schedule), costs);
    const Prediction lowered = price(proven(*insert_comm(schedule)), costs);
    RC_ASSERT(alone.makespan_ns == lowered.makespan_ns);
    for (std::size_t r = 0; r < alone.ranks.size(); ++r) {
      RC_ASSERT(alone.ranks[r].idle_ns == lowered.ranks[r].idle_ns);
      RC_ASSERT(alone.ranks[r].exposed_comm_ns == lowered.ranks[r].exposed_comm_ns);
    }
  });
}

/// Two lanes with costs of chance: the compute lane waits for the exchange of the other member.
Braid random_braid() {
  const auto cost = [] { return *rc::gen::inRange<Nanoseconds>(0, 20); };
  return {{{"attention of F", Lane::kCompute, SegmentOf::kForward, cost(), {}},
           {"dispatch of F", Lane::kCommunication, SegmentOf::kForward, cost(), {0}},
           {"experts of I", Lane::kCompute, SegmentOf::kBackwardInput, cost(), {}},
           {"experts of F", Lane::kCompute, SegmentOf::kForward, cost(), {1}},
           {"dispatch of I", Lane::kCommunication, SegmentOf::kBackwardInput, cost(), {2}},
           {"experts of W", Lane::kCompute, SegmentOf::kBackwardWeight, cost(), {2}},
           {"attention again", Lane::kCompute, SegmentOf::kRecompute, cost(), {}},
           {"attention of I", Lane::kCompute, SegmentOf::kBackwardInput, cost(), {4, 6}}}};
}

TEST_P(EverySchedule, BraidsMeasureAsPredicted) {
  holds("measure() agrees on braids", [] {
    const Schedule schedule = random_schedule(GetParam());
    CostModel costs =
        random_cost_model(schedule.placement.stages(), schedule.placement.ranks, false);
    costs.pairs = {};
    costs.pairs.pricing = PairPricing::kBraid;
    costs.pairs.braid = *PreparedBraid::make(random_braid());
    const auto prediction = simulate(proven(schedule), costs, {.keep_timeline = true});
    RC_ASSERT(prediction.has_value());
    const StepMetrics metrics = measure(*prediction->timeline);
    RC_ASSERT(metrics.span_ns == prediction->makespan_ns);
    for (std::size_t r = 0; r < metrics.ranks.size(); ++r) {
      RC_ASSERT(metrics.ranks[r].busy_ns == prediction->ranks[r].busy_ns);
      RC_ASSERT(prediction->ranks[r].steady_ns >= 0);
    }
  });
}

TEST_P(EverySchedule, TimelineMeasuresAsPredicted) {
  holds("measure() of the timeline gives the prediction", [] {
    const bool network = *rc::gen::arbitrary<bool>();
    Schedule schedule = random_schedule(GetParam());
    if (network || *rc::gen::arbitrary<bool>()) schedule = *insert_comm(schedule);
    const CostModel costs =
        random_cost_model(schedule.placement.stages(), schedule.placement.ranks, network);
    const auto prediction = simulate(proven(std::move(schedule)), costs,
                                     {.keep_timeline = true, .critical_path = true});
    RC_ASSERT(prediction.has_value());
    const StepMetrics metrics = measure(*prediction->timeline);
    RC_ASSERT(metrics.span_ns == prediction->makespan_ns);
    for (std::size_t r = 0; r < metrics.ranks.size(); ++r) {
      const RankPrediction& rank = prediction->ranks[r];
      RC_ASSERT(metrics.ranks[r].busy_ns == rank.busy_ns);
      RC_ASSERT(metrics.ranks[r].bubble_ns == rank.idle_ns);
      RC_ASSERT(rank.fill_ns + rank.steady_ns + rank.drain_ns == rank.idle_ns);
      if (costs.pairs.pricing == PairPricing::kSequence)
        RC_ASSERT(metrics.ranks[r].exposed_comm_ns == rank.exposed_comm_ns);
    }
    Nanoseconds time = 0;
    for (const CriticalStep& step : prediction->critical_path) {
      RC_ASSERT(step.begin == time + step.wait);
      time = step.end;
    }
    RC_ASSERT(time == prediction->makespan_ns);
  });
}

INSTANTIATE_TEST_SUITE_P(Generators, EverySchedule, ::testing::ValuesIn(kGenerators),
                         [](const auto& generator) {
                           std::string name(generator.param.name);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return "_" + name;
                         });

TEST(Simulate, RefusesCostsThatDoNotFit) {
  const VerifiedSchedule schedule = proven("1f1b", 4, 8, 1);
  const auto message = [&](const CostModel& costs) {
    const auto prediction = simulate(schedule, costs);
    return prediction ? "" : prediction.error().text();
  };
  EXPECT_THAT(message(unit_cost_model(3)), ::testing::HasSubstr("3 entries, needed one for each"));
  CostModel costs = unit_cost_model(4);
  costs.actions.forward[2] = -1;
  EXPECT_THAT(message(costs), ::testing::HasSubstr("f is -1, needed 0 or more"));
  costs = unit_cost_model(4, 1'000'000'000'000'000'000);
  EXPECT_THAT(message(costs), ::testing::HasSubstr("may add up to"));
  costs = unit_cost_model(4);
  costs.network = Network{};
  EXPECT_THAT(message(costs), ::testing::HasSubstr("no sends and receives"));
  costs = unit_cost_model(4);
  costs.pairs.pricing = PairPricing::kBraid;
  EXPECT_THAT(message(costs), ::testing::HasSubstr("need their segments"));
}

}  // namespace
}  // namespace plait
