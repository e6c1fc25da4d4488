// Any bytes are either a schedule that every form with a header gives back, or an error.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "plait/base/check.h"
#include "plait/ir/forms/text_forms.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace plait;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Expected<Schedule> schedule = read_schedule(text, "fuzz", {});
  if (!schedule) return 0;
  for (const FormInfo& form : kForms) {
    if (form.name == "csv") continue;  // it cannot say all that a header can
    const Expected<Schedule> again = read_schedule(form.print(*schedule), "fuzz", {});
    PLAIT_CHECK(again && *again == *schedule, "print and read are inverse");
  }
  return 0;
}
