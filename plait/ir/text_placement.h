/// Placements as text: a name, or the rank of every stage with copies apart by '/'.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "plait/base/error.h"
#include "plait/ir/schedule.h"

namespace plait {

/// A placement of the table kPlacements (placements.h), by its name; nothing for another name, or
/// if S is no multiple of P. Cost: O(S).
std::optional<Placement> named_placement(std::string_view name, int ranks, int stages);

/// The first name whose placement has this table, else "table". Cost: O(S).
std::string name_of_placement(const Placement& placement);

/// `v`, or `0 1 1 0` where the name is not that of the table; `0 1 / 1 0` with two copies.
std::string print_placement(const Placement& placement);

/// True if the text is a table of ranks, not a name.
bool is_placement_table(std::string_view text);

/// Reads what print_placement writes. A table says itself how many stages it has; a name needs
/// them. Errors: an unknown name, a rank that is not below `ranks`, another number of stages.
Expected<Placement> parse_placement(std::string_view text, int ranks, std::optional<int> stages);

}  // namespace plait
