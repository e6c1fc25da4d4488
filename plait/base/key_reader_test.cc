#include "plait/base/key_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plait/base/json_node.h"
#include "plait/base/toml_node.h"

namespace plait {
namespace {

using Json = nlohmann::json;

struct Fields {
  int ranks = 7;
  std::int64_t nanoseconds = 7;
  std::uint64_t seed = 7;
  double share = 7;
  bool pin = true;
  std::string name = "seven";
  std::vector<int> layers{7};
  std::optional<std::int64_t> bytes;

  friend bool operator==(const Fields&, const Fields&) = default;
};

template <typename Node>
void read_all(KeyReader<Node>& keys, Fields& fields) {
  keys.read("ranks", fields.ranks, 1, 16);
  keys.read("nanoseconds", fields.nanoseconds, 0);
  keys.read("seed", fields.seed);
  keys.read("share", fields.share);
  keys.read("pin", fields.pin);
  keys.read("name", fields.name);
  keys.read("layers", fields.layers, 0);
  keys.read("bytes", fields.bytes);
  keys.refuse_others();
}

/// The text of the first error, "" if there is none.
std::string toml_error(const std::string& text, Fields* fields = nullptr) {
  Fields unseen;
  const Expected<toml::table> table = parse_toml(text, "f.toml");
  if (!table) return table.error().text();
  FirstError error;
  KeyReader keys(TomlNode(*table), "f.toml", error, "[run]");
  read_all(keys, fields == nullptr ? unseen : *fields);
  return error.ok() ? "" : error.result().error().text();
}

std::string json_error(const Json& json, Fields* fields = nullptr) {
  Fields unseen;
  FirstError error;
  auto keys = KeyReader<JsonNode<Json>>::by_path(JsonNode(json), "f.json", "/run", error);
  read_all(keys, fields == nullptr ? unseen : *fields);
  return error.ok() ? "" : error.result().error().text();
}

TEST(KeyReader, ErrorsHaveTheirPlaceInFields) {
  const Expected<toml::table> table = parse_toml("pin = true\nranks = 17\n", "f.toml");
  FirstError of_toml;
  KeyReader keys(TomlNode(*table), "f.toml", of_toml);
  int ranks = 0;
  keys.read("ranks", ranks, 1, 16);
  const Error error = of_toml.result().error();
  EXPECT_EQ(error.where, "f.toml:2");
  EXPECT_EQ(error.place.file, "f.toml");
  EXPECT_EQ(error.place.line, 2);
  EXPECT_EQ(error.place.key, "ranks");
  FirstError of_json;
  const Json json{{"ranks", 17}};
  KeyReader<JsonNode<Json>>::by_path(JsonNode(json), "f.json", "/run", of_json)
      .read("ranks", ranks, 1, 16);
  EXPECT_EQ(of_json.result().error().where, "f.json:/run/ranks");
  EXPECT_EQ(of_json.result().error().place.key, "/run/ranks");
}

TEST(Errors, APlaceIsReadAsItIsWritten) {
  const Expected<toml::table> broken = parse_toml("pin = true\n ranks 17\n", "f.toml");
  EXPECT_EQ(broken.error().place.line, 2);
  EXPECT_EQ(broken.error().where, fmt::format("f.toml:2:{}", broken.error().place.column));
  const Error flag =
      fail(ErrorCode::kInvalidInput, "found 0", ErrorPlace{.argument = "most"}).value();
  EXPECT_EQ(flag.text(), "--most: found 0");
  EXPECT_EQ((ErrorPlace{.file = "zbv", .rank = 1, .position = 4}).text(), "zbv: rank 1 position 4");
  EXPECT_EQ((ErrorPlace{.file = "a.csv", .line = 2, .rank = 1}).text(), "a.csv:2");
  EXPECT_EQ(ErrorPlace{}.text(), "");
}

const Fields kRead{2, 3, 4, 0.5, false, "x", {1, 0}, 6};

TEST(KeyReader, TomlAndJsonGiveTheSameFields) {
  Fields toml, json;
  EXPECT_EQ(toml_error("ranks = 2\nnanoseconds = 3\nseed = 4\nshare = 0.5\npin = false\n"
                       "name = \"x\"\nlayers = [1, 0]\nbytes = 6\n",
                       &toml),
            "");
  EXPECT_EQ(json_error({{"ranks", 2},
                        {"nanoseconds", 3},
                        {"seed", 4},
                        {"share", 0.5},
                        {"pin", false},
                        {"name", "x"},
                        {"layers", {1, 0}},
                        {"bytes", 6}},
                       &json),
            "");
  EXPECT_EQ(toml, kRead);
  EXPECT_EQ(json, kRead);
}

TEST(KeyReader, WhatIsMissingOrWrongLeavesItsField) {
  Fields fields;
  EXPECT_EQ(json_error(Json::object(), &fields), "");
  EXPECT_EQ(fields, Fields());
  EXPECT_NE(json_error({{"ranks", 17}, {"layers", {1, "x"}}, {"bytes", "x"}}, &fields), "");
  EXPECT_EQ(fields, Fields());
}

TEST(KeyReader, AnErrorNamesPlaceFoundAndNeeded) {
  EXPECT_EQ(toml_error("\nranks = 0"), "f.toml:2: ranks is 0, needed an integer from 1 to 16");
  EXPECT_EQ(toml_error("ranks = 17"), "f.toml:1: ranks is 17, must be 1 to 16");
  EXPECT_EQ(toml_error("nanoseconds = -1"),
            "f.toml:1: nanoseconds is -1, needed an integer of 0 or more");
  EXPECT_EQ(toml_error("bytes = 1.5"), "f.toml:1: bytes is 1.5, needed an integer");
  EXPECT_EQ(toml_error("seed = -1"), "f.toml:1: seed is -1, needed an integer of 0 or more");
  EXPECT_EQ(toml_error("share = true"), "f.toml:1: share is true, needed a number");
  EXPECT_EQ(toml_error("pin = 1"), "f.toml:1: pin is 1, needed true or false");
  EXPECT_EQ(toml_error("name = 1"), "f.toml:1: name is 1, needed a string");
  EXPECT_EQ(toml_error("layers = [1, -2]"),
            "f.toml:1: layers is [ 1, -2 ], needed a list of integers");
  EXPECT_EQ(toml_error("ranks = "), parse_toml("ranks = ", "f.toml").error().text());
}

TEST(KeyReader, ErrorsByPathNameThePath) {
  EXPECT_EQ(json_error({{"ranks", nullptr}}),
            "f.json:/run/ranks: found null, needed an integer from 1 to 16");
  EXPECT_EQ(json_error({{"bytes", 18446744073709551615U}}),
            "f.json:/run/bytes: found 18446744073709551615, needed an integer");
  EXPECT_EQ(json_error({{"layers", Json::object()}}),
            "f.json:/run/layers: found an object, needed a list of integers");
  EXPECT_EQ(json_error({{"rank", 1}}),
            "f.json:/run: key 'rank' is not known, did you mean 'ranks'?");
}

TEST(KeyReader, UnknownKeysAreRefusedWithTheNearestName) {
  EXPECT_EQ(toml_error("ranks = 2\nname = \"x\"\nsed = 3"),
            "f.toml:3: key 'sed' is not known in [run], did you mean 'seed'?");
}

TEST(KeyReader, TheFirstErrorIsKept) {
  EXPECT_EQ(toml_error("seed = -1\nranks = 0\nnames = 2"),
            "f.toml:2: ranks is 0, needed an integer from 1 to 16");
}

TEST(KeyReader, WhatIsRequiredMustBeThere) {
  const toml::table table = parse_toml("\n[link]\n[[link.between]]\nto = 1", "f.toml").value();
  FirstError error;
  KeyReader keys(TomlNode(*table.get("link")), "f.toml", error, "[link]");
  keys.each_table("between", "[link.between]", [](KeyReader<TomlNode> between) {
    int from = 0, to = 0;
    EXPECT_TRUE(between.require("to", to));
    EXPECT_FALSE(between.require("from", from));
  });
  EXPECT_EQ(error.result().error().text(), "f.toml:3: from is missing in [link.between]");

  const Json json{{"args", {{"part", 1}}}};
  FirstError of_json;
  auto event = KeyReader<JsonNode<Json>>::by_path(JsonNode(json), "f.json", "/0", of_json);
  int begin = 0;
  event.inner("args").require("begin", begin, 0);
  EXPECT_EQ(of_json.result().error().text(),
            "f.json:/0/args/begin: found nothing, needed an integer of 0 or more");
}

TEST(KeyReader, WhatIsNoTableIsAnError) {
  const Json json{{"args", 3}};
  FirstError error;
  auto event = KeyReader<JsonNode<Json>>::by_path(JsonNode(json), "f.json", "", error);
  int begin = 0;
  event.inner("args").require("begin", begin);
  EXPECT_EQ(error.result().error().text(), "f.json:/args: found 3, needed an object");

  const toml::table table = parse_toml("between = [1]", "f.toml").value();
  FirstError of_toml;
  KeyReader keys(TomlNode(table), "f.toml", of_toml, "[link]");
  keys.each_table("between", "[link.between]", [](const auto&) { FAIL(); });
  EXPECT_EQ(of_toml.result().error().text(),
            "f.toml:1: between is [ 1 ], needed tables [[link.between]]");
}

}  // namespace
}  // namespace plait
