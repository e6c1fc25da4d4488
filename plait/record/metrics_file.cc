#include "plait/record/metrics_file.h"

#include <fmt/core.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <type_traits>
#include <utility>

#include "plait/base/json_node.h"
#include "plait/base/key_reader.h"
#include "plait/base/read_file.h"
#include "plait/record/step_fields.h"

namespace plait {
namespace {

using Json = nlohmann::json;

/// Far more than the line of a run of a hundred thousand ranks.
constexpr std::size_t kLongestLine = std::size_t{64} << 20;

using Keys = KeyReader<JsonNode<Json>>;

StepLine read_step(Keys& keys) {
  StepLine line;
  const bool skipped = keys.find("skipped").integer() == 1;
  each_stored_field([&](const StepField& field, const auto place) {
    if constexpr (std::is_same_v<decltype(place), double StepLine::*const>) {
      // JSON has no name for what is not finite.
      if (skipped && keys.find(field.name).is_null()) {
        line.*place = std::numeric_limits<double>::quiet_NaN();
        return;
      }
    }
    keys.require(field.name, line.*place);
  });
  const std::size_t ranks = line.peak_activation_bytes.size();
  const std::size_t timed = line.bubble_share.empty() ? 0 : ranks;
  each_stored_field([&](const StepField& field, const auto place) {
    if constexpr (std::is_convertible_v<decltype(line.*place), const Integers&> ||
                  std::is_convertible_v<decltype(line.*place), const Numbers&>) {
      const std::size_t entries = (line.*place).size();
      const std::size_t needed = field.needs_timeline() ? timed : ranks;
      if (entries == needed) return;
      keys.fail(fmt::format("{} has {} entries, needed {}, one for each rank", field.name, entries,
                            needed),
                keys.table());
    }
  });
  return line;
}

ValidationLine read_validation(Keys& keys, bool tokens_are_bytes) {
  ValidationLine line;
  keys.require("step", line.step);
  keys.require("validation_loss", line.loss);
  keys.require("tokens", line.tokens);
  line.tokens_are_bytes = tokens_are_bytes;
  return line;
}

}  // namespace

Expected<std::vector<MetricsLine>> MetricsReader::read(std::string_view bytes) {
  std::vector<MetricsLine> lines;
  while (!bytes.empty()) {
    const std::size_t end = bytes.find('\n');
    begun_ += bytes.substr(0, end);
    if (begun_.size() > kLongestLine) {
      ++line_count_;
      return wrong(fmt::format("the line is longer than {} bytes", kLongestLine));
    }
    if (end == std::string_view::npos) break;
    bytes.remove_prefix(end + 1);
    const std::string line = std::exchange(begun_, {});
    if (++line_count_ == 1) {
      PLAIT_TRY_VOID(read_header(line));
      continue;
    }
    PLAIT_TRY(MetricsLine read, read_line(line));
    if (const auto* step = std::get_if<StepLine>(&read)) {
      if (step->step <= step_)
        return wrong(fmt::format("step {} follows step {}, needed a later one", step->step, step_));
      if (step->step_ns < 0)
        return wrong(fmt::format("step_ns is {}, needed 0 or more", step->step_ns));
      step_ = step->step;
    }
    lines.push_back(std::move(read));
  }
  return lines;
}

Expected<void> MetricsReader::read_header(std::string_view line) const {
  const Json header = Json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
  const Json needed = Json::parse(metrics_header());
  if (!header.is_object() || !header.contains("format") || header["format"] != needed["format"])
    return wrong(fmt::format("is not a run's metrics: needed {} first", metrics_header()));
  if (!header.contains("version") || header["version"] != needed["version"]) {
    return wrong(fmt::format("the metrics' version is {}, this program reads {}",
                             header.contains("version") ? shown_json(header["version"]) : "missing",
                             needed["version"].dump()));
  }
  return {};
}

Expected<MetricsLine> MetricsReader::read_line(std::string_view line) const {
  const Json json = Json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return wrong("is not a JSON object, needed a step or a validation");
  FirstError error;
  Keys keys(JsonNode<Json>(json), place(), error);
  MetricsLine read =
      json.contains("validation_loss")
          ? MetricsLine(read_validation(keys, json.contains("validation_bits_per_byte")))
          : MetricsLine(read_step(keys));
  PLAIT_TRY_VOID(error.result());
  return read;
}

Expected<MetricsUntil> metrics_until(const std::string& path, int step) {
  PLAIT_TRY(const std::string bytes, read_file(path, "metrics"));
  MetricsReader reader(path);
  MetricsUntil until;
  until.missing = step;
  std::size_t begin = 0;
  for (std::size_t end = bytes.find('\n'); end != std::string::npos;
       begin = end + 1, end = bytes.find('\n', begin)) {
    const std::string_view line = std::string_view(bytes).substr(begin, end + 1 - begin);
    PLAIT_TRY(const std::vector<MetricsLine> read, reader.read(line));
    bool stays = true;  // the header
    for (const MetricsLine& one : read) {
      const auto* of_step = std::get_if<StepLine>(&one);
      stays =
          of_step != nullptr ? of_step->step <= step : std::get<ValidationLine>(one).step < step;
      if (of_step != nullptr && stays) --until.missing;
    }
    if (stays) until.lines += line;
  }
  if (until.lines.empty()) until.lines = metrics_header() + "\n";
  return until;
}

tl::unexpected<Error> MetricsReader::wrong(std::string message) const {
  return fail(ErrorCode::kInvalidInput, std::move(message), place());
}

ErrorPlace MetricsReader::place() const {
  return {.file = name_, .line = static_cast<int>(line_count_)};
}

}  // namespace plait
