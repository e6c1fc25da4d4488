/// Reads back the metrics.jsonl of a run while it is being written. Knows no torch.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "plait/base/error.h"
#include "plait/record/step_report.h"

namespace plait {

using MetricsLine = std::variant<StepLine, ValidationLine>;

/// Takes a metrics file piece by piece, as it grows.
///
/// The first line is metrics_header() (step_report.h); each other one what print_json() prints.
/// Keys beyond those are ignored. A line without its end is being written: it waits for the rest.
class MetricsReader {
 public:
  explicit MetricsReader(std::string name) : name_(std::move(name)) {}

  /// The lines that these bytes, which follow those before, complete. Errors (kInvalidInput), with
  /// file and line, after which no more can be read: another program's file, another version, a key
  /// that is missing or holds no finite number, lists of different lengths, a line that goes
  /// back in steps. Cost: O(bytes).
  Expected<std::vector<MetricsLine>> read(std::string_view bytes);

 private:
  Expected<void> read_header(std::string_view line) const;
  Expected<MetricsLine> read_line(std::string_view line) const;
  tl::unexpected<Error> wrong(std::string message) const;
  ErrorPlace place() const;  // of the line

  std::string name_;
  std::string begun_;           // the line that is not complete yet
  std::size_t line_count_ = 0;  // complete ones
  int step_ = 0;                // of the last step's line
};

struct MetricsUntil {
  std::string lines;
  int missing = 0;  ///< of steps 1 to `step`
};
/// The file's lines as a run has them that has just done step `step`, the header first: of that
/// step no validation, which the run makes that goes on. Errors (kInvalidInput): those of the
/// reader.
Expected<MetricsUntil> metrics_until(const std::string& path, int step);

}  // namespace plait
