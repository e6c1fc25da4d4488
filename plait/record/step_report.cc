#include "plait/record/step_report.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numbers>
#include <type_traits>
#include <utility>

namespace plait {

using Json = nlohmann::ordered_json;

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

}  // namespace

std::string RankReport::pack() const {
  const Json fields = {square_sums,           losses,      bytes_of(times),
                       peak_activation_bytes, cpu_ns,      pairs_in_sequence,
                       whole_backwards,       stop_signal, pairs_braided,
                       router_loads,          passage,     bytes_of(memory)};
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
    fields.at(3).get_to(report.peak_activation_bytes);
    fields.at(4).get_to(report.cpu_ns);
    fields.at(5).get_to(report.pairs_in_sequence);
    fields.at(6).get_to(report.whole_backwards);
    fields.at(7).get_to(report.stop_signal);
    fields.at(8).get_to(report.pairs_braided);
    fields.at(9).get_to(report.router_loads);
    fields.at(10).get_to(report.passage);
    report.memory = entries_of<EventMemory>(fields.at(11));
    return report;
  } catch (const Json::exception& error) {
    return fail(ErrorCode::kPeer,
                std::string("another rank's report cannot be read: ") + error.what());
  }
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
  return Json{{"step", line.step},
              {"loss", line.loss},
              {"grad_norm", line.grad_norm},
              {"learning_rate", line.learning_rate},
              {"tokens", line.tokens},
              {"step_ns", line.step_ns},
              {"tokens_per_s", line.tokens_per_s()},
              {"bubble_share", line.bubble_share},
              {"exposed_comm_ns", line.exposed_comm_ns},
              {"peak_activation_bytes", line.peak_activation_bytes},
              {"cpu_ns", line.cpu_ns},
              {"pairs_braided", line.pairs_braided},
              {"pairs_in_sequence", line.pairs_in_sequence},
              {"whole_backwards", line.whole_backwards},
              {"fill_ns", line.fill_ns},
              {"steady_ns", line.steady_ns},
              {"drain_ns", line.drain_ns},
              {"span_ns", line.span_ns},
              {"mean_bubble_share", line.mean_bubble_share},
              {"peer_wait_ns", line.peer_wait_ns},
              {"transfer_ns", line.transfer_ns},
              {"hidden_comm_ns", line.hidden_comm_ns},
              {"overlap_efficiency", line.overlap_efficiency},
              {"clock_error_ns", line.clock_error_ns}}
      .dump();
}

std::string print_json(const ValidationLine& line) {
  Json fields = {{"step", line.step}, {"validation_loss", line.loss}};
  if (line.tokens_are_bytes) fields["validation_bits_per_byte"] = line.bits_per_token();
  fields["tokens"] = line.tokens;
  return fields.dump();
}

}  // namespace plait
