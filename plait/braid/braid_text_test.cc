#include "plait/braid/braid_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/support/files.h"

namespace plait {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kText = R"(# a layer's pair
braid 1
layers 2
segment attn.F compute needs previous combine.F ns 3 4
segment combine.F communication needs attn.F ns 5
segment attn.B compute
compute: attn.F attn.B
communication: combine.F
)";

std::string error_of(const std::string& text) {
  const auto braid = read_braid_text(text, "f");
  return braid ? "" : braid.error().text();
}

/// The text with its first `from` replaced.
std::string changed(const std::string& from, const std::string& to) {
  std::string text = kText;
  const std::size_t place = text.find(from);
  EXPECT_NE(place, std::string::npos) << from;
  return text.replace(place, from.size(), to);
}

TEST(BraidText, ReadsWhatItSays) {
  const auto braid = read_braid_text(kText, "f");
  ASSERT_TRUE(braid) << braid.error().text();
  EXPECT_EQ(braid->layers, 2);
  ASSERT_EQ(braid->segments.size(), 3U);
  EXPECT_EQ(braid->segments[0].word.text(), "attn.F");
  EXPECT_THAT(braid->segments[0].needs_of_layer_before, ElementsAre(1));
  EXPECT_THAT(braid->segments[0].costs, ElementsAre(3, 4));
  EXPECT_EQ(braid->segments[1].lane, Lane::kCommunication);
  EXPECT_THAT(braid->segments[1].needs, ElementsAre(0));
  EXPECT_THAT(braid->lanes[0], ElementsAre(0, 2));
  EXPECT_THAT(braid->lanes[1], ElementsAre(1));
}

TEST(BraidText, PrintsWhatItReads) {
  EXPECT_EQ("# a layer's pair\n" + print_braid_text(*read_braid_text(kText, "f")), kText);
  const LayerBraid standard = default_layer_braid();
  EXPECT_EQ(*read_braid_text(print_braid_text(standard), "f"), standard);
  EXPECT_EQ(standard.order(), default_layer_order());
  const auto prepared = PreparedBraid::make(*lay_out(standard));
  EXPECT_TRUE(prepared) << prepared.error().text();
}

TEST(BraidText, ASegmentMayRecompute) {
  const std::string text = changed("attn.B compute\ncompute: attn.F",
                                   "attn.B compute needs attn.R\nsegment attn.R compute ns 3\n"
                                   "compute: attn.F attn.R");
  const auto braid = read_braid_text(text, "f");
  ASSERT_TRUE(braid) << braid.error().text();
  EXPECT_EQ(braid->segments[3].word, (LayerWord{"attn", SegmentOf::kRecompute}));
  EXPECT_EQ("# a layer's pair\n" + print_braid_text(*braid), text);
}

TEST(BraidText, RecomputingStandsRightBeforeItsBackward) {
  const auto braid = with_recompute(*with_recompute(default_layer_braid(), "mlp"), "attn");
  ASSERT_TRUE(braid) << braid.error().text();
  const std::string text = print_braid_text(*braid);
  EXPECT_THAT(text, HasSubstr("compute: attn.F mlp.R mlp.B mlp.W mlp.F attn.R attn.B attn.W\n"));
  EXPECT_THAT(text, HasSubstr("segment mlp.B compute needs combine.B mlp.R\n"));
  EXPECT_TRUE(PreparedBraid::make(*lay_out(*braid)));
  EXPECT_EQ(with_recompute(*braid, "mlp").error().message, "mlp.R stands there already");
  EXPECT_EQ(with_recompute(*braid, "combine").error().message,
            "combine.B is not on the compute lane, needed to recompute");
}

TEST(BraidText, TheDocumentShowsTheDefault) {
  EXPECT_THAT(testing::read_text("docs/braid.md"),
              HasSubstr("\n" + print_braid_text(default_layer_braid())));
}

