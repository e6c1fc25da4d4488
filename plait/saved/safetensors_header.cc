#include "plait/saved/safetensors_header.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

namespace plait {

namespace {

using Json = nlohmann::json;
using Entry = SafetensorsEntry;

constexpr std::int64_t kLengthBytes = 8;
constexpr std::int64_t kMaxHeader = 100'000'000;  // as in the format's own reader

/// The format's dtypes.
struct FileDtype {
  std::string_view name;
  std::int64_t bytes;
};
constexpr std::array kFileDtypes = {
    FileDtype{"F64", 8},     FileDtype{"F32", 4},     FileDtype{"F16", 2}, FileDtype{"BF16", 2},
    FileDtype{"F8_E4M3", 1}, FileDtype{"F8_E5M2", 1}, FileDtype{"I64", 8}, FileDtype{"I32", 4},
    FileDtype{"I16", 2},     FileDtype{"I8", 1},      FileDtype{"U64", 8}, FileDtype{"U32", 4},
    FileDtype{"U16", 2},     FileDtype{"U8", 1},      FileDtype{"BOOL", 1}};

/// What git leaves in place of a large file that was not fetched.
constexpr std::string_view kLfsPointer = "version https://git-lfs";

tl::unexpected<Error> invalid(const std::string& path, const std::string& message) {
  return fail(ErrorCode::kInvalidInput, message, path);
}

tl::unexpected<Error> io_error(const std::string& path, std::string_view what) {
  return fail(ErrorCode::kIo, fmt::format("cannot {}: {}", what, std::strerror(errno)), path);
}

/// The object's text to JSON; names that come twice are an error, which JSON readers let pass.
Expected<Json> parse_header(const std::string& path, const std::string& text) {
  std::set<std::string> names;
  std::string twice;
  const auto see = [&](int depth, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::key && depth == 1) {
      const auto& name = value.get_ref<const std::string&>();
      if (!names.insert(name).second) twice = name;
    }
    return true;
  };
  Json header = Json::parse(text, see, /*allow_exceptions=*/false);
  if (!header.is_object()) return invalid(path, "the header is not a JSON object");
  if (!twice.empty()) return invalid(path, fmt::format("tensor {} is there twice", twice));
  return header;
}

std::optional<std::int64_t> as_size(const Json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  const auto number = value.get<std::uint64_t>();
  if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    return std::nullopt;
  }
  return static_cast<std::int64_t>(number);
}

std::optional<std::vector<std::int64_t>> as_sizes(const Json& value) {
  if (!value.is_array()) return std::nullopt;
  std::vector<std::int64_t> sizes;
  for (const Json& item : value) {
    const auto size = as_size(item);
    if (!size) return std::nullopt;
    sizes.push_back(*size);
  }
  return sizes;
}

Expected<Entry> parse_entry(const std::string& path, const std::string& name, const Json& json) {
  const auto wrong = [&](const std::string& message) {
    return invalid(path, fmt::format("tensor {}: {}", name, message));
  };
  if (!json.is_object() || !json.contains("dtype") || !json["dtype"].is_string() ||
      !json.contains("shape") || !json.contains("data_offsets")) {
    return wrong("needs dtype, shape and data_offsets");
  }
  Entry entry;
  entry.dtype = json["dtype"].get<std::string>();
  const std::optional<std::int64_t> item = dtype_bytes(entry.dtype);
  if (!item) return wrong(fmt::format("dtype {} is not known", entry.dtype));
  auto shape = as_sizes(json["shape"]);
  if (!shape) return wrong("shape must be a list of sizes");
  entry.shape = *std::move(shape);
  const auto offsets = as_sizes(json["data_offsets"]);
  if (!offsets || offsets->size() != 2 || (*offsets)[0] > (*offsets)[1]) {
    return wrong("data_offsets must be a begin and an end");
  }
  entry.begin = (*offsets)[0];
  entry.end = (*offsets)[1];
  const auto bytes = tensor_bytes(*item, entry.shape);
  if (!bytes || *bytes != entry.end - entry.begin) {
    return wrong(fmt::format("has {} bytes, needs {} for {} [{}]", entry.end - entry.begin,
                             bytes ? std::to_string(*bytes) : "more than there are", entry.dtype,
                             fmt::join(entry.shape, ", ")));
  }
  return entry;
}

