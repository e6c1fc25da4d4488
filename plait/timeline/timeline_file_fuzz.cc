// Any bytes are either a timeline that prints and reads back as it is, or an error.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "plait/base/check.h"
#include "plait/timeline/timeline_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace plait;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Expected<Timeline> timeline = read_timeline(text, "fuzz");
  if (!timeline) return 0;
  const std::string printed = print_chrome_trace(*timeline);
  const Expected<Timeline> again = read_timeline(printed, "fuzz");
  PLAIT_CHECK(again && print_chrome_trace(*again) == printed, "print and read are inverse");
  return 0;
}