// What the fuzzer does, with fewer bytes.
TEST(BraidText, AnyBytesAreABraidOrAnError) {
  const std::string table =
      "segment,lane,depends_on,layer0,layer1\na.F,compute,,1.5,2\nb.B,comm,a.F,0,1\n";
  const std::string replacements = " \n,.:#0-9FBWabnsprevious";
  std::mt19937 random(11);
  int read = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string text = i % 2 == 0 ? kText : table;
    for (auto changes = random() % 3; changes > 0; --changes) {
      const std::size_t place = random() % text.size();
      const char c = replacements[random() % replacements.size()];
      if (random() % 2 == 0) text[place] = c;
      if (random() % 3 == 0) text.erase(place, 1 + random() % 4);
      if (random() % 3 == 0) text.insert(place, 1, c);
    }
    const auto braid = i % 2 == 0 ? read_braid_text(text, "f") : read_braid_csv(text, "f");
    if (!braid) {
      ASSERT_EQ(braid.error().text().substr(0, 2), "f:") << text;
      continue;
    }
    ++read;
    ASSERT_EQ(*read_braid_text(print_braid_text(*braid), "f"), *braid) << text;
  }
  EXPECT_GT(read, 2000);
  EXPECT_LT(read, 18000);
}

TEST(BraidText, SaysWhereWhatIsWrong) {
  EXPECT_EQ(error_of(""), "f:1:1: the file is empty, needed 'braid 1' as its first line");
  EXPECT_EQ(error_of("plait 1\n"), "f:1:1: found 'plait', needed 'braid 1' as the first line");
  EXPECT_EQ(error_of("braid 2\n"), "f:1:7: the format's version is 2, needs to be from 1 to 1");
  EXPECT_EQ(error_of("braid 1 2\n"), "f:1:9: found '2', needed the end of the line");
  EXPECT_EQ(error_of("braid 1\nlayers 2\n"), "f:3:1: there is no segment, needed one at least");
  EXPECT_EQ(error_of(changed("layers 2\n", "")), "f:8:1: there is no line 'layers', needed one");
  EXPECT_EQ(error_of(changed("layers 2", "layers 0")),
            "f:3:8: layers is 0, needs to be from 1 to 4096");
  EXPECT_EQ(error_of(changed("layers 2", "layers many")),
            "f:3:8: found 'many', needed a number, layers");
  EXPECT_EQ(error_of(changed("layers 2", "layers 2\nlayers 2")),
            "f:4:1: layers stands here a second time, needed once");
  EXPECT_EQ(error_of(changed("layers 2", "stages 2")),
            "f:3:1: found 'stages', needed a line that begins with layers, segment, compute: or "
            "communication:");
  EXPECT_EQ(error_of(changed("segment attn.B compute", "segment attn compute")),
            "f:6:9: found 'attn', needed a segment's word such as attn.F, mlp.B or mlp.W");
  EXPECT_EQ(error_of(changed("attn.B compute", "attn.B comm")),
            "f:6:16: found 'comm', needed compute or communication");
  EXPECT_EQ(error_of(changed("attn.B compute", "attn.F compute")),
            "f:6:9: there are two segments attn.F");
  EXPECT_EQ(error_of(changed("attn.B compute", "attn.B compute now")),
            "f:6:24: found 'now', needed needs, ns or the end of the line");
  EXPECT_EQ(error_of(changed("attn.B compute", "attn.B compute needs")),
            "f:6:29: found the end, needed a segment");
  EXPECT_EQ(error_of(changed("attn.B compute", "attn.B compute ns")),
            "f:6:26: found the end, needed a number, a cost in ns");
  EXPECT_EQ(error_of(changed("ns 3 4", "ns 3 -4")),
            "f:4:54: a cost in ns is -4, needs to be from 0 to 1000000000000");
  EXPECT_EQ(error_of(changed("ns 3 4", "ns 3 4 5")),
            "f:4:9: attn.F has 3 costs, needed one, or one for each of 2 layers");
  EXPECT_EQ(error_of(changed("needs attn.F", "needs atn.F")),
            "f:5:39: 'atn.F' is no segment, did you mean 'attn.F'?");
  EXPECT_EQ(
      error_of(changed("attn.B compute", "attn.W compute\nsegment mlp.F compute needs attn.W")),
      "f:7:29: mlp.F needs attn.W, a segment of W, which not every pair has");
}

