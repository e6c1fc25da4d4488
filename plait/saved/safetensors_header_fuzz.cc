// Any text is a header or an error; the tensors of a header lie within the data, one behind the
// other. The first two bytes say how many bytes of data the file has.
#include "plait/saved/safetensors_header.h"

#include <cstddef>
#include <cstdint>
#include <string>

#include "plait/base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::int64_t bytes = data[0] + 256 * data[1];
  const std::string text(reinterpret_cast<const char*>(data + 2), size - 2);
  const auto header = plait::parse_safetensors_header("fuzz", text, bytes);
  if (!header) return 0;
  std::int64_t covered = 0;
  for (const auto& [name, entry] : header->entries) {
    PLAIT_CHECK(entry.begin >= 0 && entry.begin <= entry.end && entry.end <= bytes,
                "a tensor outside of the data");
    const auto item = plait::dtype_bytes(entry.dtype);
    PLAIT_CHECK(item && plait::tensor_bytes(*item, entry.shape) == entry.end - entry.begin,
                "a tensor of another size");
    covered += entry.end - entry.begin;
  }
  PLAIT_CHECK(covered == bytes, "data that belong to no tensor");
  return 0;
}
