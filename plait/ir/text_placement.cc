#include "plait/ir/text_placement.h"

#include <fmt/core.h>

#include <charconv>
#include <utility>

#include "plait/ir/placements.h"

namespace plait {
namespace {

bool is_space(char c) { return c == ' ' || c == '\t'; }

tl::unexpected<Error> wrong(std::string message) {
  return fail(ErrorCode::kInvalidInput, std::move(message));
}

Expected<Placement> parse_name(std::string_view name, int ranks, std::optional<int> stages) {
  bool known = false;
  std::string names;
  for (const PlacementInfo& info : kPlacements) {
    known = known || info.name == name;
    names += fmt::format("{}, ", info.name);
  }
  if (!known) {
    return wrong(fmt::format("found '{}', needed {}or the rank of every stage, as in 0 1 1 0",
                             name.substr(0, 40), names));
  }
  if (!stages) return wrong(fmt::format("placement {} needs a number of stages", name));
  const std::optional<Placement> placement = named_placement(name, ranks, *stages);
  if (!placement) {
    return wrong(fmt::format("stages is {}, must be a multiple of {} ranks for placement {}",
                             *stages, ranks, name));
  }
  return *placement;
}

/// Appends the ranks of one copy.
Expected<void> parse_table(std::string_view text, int ranks, std::vector<int>& table) {
  for (std::size_t begin = 0; begin < text.size();) {
    if (is_space(text[begin])) {
      ++begin;
      continue;
    }
    std::size_t end = begin;
    while (end < text.size() && !is_space(text[end])) ++end;
    const std::string_view word = text.substr(begin, end - begin);
    int rank = 0;
    const auto parsed = std::from_chars(word.data(), word.data() + word.size(), rank);
    if (parsed.ec != std::errc{} || parsed.ptr != word.data() + word.size() || rank < 0 ||
        rank >= ranks) {
      return wrong(fmt::format("the placement's table holds '{}', needed a rank below {}",
                               word.substr(0, 40), ranks));
    }
    table.push_back(rank);
    begin = end;
  }
  return {};
}

}  // namespace

std::optional<Placement> named_placement(std::string_view name, int ranks, int stages) {
  for (const PlacementInfo& info : kPlacements) {
    if (info.name != name) continue;
    if (Expected<Placement> placement = info.make(ranks, stages)) return *std::move(placement);
  }
  return std::nullopt;
}

std::string name_of_placement(const Placement& placement) {
  for (const PlacementInfo& info : kPlacements) {
    const auto named = named_placement(info.name, placement.ranks, placement.stages());
    if (named && named->copies == placement.copies &&
        named->rank_of_stage == placement.rank_of_stage)
      return std::string(info.name);
  }
  return "table";
}

std::string print_placement(const Placement& placement) {
  const auto named = named_placement(placement.name, placement.ranks, placement.stages());
  if (named && *named == placement) return placement.name;
  std::string text;
  for (int copy = 0; copy < placement.copies; ++copy) {
    if (copy > 0) text += " /";
    for (int stage = 0; stage < placement.stages(); ++stage) {
      if (!text.empty()) text += ' ';
      text += std::to_string(placement.rank_of(stage, copy));
    }
  }
  return text;
}

bool is_placement_table(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  return first != std::string_view::npos && text[first] < 'A';
}

Expected<Placement> parse_placement(std::string_view text, int ranks, std::optional<int> stages) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  if (text.empty())
    return wrong("the placement is empty, needed a name or the rank of every stage");
  if (!is_placement_table(text)) return parse_name(text, ranks, stages);
  Placement placement{"table", ranks, {}, 1};
  const std::size_t slash = text.find('/');
  PLAIT_TRY_VOID(parse_table(text.substr(0, slash), ranks, placement.rank_of_stage));
  const std::size_t of_copy = placement.rank_of_stage.size();
  if (slash != std::string_view::npos) {
    placement.copies = 2;
    PLAIT_TRY_VOID(parse_table(text.substr(slash + 1), ranks, placement.rank_of_stage));
    if (placement.rank_of_stage.size() != 2 * of_copy || of_copy == 0) {
      return wrong(
          fmt::format("the placement has {} stages before '/' and {} behind, needed equal "
                      "numbers",
                      of_copy, placement.rank_of_stage.size() - of_copy));
    }
  }
  if (stages && of_copy != static_cast<std::size_t>(*stages)) {
    return wrong(fmt::format("the placement's table has {} stages, needed {}", of_copy, *stages));
  }
  return placement;
}

}  // namespace plait
