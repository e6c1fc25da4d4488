/// The proof against the runtime, on mutated schedules. PLAIT_MUTANTS=100000 runs more of them and
/// prints what each rule catches (scripts/nightly).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "plait/ir/dialect.h"
#include "plait/ir/direction.h"
#include "plait/ir/forms/csv.h"
#include "plait/passes/insert_comm.h"
#include "plait/passes/lowering.h"
#include "plait/passes/passes.h"
#include "plait/schedule/generators.h"
#include "plait/verify/rules.h"
#include "plait/verify/verify.h"
#include "tests/oracle/oracle.h"

namespace plait {
namespace {

using ::plait::testing::Oracle;
using ::plait::testing::OracleResult;
using ::plait::testing::Outcome;
using verify_detail::kRules;
using verify_detail::RuleEffect;
using verify_detail::RuleInfo;

using Random = std::mt19937;
using List = std::vector<Action>;

std::size_t pick(Random& random, std::size_t size) { return random() % size; }

/// The first action of a list's block at or after a place, the place itself outside pairs.
std::size_t block_end(const List& list, std::size_t at) {
  return std::min(list.size(), at + 1 + list[at].members);
}

/// A generator's schedule with what passes add: parameter actions to half of them, messages to
/// most, and of those some with receives as torch's defer_pp_recv puts them, which may hang.
Schedule any_schedule(Random& random) {
  while (true) {
    const GeneratorInfo& info = kGenerators[pick(random, kGenerators.size())];
    const int ranks = 2 + static_cast<int>(pick(random, 3));
    const int microbatches = 1 + static_cast<int>(pick(random, 9));
    Expected<Schedule> generated = generate(info.name, {ranks, microbatches});
    if (!generated) continue;
    std::vector<std::string> passes;
    const bool waits = pick(random, 2) == 0;
    if (pick(random, 2) == 0) {
      passes.push_back("insert-unshard=" + std::to_string(1 + pick(random, 3)));
      passes.emplace_back("insert-reduce-grad");
      if (waits) passes.push_back("insert-reduce-wait=" + std::to_string(pick(random, 2)));
    }
    if (pick(random, 5) > 0) {
      passes.emplace_back("insert-comm");
      if (waits) passes.emplace_back("insert-send-wait");
      if (pick(random, 10) == 0) passes.emplace_back("defer-recv");
    }
    Schedule schedule = *std::move(generated);
    for (const std::string& pass : passes) schedule = run_passes(pass, std::move(schedule)).value();
    if (!waits || pick(random, 2) == 0 || !is_lowered(schedule)) return schedule;
    const Expected<Schedule> limited =
        run_passes("limit-sends=" + std::to_string(1 + pick(random, 3)), schedule);
    return limited ? *limited : schedule;  // deferred receives may need more
  }
}

/// One mutation; those that move are the most, they are what the rules of order are for.
void mutate(Schedule& schedule, Random& random) {
  List& list = schedule.ranks[pick(random, schedule.ranks.size())];
  if (list.size() < 2) return;
  const std::size_t at = pick(random, list.size());
  const auto place = [](List& in, std::size_t index) {
    return in.begin() + static_cast<std::ptrdiff_t>(index);
  };
  const auto in_pair = [&](std::size_t index) {
    return list[index].members > 0 || (index > 0 && list[index - 1].members > 0) ||
           (index > 1 && list[index - 2].members > 1);
  };
  switch (pick(random, 18)) {
    case 0:
      if (!in_pair(at)) list.erase(place(list, at));
      break;
    case 1:
      if (!in_pair(at)) list.insert(place(list, pick(random, list.size())), Action(list[at]));
      break;
    case 2:
      std::swap(list[at], list[pick(random, list.size())]);
      break;
    case 3:
      list[at].microbatch += pick(random, 2) == 0 ? 1 : -1;
      break;
    case 4:
      list[at].stage += pick(random, 2) == 0 ? 1 : -1;
      break;
    case 9:
    case 11: {  // the order of reductions: the first behind the last
      const auto reduces = [](const Action& action) {
        return action.type == ActionType::kReduceGrad;
      };
      const auto first = std::find_if(list.begin(), list.end(), reduces);
      if (first != list.end())
        std::rotate(first, first + 1, std::find_if(list.rbegin(), list.rend(), reduces).base());
      break;
    }
    case 10: {  // a wait right behind its send
      const auto waits = [](const Action& action) { return is_send_wait(action.type); };
      const auto wait = std::find_if(place(list, at), list.end(), waits);
      if (wait == list.end()) break;
      const auto send = std::find(list.begin(), wait, awaited_send(*wait));
      if (send != wait) std::rotate(send + 1, wait, wait + 1);
      break;
    }
    case 5:
      if (!in_pair(at)) list[at].type = static_cast<ActionType>(1 + pick(random, 4));
      break;
    case 6:  // into a pair
      if (at + 1 < list.size() && !in_pair(at) && !in_pair(at + 1))
        list.insert(place(list, at), Action{-1, -1, ActionType::kOverlapFB, 2});
      break;
    case 7:  // out of one
      if (list[at].members > 0) list.erase(place(list, at));
      break;
    case 8: {
      if (in_pair(at)) break;
      List& other = schedule.ranks[pick(random, schedule.ranks.size())];
      const Action moved = list[at];
      list.erase(place(list, at));
      other.insert(place(other, pick(random, other.size() + 1)), moved);
      break;
    }
    default: {
      if (in_pair(at)) break;
      const Action moved = list[at];
      list.erase(place(list, at));
      const std::size_t near = std::min(list.size(), at + pick(random, 6));
      list.insert(place(list, pick(random, 4) == 0 ? pick(random, list.size() + 1)
                                                   : near - std::min<std::size_t>(near, 2)),
                  moved);
    }
  }
}

testing::Matching world_matching(Matching matching) {
  switch (matching) {
    case Matching::kEdge:
      return testing::Matching::kEdge;
    case Matching::kPair:
      return testing::Matching::kPair;
    case Matching::kRank:
      return testing::Matching::kRank;
  }
  return testing::Matching::kKey;
}

/// A compute-only list with each value sent where it is made and received where it is read, for
/// messages that are free: buffered and found by name. With waits for its sends if it has waits.
Schedule with_free_messages(const Schedule& schedule) {
  Schedule result = schedule;
  const int stages = schedule.placement.stages();
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    const List& list = schedule.ranks[rank];
    result.ranks[rank].clear();
    List waits;
    for (std::size_t begin = 0; begin < list.size(); begin = block_end(list, begin)) {
      const std::size_t end = block_end(list, begin);
      for (const bool before : {true, false}) {
        for (std::size_t i = begin; i < end; ++i) {
          if (!passes_value(list[i].type)) continue;
          const Direction direction = direction_of(list[i].type);
          const int other = before ? stage_before(direction, list[i].stage)
                                   : stage_after(direction, list[i].stage);
          if (other < 0 || other >= stages) continue;
          const int mb = list[i].microbatch;
          if (schedule.rank_of(other, mb) == schedule.rank_of(list[i].stage, mb)) continue;
          const ActionType type = before ? recv_type(direction) : send_type(direction);
          result.ranks[rank].push_back({list[i].stage, mb, type, 0});
          if (!before && has_waits(schedule))
            waits.push_back(wait_for_send({list[i].stage, mb, type, 0}));
        }
        if (before)
          result.ranks[rank].insert(result.ranks[rank].end(),
                                    list.begin() + static_cast<std::ptrdiff_t>(begin),
                                    list.begin() + static_cast<std::ptrdiff_t>(end));
      }
    }
    result.ranks[rank].insert(result.ranks[rank].end(), waits.begin(), waits.end());
  }
  return result;
}

/// Runs a schedule on the runtime; a compute-only one with free messages.
OracleResult run(const Schedule& schedule, bool lowered, Matching matching, Random& random) {
  if (lowered)
    return Oracle(schedule).run({world_matching(matching), false, -1},
                                static_cast<unsigned>(random()));
  const Schedule with_messages = with_free_messages(schedule);
  return Oracle(with_messages)
      .run({testing::Matching::kKey, true, -1}, static_cast<unsigned>(random()));
}

bool within(const OracleResult& result, const VerifyOptions& options) {
  if (options.max_active_stages && result.most_whole > *options.max_active_stages) return false;
  for (std::size_t rank = 0; rank < result.peaks.size() && !options.max_activations.empty(); ++rank)
    if (result.peaks[rank] > options.max_activations[rank]) return false;
  return !options.ascending || result.ascending;
}

struct Tally {
  std::map<std::string, int> caught;
  std::map<std::string, int> alone;
  int accepted = 0;
  int rejected = 0;
  int not_run = 0;
};

void check_accepted(const Schedule& mutant, const VerifyOptions& options, bool lowered,
                    Random& random) {
  for (const MatchingInfo& info : kMatchings) {
    const OracleResult result = run(mutant, lowered, info.matching, random);
    EXPECT_TRUE(result.good()) << "accepted, " << info.phrase << "\n" << print_csv(mutant);
    EXPECT_TRUE(within(result, options)) << "accepted\n" << print_csv(mutant);
  }
  if (lowered) return;
  // Whose ranks do not wait in a circle with free messages, insert-comm finds an order of messages
  // that ends under every matching (docs/verify.md).
  const Expected<Schedule> with_messages = insert_messages(mutant);
  ASSERT_TRUE(with_messages) << with_messages.error().text() << "\n" << print_csv(mutant);
  EXPECT_TRUE(verify(*with_messages, options)) << print_csv(mutant);
}

void check_rejected(const Schedule& mutant, const VerifyOptions& options,
                    const Diagnostics& findings, bool lowered, Random& random) {
  const Matching matching = findings.back().matching.value_or(Matching::kEdge);
  const OracleResult result = run(mutant, lowered, matching, random);
  EXPECT_FALSE(result.good() && within(result, options)) << findings.front().text() << "\n"
                                                         << print_csv(mutant);
  if (findings.back().rule != "deadlock") return;
  EXPECT_EQ(result.outcome, Outcome::kDeadlock) << print_csv(mutant);
  for (const MatchingInfo& info : kMatchings) {  // it is the finest that stands still
    if (info.matching >= matching) break;
    EXPECT_NE(run(mutant, lowered, info.matching, random).outcome, Outcome::kDeadlock)
        << print_csv(mutant);
  }
}

void check_mutant(const Schedule& mutant, const VerifyOptions& options, Tally& tally,
                  Random& random) {
  const bool lowered = is_lowered(mutant);
  const auto verified = verify(mutant, options);
  if (verified) {
    ++tally.accepted;
    check_accepted(mutant, options, lowered, random);
    return;
  }
  ++tally.rejected;
  std::set<std::string> rules;
  for (const Diagnostic& finding : verified.error()) rules.insert(finding.rule);
  for (const std::string& rule : rules) ++tally.caught[rule];
  if (rules.size() == 1) ++tally.alone[*rules.begin()];
  const bool is_static = std::any_of(kRules.begin(), kRules.end(), [&](const RuleInfo& rule) {
    return rule.effect == RuleEffect::kStatic && rules.contains(std::string(rule.id));
  });
  if (is_static) {
    ++tally.not_run;
    return;
  }
  check_rejected(mutant, options, verified.error(), lowered, random);
}

void print(const Tally& tally) {
  std::printf("%d accepted, %d rejected, %d of them by a static rule and not run\n", tally.accepted,
              tally.rejected, tally.not_run);
  std::printf("%-20s %10s %10s\n", "rule", "catches", "alone");
  for (const RuleInfo& rule : kRules) {
    const std::string id(rule.id);
    const auto count = [&](const std::map<std::string, int>& of) {
      return of.contains(id) ? of.at(id) : 0;
    };
    std::printf("%-20s %10d %10d\n", id.c_str(), count(tally.caught), count(tally.alone));
  }
}

TEST(VerifyOracle, TheRuntimeAgreesOnMutants) {
  const char* asked = std::getenv("PLAIT_MUTANTS");
  const int mutants = asked != nullptr ? std::atoi(asked) : 3000;
  Tally tally;
  for (int i = 0; i < mutants && !HasFailure(); ++i) {
    Random random(static_cast<unsigned>(i));
    Schedule mutant = any_schedule(random);
    VerifyOptions options;
    if (pick(random, 2) == 0)
      options.max_activations = run(mutant, is_lowered(mutant), Matching::kEdge, random).peaks;
    if (pick(random, 2) == 0) {
      const int whole = run(mutant, is_lowered(mutant), Matching::kEdge, random).most_whole;
      if (whole > 0) options.max_active_stages = whole;
    }
    options.ascending = pick(random, 2) == 0;
    const std::size_t mutations = pick(random, 3);
    for (std::size_t k = 0; k <= mutations; ++k) mutate(mutant, random);
    SCOPED_TRACE(::testing::Message() << "mutant " << i << " of " << mutant.name);
    check_mutant(mutant, options, tally, random);
  }
  if (asked != nullptr) print(tally);
  EXPECT_GT(tally.accepted, mutants / 20);
  for (const RuleInfo& rule : kRules) EXPECT_GT(tally.alone[std::string(rule.id)], 0) << rule.id;
}

TEST(VerifyOracle, EverySoundScheduleRunsRight) {
  for (const GeneratorInfo& info : kGenerators) {
    const Expected<Schedule> schedule = generate(info.name, {4, 12});
    ASSERT_TRUE(schedule) << info.name;
    Tally tally;
    Random random(1);
    check_mutant(*insert_comm(*schedule), {}, tally, random);
    check_mutant(*schedule, {}, tally, random);
    EXPECT_EQ(tally.accepted, 2) << info.name;
  }
}

TEST(VerifyOracle, TorchsDeferredReceivesAreCaughtWhereTheyAreWrong) {
  // zbv at P = 2, M = 3: rank 0 sends F0 to stage 1 before B3 to stage 2, rank 1 reads them the
  // other way round.
  const Schedule lowered = *insert_comm(*generate("zbv", {2, 3}));
  EXPECT_TRUE(verify(lowered));
  const Schedule schedule = *run_passes("defer-recv", lowered);
  const auto verified = verify(schedule);
  ASSERT_FALSE(verified);
  const Diagnostic& finding = verified.error().front();
  EXPECT_EQ(finding.rule, "message-order");
  EXPECT_EQ(finding.matching, Matching::kEdge);
  EXPECT_EQ(finding.rank, 1);
  EXPECT_EQ(finding.notes.front().rank, 0);
  Random random(1);
  EXPECT_EQ(run(schedule, true, Matching::kEdge, random).outcome, Outcome::kDeadlock);
}

}  // namespace
}  // namespace plait
