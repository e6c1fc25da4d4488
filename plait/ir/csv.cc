#include "plait/ir/csv.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "plait/ir/action_text.h"

namespace plait {
namespace {

std::string_view trim(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

Expected<std::vector<Action>> read_row(std::string_view row, const std::string& file, int line) {
  std::vector<Action> list;
  std::size_t begin = 0;
  while (begin <= row.size()) {
    const std::size_t end = std::min(row.find(',', begin), row.size());
    const std::string_view cell = trim(row.substr(begin, end - begin));
    if (cell.empty()) {
      list.push_back({});
    } else if (auto parsed = parse_action(cell, list); !parsed) {
      const auto offset =
          static_cast<std::size_t>(cell.data() - row.data()) + parsed.error().offset;
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("in '{}': {}", cell.substr(0, 60), parsed.error().message),
                  fmt::format("{}:{}:{}", file, line, offset + 1));
    }
    begin = end + 1;
  }
  return list;
}

int value_or_next(std::optional<int> given, int largest) { return given ? *given : largest + 1; }

/// Stages get the rank of their first compute action.
Placement infer_placement(const Schedule& schedule, int stages) {
  Placement placement;
  placement.ranks = static_cast<int>(schedule.ranks.size());
  placement.rank_of_stage.assign(static_cast<std::size_t>(stages), -1);
  for (int rank = 0; rank < placement.ranks; ++rank) {
    for (const Action& action : schedule.ranks[static_cast<std::size_t>(rank)]) {
      if (!is_compute(action.type) || action.stage >= stages) continue;
      int& holder = placement.rank_of_stage[static_cast<std::size_t>(action.stage)];
      if (holder < 0) holder = rank;
    }
  }
  for (int& holder : placement.rank_of_stage) holder = std::max(holder, 0);
  placement.name = "table";
  return placement;
}

/// Two copies of every stage, one down the ranks and one up, if that is where all actions stand.
bool is_bidirectional(const Schedule& schedule, int stages) {
  const auto ranks = static_cast<int>(schedule.ranks.size());
  for (int rank = 0; rank < ranks; ++rank) {
    for (const Action& action : schedule.ranks[static_cast<std::size_t>(rank)]) {
      if (!is_compute(action.type)) continue;
      const bool second = std::int64_t{2} * action.microbatch >= schedule.microbatches;
      const int place = action.stage % ranks;
      if (rank != (second ? ranks - 1 - place : place)) return false;
    }
  }
  return schedule.microbatches > 1 && ranks > 1 && stages % ranks == 0;
}

Placement bidirectional(int ranks, int stages) {
  Placement placement{"bidirectional", ranks, {}, 2};
  for (int stage = 0; stage < stages; ++stage) placement.rank_of_stage.push_back(stage % ranks);
  for (int stage = 0; stage < stages; ++stage)
    placement.rank_of_stage.push_back(ranks - 1 - stage % ranks);
  return placement;
}

std::string placement_name(const Placement& placement) {
  bool loop = true;
  bool v = true;
  const int ranks = placement.ranks;
  for (int stage = 0; stage < placement.stages(); ++stage) {
    const int place = stage % ranks;
    loop = loop && placement.rank_of(stage) == place;
    v = v && placement.rank_of(stage) == ((stage / ranks) % 2 == 0 ? place : ranks - 1 - place);
  }
  return loop ? "loop" : v ? "v" : "table";
}

}  // namespace

Expected<Schedule> read_csv(std::string_view text, const std::string& file, const CsvShape& shape) {
  Schedule schedule;
  schedule.name = file;
  int line = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view row = text.substr(begin, end - begin);
    if (!row.empty() && row.back() == '\r') row.remove_suffix(1);
    PLAIT_TRY(std::vector<Action> list, read_row(row, file, ++line));
    schedule.ranks.push_back(std::move(list));
    begin = end + 1;
  }
  if (schedule.ranks.empty()) {
    return fail(ErrorCode::kInvalidInput, "the file is empty, needed one row per rank", file);
  }
  int largest_stage = -1;
  int largest_microbatch = -1;
  std::int64_t cells = 0;
  for (const std::vector<Action>& list : schedule.ranks) {
    cells += static_cast<std::int64_t>(list.size());
    for (const Action& action : list) {
      largest_stage = std::max(largest_stage, action.stage);
      largest_microbatch = std::max(largest_microbatch, action.microbatch);
    }
  }
  if (largest_stage < 0) {
    return fail(ErrorCode::kInvalidInput, "the file holds no action, needed at least one", file);
  }
  if (largest_stage >= cells || largest_microbatch >= cells) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("stage {} or micro-batch {} cannot be among {} cells", largest_stage,
                            largest_microbatch, cells),
                file);
  }
  schedule.microbatches = value_or_next(shape.microbatches, largest_microbatch);
  const auto rows = static_cast<int>(schedule.ranks.size());
  if (shape.ranks && *shape.ranks != rows) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("the file has {} rows, --ranks needs {}", rows, *shape.ranks), file);
  }
  if (shape.placement) {
    schedule.placement = *shape.placement;
  } else {
    const int stages = value_or_next(shape.stages, largest_stage);
    if (is_bidirectional(schedule, stages)) {
      schedule.placement = bidirectional(rows, stages);
    } else {
      schedule.placement = infer_placement(schedule, stages);
      schedule.placement.name = placement_name(schedule.placement);
    }
  }
  return schedule;
}

std::string print_csv(const Schedule& schedule) {
  std::string text;
  for (const std::vector<Action>& list : schedule.ranks) {
    for (std::size_t i = 0; i < list.size(); i += 1U + list[i].members) {
      if (i > 0) text += ',';
      text += print_action_at(list, i);
    }
    text += '\n';
  }
  return text;
}

}  // namespace plait
