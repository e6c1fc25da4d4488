// Any bytes are either a schedule that prints and reads back to the same lists, or an error.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "plait/base/check.h"
#include "plait/ir/forms/csv.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace plait;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Expected<Schedule> schedule = read_csv(text, "fuzz", {});
  if (!schedule) return 0;
  const Expected<Schedule> again = read_csv(print_csv(*schedule), "fuzz", {});
  PLAIT_CHECK(again && again->ranks == schedule->ranks, "print and read are inverse");
  return 0;
}