/// Data must be covered without gaps or overlaps, and end where the file ends.
Expected<void> check_layout(const std::string& path, const std::map<std::string, Entry>& entries,
                            std::int64_t data_bytes) {
  std::vector<std::pair<const std::string*, const Entry*>> order;
  order.reserve(entries.size());
  for (const auto& [name, entry] : entries) order.emplace_back(&name, &entry);
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->begin, a.second->end) < std::pair(b.second->begin, b.second->end);
  });
  std::int64_t next = 0;
  for (const auto& [name, entry] : order) {
    if (entry->begin != next) {
      return invalid(path, fmt::format("tensor {} begins at byte {}, must begin at {}: its data {}",
                                       *name, entry->begin, next,
                                       entry->begin < next ? "overlap others" : "leave a gap"));
    }
    next = entry->end;
  }
  if (next != data_bytes) {
    return invalid(path, fmt::format("the file has {} bytes of data, its header needs {}{}",
                                     data_bytes, next, data_bytes < next ? ": it is cut off" : ""));
  }
  return {};
}

}  // namespace

std::optional<std::int64_t> dtype_bytes(std::string_view dtype) {
  for (const FileDtype& one : kFileDtypes)
    if (one.name == dtype) return one.bytes;
  return std::nullopt;
}

std::optional<std::int64_t> tensor_bytes(std::int64_t item,
                                         const std::vector<std::int64_t>& shape) {
  std::int64_t bytes = item;
  for (const std::int64_t size : shape) {
    if (__builtin_mul_overflow(bytes, size, &bytes)) return std::nullopt;
  }
  return bytes;
}

Expected<SafetensorsHeader> parse_safetensors_header(const std::string& path,
                                                     const std::string& text,
                                                     std::int64_t data_bytes) {
  PLAIT_TRY(const Json header, parse_header(path, text));

  SafetensorsHeader file;
  file.data = kLengthBytes + static_cast<std::int64_t>(text.size());
  for (const auto& [name, json] : header.items()) {
    if (name == "__metadata__") {
      if (!json.is_object()) return invalid(path, "__metadata__ must map texts to texts");
      for (const auto& [key, value] : json.items()) {
        if (!value.is_string()) return invalid(path, "__metadata__ must map texts to texts");
        file.metadata[key] = value.get<std::string>();
      }
      continue;
    }
    PLAIT_TRY(file.entries[name], parse_entry(path, name, json));
  }
  PLAIT_TRY_VOID(check_layout(path, file.entries, data_bytes));
  return file;
}

Expected<SafetensorsHeader> read_safetensors_header(const std::string& path) {
  if (std::filesystem::is_directory(path))
    return invalid(path, "is a folder, needed a safetensors file");
  std::ifstream stream(path, std::ios::binary);
  if (!stream) return io_error(path, "read");
  std::string start(kLfsPointer.size(), '\0');
  stream.read(start.data(), static_cast<std::streamsize>(start.size()));
  if (stream && start == kLfsPointer) {
    return invalid(path, "is a git-lfs pointer, needed the file it stands for (git lfs pull)");
  }
  stream.clear();
  stream.seekg(0, std::ios::end);
  const auto size = static_cast<std::int64_t>(stream.tellg());
  stream.seekg(0);
  std::uint64_t length = 0;
  stream.read(reinterpret_cast<char*>(&length), kLengthBytes);
  if (!stream) return invalid(path, fmt::format("has {} bytes, a header needs at least 8", size));
  if (length > static_cast<std::uint64_t>(std::min(kMaxHeader, size - kLengthBytes))) {
    return invalid(
        path, fmt::format("says its header has {} bytes, but the file has only {}", length, size));
  }
  std::string text(static_cast<std::size_t>(length), '\0');
  stream.read(text.data(), static_cast<std::streamsize>(length));
  if (!stream) return io_error(path, "read");
  return parse_safetensors_header(path, text,
                                  size - kLengthBytes - static_cast<std::int64_t>(length));
}

}  // namespace plait
