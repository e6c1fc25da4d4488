// Any bytes are either a placement that prints and reads back as it is, or an error.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "plait/base/check.h"
#include "plait/ir/text_placement.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace plait;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const int ranks = 1 + data[0] % 8;
  const Expected<Placement> placement = parse_placement(text, ranks, ranks * 2);
  if (!placement) return 0;
  const Expected<Placement> again = parse_placement(print_placement(*placement), ranks, ranks * 2);
  PLAIT_CHECK(again && *again == *placement, "print and parse are inverse");
  return 0;
}
