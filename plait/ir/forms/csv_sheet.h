/// CSV as spreadsheets write it, brought to the plain form that read_csv() reads.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "plait/base/error.h"
#include "plait/ir/schedule.h"

namespace plait {

/// One rank's cells, separated by commas, and the line of the file that holds them, from 1.
struct CsvRow {
  std::string text;
  int line = 0;
};

struct CsvSheet {
  std::vector<CsvRow> rows;
  std::vector<std::string> notes;  ///< a line for each thing taken off, and how it was read
  bool plain = true;               ///< nothing was taken off
};

/// Takes off quotes, a header row, a column of labels and blank rows at the end; cells may be
/// separated by commas, tabs or semicolons.
///
/// Example:  rank,step0,step1        Rows:  0F0,(0F1;0B0)OVERLAP_F_B  of line 2
///           rank0,0F0,"(0F1;0B0)OVERLAP_F_B"
///
/// A header is a first row without an action. Labels are a first column without an action, in which
/// the same text is followed by 0, 1, … or 1, 2, …: the ranks in their order.
/// Errors: a quote that is not closed; labels in another order. Cost: O(text).
Expected<CsvSheet> read_csv_sheet(std::string_view text, const std::string& file);

/// True if the schedule has no I and every W has a B of its stage and micro-batch: that B is the
/// backward for inputs of torch 2.5. Cost: O(A), without any I O(A log A).
bool has_letters_of_torch_2_5(const Schedule& schedule);

/// The error for a file of which has_letters_of_torch_2_5() is true.
tl::unexpected<Error> letters_of_torch_2_5(const std::string& file);

}  // namespace plait
