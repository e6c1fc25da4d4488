#include "plait/record/step_report.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <numbers>
#include <type_traits>
#include <utility>

#include "plait/base/check.h"
#include "plait/record/step_fields.h"

namespace plait {

using Json = nlohmann::ordered_json;

// Found by nlohmann::json.
static void to_json(Json& json, const SquareSums& sums) {
  json = {sums.name, sums.chunk, sums.sums};
}
static void from_json(const Json& json, SquareSums& sums) {
  json.at(0).get_to(sums.name);
  json.at(1).get_to(sums.chunk);
  json.at(2).get_to(sums.sums);
}

static void to_json(Json& json, const NotFinite& one) {
  json = {static_cast<int>(one.phase), one.microbatch, one.stage, one.what};
}
static void from_json(const Json& json, NotFinite& one) {
  one.phase = static_cast<NotFinite::Phase>(json.at(0).get<int>());
  json.at(1).get_to(one.microbatch);
  json.at(2).get_to(one.stage);
  json.at(3).get_to(one.what);
}

std::string NotFinite::text() const {
  std::string text = what;
  if (microbatch >= 0) text += fmt::format(" at micro-batch {}", microbatch);
  if (stage >= 0) text += fmt::format(", stage {}", stage);
  return text;
}

namespace {

/// What there is of each instruction goes as bytes: as lists of numbers it took most of the time
/// after a step.
template <typename Entry>
Json bytes_of(const std::vector<Entry>& entries) {
  static_assert(std::is_trivially_copyable_v<Entry>);
  std::vector<std::uint8_t> bytes(entries.size() * sizeof(Entry));
  if (!bytes.empty()) std::memcpy(bytes.data(), entries.data(), bytes.size());
  return Json::binary(std::move(bytes));
}

template <typename Entry>
std::vector<Entry> entries_of(const Json& json) {
  const std::vector<std::uint8_t>& bytes = json.get_binary();
  std::vector<Entry> entries(bytes.size() / sizeof(Entry));
  if (!entries.empty()) std::memcpy(entries.data(), bytes.data(), entries.size() * sizeof(Entry));
  return entries;
}

/// Calls `visit` with each member of RankReport that fills a field of a step's line.
template <typename Visit>
void each_reported_field(const Visit& visit) {
  for (const StepField& field : kStepFields) {
    if (const auto* number = std::get_if<int RankReport::*>(&field.source)) visit(*number);
    if (const auto* number = std::get_if<std::int64_t RankReport::*>(&field.source)) visit(*number);
  }
}

}  // namespace

std::string RankReport::pack() const {
  Json fields = {square_sums,  losses,      bytes_of(times), bytes_of(memory),
                 router_loads, stop_signal, passage,         not_finite};
  each_reported_field([&](const auto member) { fields.push_back(this->*member); });
  std::string bytes;
  Json::to_cbor(fields, bytes);
  return bytes;
}

Expected<RankReport> RankReport::unpack(std::string_view bytes) {
  try {
    const Json fields = Json::from_cbor(bytes);
    RankReport report;
    fields.at(0).get_to(report.square_sums);
    fields.at(1).get_to(report.losses);
    report.times = entries_of<std::array<Nanoseconds, 2>>(fields.at(2));
    report.memory = entries_of<EventMemory>(fields.at(3));
    fields.at(4).get_to(report.router_loads);
    fields.at(5).get_to(report.stop_signal);
    fields.at(6).get_to(report.passage);
    fields.at(7).get_to(report.not_finite);
    std::size_t next = 8;
    each_reported_field([&](const auto member) { fields.at(next++).get_to(report.*member); });
    return report;
  } catch (const Json::exception& error) {
    return fail(ErrorCode::kPeer,
                std::string("another rank's report cannot be read: ") + error.what());
  }
}

namespace {

/// One field from one kind of source: the entries of a list, or one number.
struct FieldFiller {
  const std::vector<RankReport>& reports;
  const StepMetrics& metrics;
  StepLine& line;

  void operator()(Integers StepLine::*place, std::int64_t RankReport::*source) const {
    for (const RankReport& report : reports) (line.*place).push_back(report.*source);
  }
  void operator()(int StepLine::*place, int RankReport::*source) const {
    for (const RankReport& report : reports) line.*place += report.*source;
  }
  void operator()(Integers StepLine::*place, Nanoseconds RankMetrics::*source) const {
    for (const RankMetrics& rank : metrics.ranks) (line.*place).push_back(rank.*source);
  }
  void operator()(Numbers StepLine::*place, double (StepMetrics::*source)(int) const) const {
    for (int rank = 0; rank < static_cast<int>(metrics.ranks.size()); ++rank)
      (line.*place).push_back((metrics.*source)(rank));
  }
  void operator()(std::int64_t StepLine::*place, Nanoseconds StepMetrics::*source) const {
    line.*place = metrics.*source;
  }
  void operator()(double StepLine::*place, double (StepMetrics::*source)() const) const {
    line.*place = (metrics.*source)();
  }
  template <typename Place>
  void operator()(Place, std::monostate) const {}
  template <typename Place, typename Source>
  void operator()(Place, Source) const {
    PLAIT_CHECK(false, "a field of a step that its source cannot fill");
  }
};

}  // namespace

void fill_step_line(const std::vector<RankReport>& reports, const StepMetrics& metrics,
                    StepLine& line) {
  const FieldFiller filler{reports, metrics, line};
  for (const StepField& field : kStepFields) std::visit(filler, field.place, field.source);
}

std::string print_step_table() {
  std::string text = "| key | meaning |\n|---|---|\n";
  for (const StepField& field : kStepFields)
    text += fmt::format("| `{}` | {} |\n", field.name, field.meaning);
  return text;
}

double StepLine::tokens_per_s() const {
  return step_ns == 0 ? 0 : static_cast<double>(tokens) * 1e9 / static_cast<double>(step_ns);
}

double StepLine::worst_bubble() const {
  return bubble_share.empty() ? 0 : *std::max_element(bubble_share.begin(), bubble_share.end());
}

double StepLine::worst_exposed() const {
  if (span_ns == 0 || exposed_comm_ns.empty()) return 0;
  return static_cast<double>(*std::max_element(exposed_comm_ns.begin(), exposed_comm_ns.end())) /
         static_cast<double>(span_ns);
}

double ValidationLine::bits_per_token() const { return loss / std::numbers::ln2; }

std::string metrics_header() { return Json{{"format", "plait metrics"}, {"version", 1}}.dump(); }

std::string print_json(const StepLine& line) {
  Json fields = Json::object();
  for (const StepField& field : kStepFields) {
    std::visit(
        [&](const auto place) { fields[std::string(field.name)] = std::invoke(place, line); },
        field.place);
  }
  return fields.dump();
}

std::string print_json(const ValidationLine& line) {
  Json fields = {{"step", line.step}, {"validation_loss", line.loss}};
  if (line.tokens_are_bytes) fields["validation_bits_per_byte"] = line.bits_per_token();
  fields["tokens"] = line.tokens;
  return fields.dump();
}

}  // namespace plait
