/// The forms in which a schedule is written, in one table; reading finds out which it is.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "plait/base/error.h"
#include "plait/ir/forms/csv.h"
#include "plait/ir/forms/json.h"
#include "plait/ir/forms/text.h"
#include "plait/ir/schedule.h"

namespace plait {

struct FormInfo {
  std::string_view name;
  std::string_view summary;
  std::string (*print)(const Schedule& schedule);
};

inline constexpr std::array kForms = {
    FormInfo{"csv", "as torch.distributed.pipelining reads it", print_csv},
    FormInfo{"plait", "with a header and comments", print_text},
    FormInfo{"json", "for programs", print_json},
};

/// Reads any of the forms. JSON begins with `{`. Our own text begins with a word, and its first
/// line has no cells. All else is CSV. A byte-order mark of UTF-8 is skipped. `shape` and `notes`
/// are those of csv.h. Errors name `file` and the place in it. Cost: O(text).
Expected<Schedule> read_schedule(std::string_view text, const std::string& file,
                                 const CsvShape& shape, std::vector<std::string>* notes = nullptr);

}  // namespace plait