TEST(BraidText, ALaneHasEachOfItsSegmentsOnce) {
  EXPECT_EQ(error_of(changed("compute: attn.F attn.B", "compute: attn.B")),
            "f:4:9: attn.F is missing in the line 'compute:'");
  EXPECT_EQ(error_of(changed("compute: attn.F attn.B", "compute: attn.F attn.B attn.F")),
            "f:7:24: attn.F stands twice in its lane");
  EXPECT_EQ(error_of(changed("compute: attn.F attn.B", "compute: attn.F attn.B combine.F")),
            "f:7:24: combine.F is a segment of the communication lane, not of the compute lane");
  EXPECT_EQ(error_of(changed("communication: combine.F", "communication: combine.B")),
            "f:8:16: 'combine.B' is no segment, did you mean 'combine.F'?");
  EXPECT_EQ(error_of(changed("communication: combine.F", "compute: attn.F")),
            "f:8:1: the compute lane stands here a second time, needed once");
}

TEST(BraidText, LanesThatWaitInACircleAreReadAndFound) {
  const auto braid = read_braid_text(
      "braid 1\nlayers 1\nsegment mlp.F compute needs combine.B\nsegment mlp.B compute\n"
      "segment combine.B communication needs mlp.B\ncompute: mlp.F mlp.B\n"
      "communication: combine.B\n",
      "f");
  ASSERT_TRUE(braid) << braid.error().text();
  EXPECT_EQ(PreparedBraid::make(*lay_out(*braid)).error().text(),
            "braid: the braid's segments wait in a circle: mlp.F waits for combine.B waits for "
            "mlp.B waits for mlp.F");
}

TEST(BraidCsv, ReadsAMeasuredProfile) {
  const auto braid = read_braid_csv(testing::read_golden("deepseek-v3-pair.csv"), "f");
  ASSERT_TRUE(braid) << braid.error().text();
  EXPECT_EQ(braid->layers, 4);
  ASSERT_EQ(braid->segments.size(), 10U);
  const LayerSegment& attention = braid->segments[1];
  EXPECT_EQ(attention.word.text(), "attn.F");
  EXPECT_THAT(attention.costs, ElementsAre(4'310'000, 4'260'000, 4'440'000, 4'470'000));
  EXPECT_THAT(attention.needs_of_layer_before, ElementsAre(9));
  // The rows stand in the order of the trace, which is that of the default.
  LayerOrder order = default_layer_order();
  std::erase(order.communication, LayerWord{"counts", SegmentOf::kForward});
  EXPECT_EQ(braid->order(), order);
}

TEST(BraidCsv, SaysWhereWhatIsWrong) {
  const auto refused = [](const std::string& rows) {
    const auto braid = read_braid_csv("segment,lane,depends_on,layer0\n" + rows, "f");
    return braid ? "" : braid.error().text();
  };
  EXPECT_EQ(refused("a.F,compute,,1.5\nb.B,comm,a.F;previous layer's b.B,0\n"), "");
  EXPECT_EQ(refused(""), "f:2:1: there is no segment, needed one");
  EXPECT_EQ(refused("a.F,compute,,1.5,2\n"), "f:2:1: the row has 5 cells, needed 4");
  EXPECT_EQ(refused("a,compute,,1\n"),
            "f:2:1: found 'a', needed a segment's word such as attn.F, mlp.B or mlp.W");
  EXPECT_EQ(refused("a.F,computer,,1\n"), "f:2:5: found 'computer', needed compute or comm");
  EXPECT_EQ(refused("a.F,compute,,1\na.F,compute,,1\n"), "f:3:1: there are two segments a.F");
  EXPECT_EQ(refused("a.F,compute,b.F,1\n"), "f:2:13: 'b.F' is no segment, did you mean 'a.F'?");
  for (const std::string cost : {"", ".5", "1.", "-1", "1.2345678", "nan", "1000001"}) {
    EXPECT_EQ(refused("a.F,compute,," + cost + "\n"),
              "f:2:14: found '" + cost +
                  "', needed milliseconds from 0 to 1000000, with at most "
                  "six digits behind the point");
  }
  EXPECT_EQ(read_braid_csv("segment,lane,layer0\n", "f").error().text(),
            "f:1:1: found 'segment,lane,layer0', needed the columns "
            "segment,lane,depends_on,layer0,layer1,…");
}

}  // namespace
}  // namespace plait
