/// Schedules as JSON, for programs.
///
///   {"plait": 1, "ranks": 2, "stages": 4, "microbatches": 3, "placement": "v",
///    "forward_only": false, "actions": [["0F0", null, ["0F2", "3B0"]], ["1F0", "2F0"]]}
///
/// `placement` is a name, or the rank of every stage as an array, or two such arrays, one per copy.
/// `actions` has an array per rank: null is an idle slot, an array of actions a pair.
/// `forward_only` may be left out; the others may not, and no other key may stand there.
#pragma once

#include <string>
#include <string_view>

#include "plait/base/error.h"
#include "plait/ir/schedule.h"

namespace plait {

/// Errors name `file` with line and column where it is no JSON, else with the value's JSON pointer,
/// as in file:/actions/0/2. Cost: O(text); the document is held in memory, about 100 bytes an
/// action.
Expected<Schedule> read_json(std::string_view text, const std::string& file);

/// One line per rank. read_json of it gives the same schedule, named after its file.
/// Cost: O(actions).
std::string print_json(const Schedule& schedule);

}  // namespace plait
