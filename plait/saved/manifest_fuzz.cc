// Any text is a manifest or an error; a manifest names files of its own folder only, and prints to
// what reads back to the same.
#include "plait/saved/manifest.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "plait/base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const plait::Expected<plait::Manifest> manifest = plait::parse_manifest("manifest.json", text);
  if (!manifest) return 0;
  for (const auto& [name, seal] : manifest->files) {
    PLAIT_CHECK(!name.empty() && name.front() != '.' && name.find('/') == std::string::npos,
                "a file outside of the checkpoint");
  }
  const auto again = plait::parse_manifest("manifest.json", plait::print_manifest(*manifest));
  PLAIT_CHECK(again && *again == *manifest, "print and read are not inverse");
  return 0;
}
