#include "plait/ir/forms/csv_infer.h"

#include <fmt/core.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "plait/ir/action_text.h"
#include "plait/ir/text_placement.h"

namespace plait {
namespace {

template <typename Visit>
void for_each(const Schedule& schedule, Visit visit) {
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    for (const Action& action : schedule.ranks[rank]) visit(static_cast<int>(rank), action);
  }
}

/// One more than the largest number that actions name. Numbers behind a gap do not count if
/// together they are named less than half as often as a number before the gap on average: 0 0 0 1 1
/// 1 17 gives 2.
Expected<int> count_named(const Schedule& schedule, const std::string& file, std::string_view what,
                          std::int32_t Action::*number) {
  std::int64_t entries = 0;
  std::int32_t largest = -1;
  for_each(schedule, [&](int, const Action& action) {
    ++entries;
    largest = std::max(largest, action.*number);
  });
  const std::int64_t bound = std::min<std::int64_t>(std::int64_t{largest} + 1, entries);
  std::vector<std::int64_t> times(static_cast<std::size_t>(bound), 0);
  std::int64_t behind = 0;
  for_each(schedule, [&](int, const Action& action) {
    if (action.*number >= bound) {
      ++behind;
    } else if (action.*number >= 0) {
      ++times[static_cast<std::size_t>(action.*number)];
    }
  });
  const auto gap = std::find(times.begin(), times.end(), 0);
  std::int64_t before = 0;
  for (auto at = times.begin(); at != gap; ++at) before += *at;
  for (auto at = gap; at != times.end(); ++at) behind += *at;
  const std::int64_t named = gap - times.begin();
  if (behind * 2 * named < before) return static_cast<int>(named);
  if (largest < entries) return largest + 1;
  std::string found;
  int line = 0;
  for_each(schedule, [&](int rank, const Action& action) {
    if (!found.empty() || action.*number != largest) return;
    found = print_action(action);
    line = rank + 1;
  });
  return fail(ErrorCode::kInvalidInput,
              fmt::format("{} names {} {}, which cannot be among {} actions", found, what, largest,
                          entries),
              ErrorPlace{.file = file, .line = line, .rank = line - 1, .action = found});
}

/// By stage, the rank that has more than half of its compute actions, found by the majority vote of
/// Boyer and Moore: one pass, no count per rank. Some rank of them if none has half; -1 if none
/// computes it.
Placement majority_placement(const Schedule& schedule, int stages) {
  Placement placement{"table", static_cast<int>(schedule.ranks.size()), {}, 1};
  placement.rank_of_stage.assign(static_cast<std::size_t>(stages), -1);
  std::vector<std::int64_t> lead(static_cast<std::size_t>(stages), 0);
  for_each(schedule, [&](int rank, const Action& action) {
    if (!is_compute(action.type) || action.stage >= stages) return;
    const auto stage = static_cast<std::size_t>(action.stage);
    if (lead[stage] == 0) placement.rank_of_stage[stage] = rank;
    lead[stage] += placement.rank_of_stage[stage] == rank ? 1 : -1;
  });
  return placement;
}

/// The number of compute actions that are on a rank which holds their stage.
std::int64_t count_in_place(const Schedule& schedule) {
  std::int64_t in_place = 0;
  for_each(schedule, [&](int rank, const Action& action) {
    if (!is_compute(action.type) || action.stage >= schedule.placement.stages() ||
        action.microbatch >= schedule.microbatches)
      return;
    in_place += schedule.rank_of(action.stage, action.microbatch) == rank ? 1 : 0;
  });
  return in_place;
}

/// `all_there`: a stage without compute actions is an error; otherwise it goes to rank 0.
Expected<void> infer_placement(Schedule& schedule, const std::string& file, int stages,
                               bool all_there) {
  const int ranks = static_cast<int>(schedule.ranks.size());
  schedule.placement = majority_placement(schedule, stages);
  for (int& holder : schedule.placement.rank_of_stage) {
    if (holder < 0 && all_there) {
      const auto stage = &holder - schedule.placement.rank_of_stage.data();
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("no row computes stage {} of {}, needed all; is a row missing?",
                              stage, stages),
                  ErrorPlace{.file = file});
    }
    holder = std::max(holder, 0);
  }
  auto two_copies = named_placement("bidirectional", ranks, stages);
  if (two_copies && schedule.microbatches > 1) {
    const std::int64_t with_one = count_in_place(schedule);
    std::swap(schedule.placement, *two_copies);
    if (count_in_place(schedule) > with_one) return {};
    std::swap(schedule.placement, *two_copies);
  }
  schedule.placement.name = name_of_placement(schedule.placement);
  return {};
}

bool is_backward(ActionType type) {
  return (is_compute(type) && type != ActionType::kForward) || type == ActionType::kSendB ||
         type == ActionType::kRecvB || type == ActionType::kWaitSendB || is_reduction(type);
}

}  // namespace

Expected<void> infer_shape(Schedule& schedule, const std::string& file, const CsvShape& shape) {
  const auto rows = static_cast<int>(schedule.ranks.size());
  if (shape.ranks && *shape.ranks != rows) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("the file has {} rows, --ranks needs {}", rows, *shape.ranks),
                ErrorPlace{.file = file});
  }
  bool empty = true;
  schedule.forward_only = true;
  for_each(schedule, [&](int, const Action& action) {
    if (action.type != ActionType::kIdle) empty = false;
    if (is_backward(action.type)) schedule.forward_only = false;
  });
  if (empty)
    return fail(ErrorCode::kInvalidInput, "the file holds no action, needed at least one",
                ErrorPlace{.file = file});
  if (shape.microbatches) {
    schedule.microbatches = *shape.microbatches;
  } else {
    PLAIT_TRY(const int named, count_named(schedule, file, "micro-batch", &Action::microbatch));
    schedule.microbatches = std::max(named, 1);
  }
  std::optional<int> stages = shape.stages;
  if (!stages && !(shape.placement && is_placement_table(*shape.placement))) {
    PLAIT_TRY(stages, count_named(schedule, file, "stage", &Action::stage));
  }
  if (!shape.placement) return infer_placement(schedule, file, *stages, !shape.stages);
  auto placement = parse_placement(*shape.placement, rows, stages);
  if (!placement)
    return fail(ErrorCode::kInvalidInput, placement.error().message,
                ErrorPlace{.argument = "placement"});
  schedule.placement = *std::move(placement);
  return {};
}

}  // namespace plait
