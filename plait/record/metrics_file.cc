#include "plait/record/metrics_file.h"

#include <fmt/core.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <type_traits>
#include <utility>

#include "plait/record/step_fields.h"

namespace plait {
namespace {

using Json = nlohmann::json;

/// Far more than the line of a run of a hundred thousand ranks.
constexpr std::size_t kLongestLine = std::size_t{64} << 20;

std::string shown(const Json& value) {
  return value.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 40);
}

/// Reads a line's keys; remembers the first error, so that keys read as a list.
class KeyReader {
 public:
  explicit KeyReader(const Json& line) : line_(line) {}

  void read(std::string_view key, double& value) { read_as(key, value, "a finite number"); }
  template <typename Integer>
  void read(std::string_view key, Integer& value) {
    read_as(key, value, "a whole number");
  }
  template <typename Number>
  void read(std::string_view key, std::vector<Number>& values) {
    const Json* found = find(key);
    if (found == nullptr) return;
    if (!found->is_array()) return wrong(key, *found, "a list by rank");
    for (const Json& one : *found) {
      Number value{};
      if (!convert(one, value)) return wrong(key, *found, "a list of finite numbers");
      values.push_back(value);
    }
  }
  /// That a list has an entry for each rank.
  template <typename Number>
  void check_length(std::string_view key, const std::vector<Number>& values, std::size_t ranks) {
    if (values.size() == ranks || !error_.empty()) return;
    error_ =
        fmt::format("{} has {} entries, needed {}, one for each rank", key, values.size(), ranks);
  }
  const std::string& error() const { return error_; }

 private:
  const Json* find(std::string_view key) {
    if (!error_.empty()) return nullptr;
    const auto found = line_.find(key);
    if (found != line_.end()) return &*found;
    error_ = fmt::format("the key {} is missing", key);
    return nullptr;
  }
  template <typename Number>
  void read_as(std::string_view key, Number& value, const char* needed) {
    const Json* found = find(key);
    if (found != nullptr && !convert(*found, value)) wrong(key, *found, needed);
  }
  static bool convert(const Json& found, double& value) {
    if (!found.is_number()) return false;
    value = found.get<double>();
    return std::isfinite(value);
  }
  template <typename Integer>
  static bool convert(const Json& found, Integer& value) {
    if (!found.is_number_integer() ||
        (found.is_number_unsigned() &&
         found.get<std::uint64_t>() >
             static_cast<std::uint64_t>(std::numeric_limits<Integer>::max())) ||
        (!found.is_number_unsigned() &&
         found.get<std::int64_t>() < std::numeric_limits<Integer>::min()))
      return false;
    value = found.get<Integer>();
    return true;
  }
  void wrong(std::string_view key, const Json& found, const char* needed) {
    error_ = fmt::format("{} is {}, needed {}", key, shown(found), needed);
  }

  const Json& line_;
  std::string error_;
};

StepLine read_step(KeyReader& keys) {
  StepLine line;
  each_stored_field(
      [&](const StepField& field, const auto place) { keys.read(field.name, line.*place); });
  const std::size_t ranks = line.peak_activation_bytes.size();
  const std::size_t timed = line.bubble_share.empty() ? 0 : ranks;
  each_stored_field([&](const StepField& field, const auto place) {
    if constexpr (std::is_convertible_v<decltype(line.*place), const Integers&> ||
                  std::is_convertible_v<decltype(line.*place), const Numbers&>)
      keys.check_length(field.name, line.*place, field.needs_timeline() ? timed : ranks);
  });
  return line;
}

ValidationLine read_validation(KeyReader& keys, bool tokens_are_bytes) {
  ValidationLine line;
  keys.read("step", line.step);
  keys.read("validation_loss", line.loss);
  keys.read("tokens", line.tokens);
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
                             header.contains("version") ? shown(header["version"]) : "missing",
                             needed["version"].dump()));
  }
  return {};
}

Expected<MetricsLine> MetricsReader::read_line(std::string_view line) const {
  const Json json = Json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return wrong("is not a JSON object, needed a step or a validation");
  KeyReader keys(json);
  MetricsLine read =
      json.contains("validation_loss")
          ? MetricsLine(read_validation(keys, json.contains("validation_bits_per_byte")))
          : MetricsLine(read_step(keys));
  if (!keys.error().empty()) return wrong(keys.error());
  return read;
}

tl::unexpected<Error> MetricsReader::wrong(std::string message) const {
  return fail(ErrorCode::kInvalidInput, std::move(message),
              fmt::format("{}:{}", name_, line_count_));
}

}  // namespace plait
