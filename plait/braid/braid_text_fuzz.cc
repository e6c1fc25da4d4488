// Any bytes are either a braid that prints and reads back as it is, or an error.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "plait/base/check.h"
#include "plait/braid/braid_text.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace plait;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const auto read : {read_braid_text, read_braid_csv}) {
    const Expected<LayerBraid> braid = read(text, "fuzz");
    if (!braid) continue;
    const Expected<LayerBraid> again = read_braid_text(print_braid_text(*braid), "fuzz");
    PLAIT_CHECK(again && *again == *braid, "print and read are inverse");
  }
  return 0;
}
