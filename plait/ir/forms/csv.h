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

/// What a schedule's file is known to hold. A CSV lacks all of it: what is absent here is inferred.
/// The other forms say it themselves, and must not say otherwise.
struct CsvShape {
  std::optional<int> ranks;
  std::optional<int> stages;
  std::optional<int> microbatches;
  std::optional<std::string> placement;  ///< as parse_placement reads it (ir/text_placement.h)
};

/// Reads all of `text`; lines end in \n or \r\n. Errors name `file`, line and column.
///
/// Stages and micro-batches are those that actions name, up to a gap behind which few stand (a slip
/// of the pen: the proof says which). A stage is held by the rank that has most of its actions; two
/// copies of every stage are seen where they explain more. Without any backward the schedule is
/// forward-only. A stage nobody computes is an error; if `shape` has the number of stages, it is
/// put on rank 0 for the proof to complain of. Letters of torch 2.5, whose B is our I, are an error
/// that says so. `notes` gets what was taken for what in a file of a spreadsheet.
/// Cost: O(text), 12 bytes an action.
Expected<Schedule> read_csv(std::string_view text, const std::string& file, const CsvShape& shape,
                            std::vector<std::string>* notes = nullptr);

/// Lines end in \n. read_csv of it gives the same lists, unless a rank's is empty: that cannot be
/// read back. Cost: O(actions).
std::string print_csv(const Schedule& schedule);

}  // namespace plait
