// Any bytes are either lines, the same in one piece and in two, that print and read back, or an
// error.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "plait/base/check.h"
#include "plait/record/metrics_file.h"

namespace {

using plait::Expected;
using plait::MetricsLine;
using plait::MetricsReader;

std::string print(const std::vector<MetricsLine>& lines) {
  std::string text;
  for (const MetricsLine& line : lines)
    text += std::visit([](const auto& one) { return plait::print_json(one); }, line) + "\n";
  return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Expected<std::vector<MetricsLine>> lines = MetricsReader("fuzz").read(text);

  MetricsReader pieces("fuzz");
  const Expected<std::vector<MetricsLine>> begin = pieces.read(text.substr(0, size / 2));
  const Expected<std::vector<MetricsLine>> end = begin ? pieces.read(text.substr(size / 2)) : begin;
  PLAIT_CHECK(end.has_value() == lines.has_value(), "pieces are read as the whole is");
  if (!lines) return 0;
  PLAIT_CHECK(print(*begin) + print(*end) == print(*lines), "pieces are read as the whole is");
  const auto again = MetricsReader("fuzz").read(plait::metrics_header() + "\n" + print(*lines));
  PLAIT_CHECK(again && print(*again) == print(*lines), "print and read are inverse");
  return 0;
}
