#include "plait/ir/forms/text_forms.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "plait/ir/text_placement.h"
#include "plait/schedule/generators.h"

namespace plait {
namespace {

Expected<Schedule> read_again(const FormInfo& form, const Schedule& schedule) {
  CsvShape of_csv;
  if (form.name == "csv") {
    of_csv = {schedule.placement.ranks, schedule.placement.stages(), schedule.microbatches,
              print_placement(schedule.placement)};
  }
  return read_schedule(form.print(schedule), schedule.name, of_csv);
}

TEST(EveryForm, PrintThenReadIsTheIdentityForEveryGenerator) {
  int schedules = 0;
  for (const GeneratorInfo& info : kGenerators) {
    for (const int ranks : {1, 2, 4}) {
      for (const int microbatches : {1, 4, 12}) {
        const Expected<Schedule> schedule = generate(info.name, {ranks, microbatches, 0, true});
        if (!schedule) continue;
        for (const FormInfo& form : kForms) {
          const Expected<Schedule> again = read_again(form, *schedule);
          ASSERT_TRUE(again) << again.error().text();
          EXPECT_EQ(*again, *schedule) << info.name << " as " << form.name;
          ++schedules;
        }
      }
    }
  }
  EXPECT_GT(schedules, 300);
}

// What a CSV does not say is inferred: two copies of the stages and missing backwards too.
TEST(EveryGenerator, AsCsvNeedsNoFlags) {
  for (const GeneratorInfo& info : kGenerators) {
    const Schedule schedule = *generate(info.name, {4, 12});
    const Expected<Schedule> again = read_schedule(print_csv(schedule), schedule.name, {});
    ASSERT_TRUE(again) << again.error().text();
    EXPECT_EQ(*again, schedule) << info.name;
  }
}

/// An action, or with some luck a pair of up to three, nested up to `depth` times.
void append_random_action(std::vector<Action>& list, int depth) {
  if (depth > 0 && *rc::gen::inRange(0, 8) == 0) {
    const std::size_t header = list.size();
    list.push_back({-1, -1, ActionType::kOverlapFB, 0});
    for (int left = *rc::gen::inRange(1, 4); left > 0; --left)
      append_random_action(list, depth - 1);
    list[header].members = static_cast<std::uint16_t>(list.size() - header - 1);
    return;
  }
  const auto type = static_cast<ActionType>(*rc::gen::inRange(1, 13));
  if (type == ActionType::kOverlapFB) return append_random_action(list, depth);
  const bool has_microbatch = is_compute(type) || is_communication(type);
  list.push_back({*rc::gen::inRange(0, 1 << 20),
                  has_microbatch ? *rc::gen::inRange(0, 1 << 30) : -1, type, 0});
}

Placement random_placement() {
  const int ranks = *rc::gen::inRange(1, 6);
  const int stages = ranks * *rc::gen::inRange(1, 4);
  const auto& name = *rc::gen::elementOf(
      std::vector<std::string>{"loop", "v", "bidirectional", "table", "table of two copies"});
  if (auto named = named_placement(name, ranks, stages)) return *named;
  Placement placement{"table", ranks, {}, name == "table" ? 1 : 2};
  for (int i = 0; i < placement.copies * stages; ++i)
    placement.rank_of_stage.push_back(*rc::gen::inRange(0, ranks));
  return placement;
}

Schedule random_schedule() {
  Schedule schedule{
      "f", random_placement(), *rc::gen::inRange(1, 1 << 30), *rc::gen::arbitrary<bool>(), {}};
  schedule.ranks.resize(static_cast<std::size_t>(schedule.placement.ranks));
  for (std::vector<Action>& list : schedule.ranks) {
    for (int left = *rc::gen::inRange(0, 6); left > 0; --left) {
      if (*rc::gen::inRange(0, 4) == 0) {
        list.push_back({});
      } else {
        append_random_action(list, 3);
      }
    }
  }
  return schedule;
}

TEST(EveryForm, PrintThenReadIsTheIdentityForAnyLists) {
  EXPECT_TRUE(rc::check([] {
    Schedule schedule = random_schedule();
    for (const FormInfo& form : kForms) {
      if (form.name == "csv") {  // it cannot say these
        schedule.forward_only = false;
        for (std::vector<Action>& list : schedule.ranks)
          list.push_back({0, 0, ActionType::kBackward, 0});
      }
      const Expected<Schedule> again = read_again(form, schedule);
      RC_ASSERT(again.has_value());
      RC_ASSERT(*again == schedule);
      for (const std::vector<Action>& list : again->ranks)
        RC_ASSERT(list.capacity() <= list.size());
    }
  }));
}

TEST(EveryForm, NothingCrashesTheReader) {
  const std::vector<std::string> bits = {
      "plait", " ",  "1", "\n",          "ranks",       "2",      "rank",      ":", "0F0",
      "(",     ")",  ";", "OVERLAP_F_B", "#",           ".",      "{",         "}", "[",
      "]",     "\"", ",", "null",        "\"actions\"", "stages", "placement", "v", "\r"};
  EXPECT_TRUE(rc::check([&] {
    std::string text;
    for (const std::string& bit :
         *rc::gen::container<std::vector<std::string>>(rc::gen::elementOf(bits)))
      text += bit;
    const Expected<Schedule> read = read_schedule(text, "f", {});
    if (!read) RC_ASSERT(read.error().where.substr(0, 1) == "f");
  }));
}

TEST(ReadSchedule, FindsTheForm) {
  EXPECT_EQ(read_schedule("0F0,0B0\n", "f", {})->microbatches, 1);
  EXPECT_EQ(read_schedule("# mine\n\nplait 1\nranks 1\nstages 1\nmicrobatches 7\nplacement loop\n"
                          "rank 0:\n",
                          "f", {})
                ->microbatches,
            7);
  EXPECT_EQ(read_schedule(" \n{\"plait\": 1, \"ranks\": 1, \"stages\": 1, \"microbatches\": 9, "
                          "\"placement\": [0], \"actions\": [[]]}",
                          "f", {})
                ->microbatches,
            9);
  const std::string_view mark = "\xef\xbb\xbf";
  EXPECT_EQ(read_schedule(std::string(mark) + "0F0,0B0\n", "f", {})->microbatches, 1);
  EXPECT_EQ(read_schedule(std::string_view("\xff\xfe"
                                           "0\0F\0",
                                           6),
                          "f", {})
                .error()
                .text(),
            "f:1:1: found UTF-16, needed UTF-8");
  // Words in front of cells are a table, words without are our own text.
  EXPECT_TRUE(read_schedule("rank0,0F0,0B0\n", "f", {}));
  EXPECT_EQ(read_schedule("ranks 1\n", "f", {}).error().text(),
            "f:1:1: found 'ranks', needed 'plait 1' as the first line");
}

TEST(ReadSchedule, AHeaderMustNotSayOtherwise) {
  const std::string text =
      "plait 1\nranks 2\nstages 4\nmicrobatches 3\nplacement v\nrank 0:\nrank 1:\n";
  const auto error = [&](const CsvShape& shape) {
    const auto read = read_schedule(text, "f", shape);
    return read ? "none" : read.error().text();
  };
  EXPECT_EQ(error({2, 4, 3, "v"}), "none");
  EXPECT_EQ(error({2, 4, 3, "0 1 1 0"}), "none");
  EXPECT_EQ(error({3, {}, {}, {}}), "f: the file says ranks 2, --ranks says 3");
  EXPECT_EQ(error({{}, 2, {}, {}}), "f: the file says stages 4, --stages says 2");
  EXPECT_EQ(error({{}, {}, 4, {}}), "f: the file says microbatches 3, --microbatches says 4");
  EXPECT_EQ(error({{}, {}, {}, "loop"}), "f: the file says placement v, --placement says loop");
}

TEST(Placement, ParsesWhatItPrints) {
  const auto again = [](const std::string& text, int ranks, std::optional<int> stages) {
    const Expected<Placement> read = parse_placement(text, ranks, stages);
    return read ? print_placement(*read) : read.error().text();
  };
  EXPECT_EQ(again("v", 2, 4), "v");
  EXPECT_EQ(again(" 0\t1 1 0 ", 2, 4), "0 1 1 0");
  EXPECT_EQ(again("0 1/1 0", 2, 2), "0 1 / 1 0");
  EXPECT_EQ(again("w", 2, 4),
            "found 'w', needed loop, v, bidirectional, or the rank of every stage, as in 0 1 1 0");
  EXPECT_EQ(again("0 1 x", 2, 4), "the placement's table holds 'x', needed a rank below 2");
  EXPECT_EQ(again("0 1 /", 2, 2),
            "the placement has 2 stages before '/' and 0 behind, needed equal numbers");
  EXPECT_EQ(again("-1 0", 2, 2), "the placement's table holds '-1', needed a rank below 2");
  EXPECT_EQ(again("", 2, 2), "the placement is empty, needed a name or the rank of every stage");
}

}  // namespace
}  // namespace plait
