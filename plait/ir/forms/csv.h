/// Schedules as CSV, the form torch.distributed.pipelining reads and writes.
///
/// One row per rank in rank order, no header, one cell per action, an empty cell is an idle slot.
/// What spreadsheets add is read too (csv_sheet.h).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "plait/base/error.h"
#include "plait/ir/schedule.h"

namespace plait {

/// What the caller knows of a schedule's file. A CSV has none of these: a field without a value is
/// inferred from its actions. The other forms have them all; one that differs from a field is an
/// error.
struct CsvShape {
  std::optional<int> ranks;
  std::optional<int> stages;
  std::optional<int> microbatches;
  std::optional<std::string> placement;  ///< as parse_placement reads it (ir/text_placement.h)
};

/// Reads all of `text`; lines end in \n or \r\n. Errors name `file`, line and column.
///
/// What is inferred:
/// - S and M: one more than the largest number that actions name. A number far above the others is
///   taken for a slip (csv_infer.cc) and left for verify() to refuse.
/// - The placement: a stage is on the rank that has most of its compute actions, or in two copies
///   (`bidirectional`) if more actions then stand on a rank that holds their stage.
/// - forward_only: true if there is no backward.
///
/// Errors also: a stage without compute actions (if `shape` has the number of stages it is put on
/// rank 0 instead, for verify() to refuse); the letters of torch 2.5, whose B is our I. `notes`
/// gets a line for each thing that only a spreadsheet adds, and how it was read. Cost: O(text), 12
/// bytes an action.
Expected<Schedule> read_csv(std::string_view text, const std::string& file, const CsvShape& shape,
                            std::vector<std::string>* notes = nullptr);

/// Lines end in \n. read_csv() of the text gives the same lists; a rank's empty list cannot be read
/// back. Cost: O(actions).
std::string print_csv(const Schedule& schedule);

}  // namespace plait
