/// Our own text form of a schedule: a header, a line per rank, comments from # to the line's end.
///
///   plait 1                      the format's version; the first line that is no comment
///   ranks 2
///   stages 4
///   microbatches 3
///   placement v                  or the rank of every stage: 0 1 1 0; two copies: 0 1 / 1 0
///   forward-only                 only if no backward is expected
///   rank 0: 0F0 0F1 . 3F0 (0F2;3B0)OVERLAP_F_B
///   rank 1: 1F0 2F0
///
/// `.` is an idle slot. Header lines in any order, each once; every rank once, in any order.
#pragma once

#include <string>
#include <string_view>

#include "plait/base/error.h"
#include "plait/ir/schedule.h"

namespace plait {

/// Reads all of `text`; lines end in \n or \r\n. Errors name `file`, line and column.
/// Cost: O(text), 12 bytes an action.
Expected<Schedule> read_text(std::string_view text, const std::string& file);

/// read_text of it gives the same schedule, named after its file. Cost: O(actions).
std::string print_text(const Schedule& schedule);

}  // namespace plait
