/// metrics.jsonl: what a run measured, one JSON object a line. No torch.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/base/units.h"

namespace plait {

/// One step; lists are by rank. docs/job.md says what is measured how.
struct StepMetrics {
  std::int64_t step = 0;  ///< from 1
  double loss = 0;
  double grad_norm = 0;
  double learning_rate = 0;
  std::int64_t tokens = 0;
  Nanoseconds step_ns = 0;
  double tokens_per_s = 0;
  std::vector<double> bubble_share;
  std::vector<Nanoseconds> exposed_comm_ns;
  std::vector<Bytes> peak_activation_bytes;
  std::vector<Nanoseconds> cpu_ns;
  std::int64_t pairs_braided = 0;
  std::int64_t pairs_in_sequence = 0;
};

/// `step`: how many steps had been trained.
struct ValidationMetrics {
  std::int64_t step = 0;
  double validation_loss = 0;
  double validation_bits_per_byte = 0;
};

/// One line without its end, keys in the order above; numbers read back to the same bits, one that
/// is not finite is null.
std::string to_json_line(const StepMetrics& metrics);
std::string to_json_line(const ValidationMetrics& metrics);

/// An open metrics.jsonl. Its first line is {"format_version": 1}. Every line is flushed, so that a
/// run that is killed leaves whole lines.
class MetricsFile {
 public:
  /// Replaces what is there. Errors (kIo): cannot be written.
  static Expected<MetricsFile> create(const std::string& path);
  ~MetricsFile();
  MetricsFile(MetricsFile&& other) noexcept;
  MetricsFile& operator=(MetricsFile&&) = delete;
  MetricsFile(const MetricsFile&) = delete;

  /// Errors (kIo): the disk is full, ….
  Expected<void> write(const StepMetrics& metrics);
  Expected<void> write(const ValidationMetrics& metrics);

 private:
  MetricsFile(std::string path, std::FILE* file);
  Expected<void> write_line(const std::string& line);
  std::string path_;
  std::FILE* file_ = nullptr;
};

}  // namespace plait
