#include "plait/ir/forms/cells.h"

#include <gtest/gtest.h>

namespace plait {
namespace {

TEST(Cells, AreWhatTheirCsvIs) {
  const Cells cells{{"0F0", "0F1", "", "0B0", "0B1"}, {"", "1F0", "(1F1;1B0)OVERLAP_F_B", "1B1"}};
  const auto read = read_cells(cells, "mine", {});
  ASSERT_TRUE(read) << read.error().text();
  const auto csv = read_csv("0F0,0F1,,0B0,0B1\n,1F0,(1F1;1B0)OVERLAP_F_B,1B1\n", "mine", {});
  ASSERT_TRUE(csv);
  EXPECT_EQ(*read, *csv);
}

TEST(Cells, AnEmptyListIsARankWithoutActions) {
  CsvShape shape;
  shape.placement = "0";
  const auto read = read_cells({{"0F0", "0B0"}, {}}, "mine", shape);
  ASSERT_TRUE(read) << read.error().text();
  EXPECT_EQ(read->placement.ranks, 2);
  EXPECT_TRUE(read->ranks[1].empty());
}

TEST(Cells, ErrorsNameTheCell) {
  const auto wrong = read_cells({{"0F0"}, {"1F0", "1X0"}}, "mine", {});
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().where, "mine[1][1]");
  EXPECT_EQ(wrong.error().place.rank, 1);
  EXPECT_EQ(wrong.error().place.position, 1);
  EXPECT_NE(wrong.error().message.find("in '1X0'"), std::string::npos);
  EXPECT_FALSE(read_cells({}, "mine", {}));
}

}  // namespace
}  // namespace plait
