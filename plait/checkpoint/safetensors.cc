#include "plait/checkpoint/safetensors.h"

#include <ATen/ops/empty.h>
#include <c10/core/ScalarType.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "plait/base/check.h"
#include "plait/nn/tensor_options.h"

namespace plait {

namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

using Json = nlohmann::json;
using Entry = SafetensorsEntry;

/// Those of the format's dtypes whose tensors are read and written.
struct FileDtype {
  std::string_view name;
  at::ScalarType type;
};
constexpr std::array kFileDtypes = {FileDtype{"F64", at::kDouble}, FileDtype{"F32", at::kFloat},
                                    FileDtype{"F16", at::kHalf}, FileDtype{"BF16", at::kBFloat16}};

const FileDtype* find_dtype(std::string_view name) {
  const auto* found = std::find_if(kFileDtypes.begin(), kFileDtypes.end(),
                                   [&](const FileDtype& one) { return one.name == name; });
  return found == kFileDtypes.end() ? nullptr : found;
}

const FileDtype* find_dtype(at::ScalarType type) {
  const auto* found = std::find_if(kFileDtypes.begin(), kFileDtypes.end(),
                                   [&](const FileDtype& one) { return one.type == type; });
  return found == kFileDtypes.end() ? nullptr : found;
}

std::string readable_dtypes() {
  std::string names;
  for (const FileDtype& one : kFileDtypes)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", one.name);
  return names;
}

tl::unexpected<Error> invalid(const std::string& path, const std::string& message) {
  return fail(ErrorCode::kInvalidInput, message, path);
}

tl::unexpected<Error> io_error(const std::string& path, std::string_view what) {
  return fail(ErrorCode::kIo, fmt::format("cannot {}: {}", what, std::strerror(errno)), path);
}

}  // namespace

Expected<SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  PLAIT_TRY(SafetensorsHeader header, read_safetensors_header(path));
  SafetensorsFile file;
  file.path_ = path;
  file.header_ = std::move(header);
  return file;
}

Expected<void> SafetensorsFile::check_dtype(const std::string& name) const {
  const auto found = entries().find(name);
  if (found == entries().end()) return invalid(path_, fmt::format("has no tensor {}", name));
  const std::string& dtype = found->second.dtype;
  if (find_dtype(dtype) != nullptr) return {};
  return fail(ErrorCode::kNotBuilt,
              fmt::format("tensor {} is {}, this version reads {}", name, dtype, readable_dtypes()),
              path_);
}

Expected<at::Tensor> SafetensorsFile::read(const std::string& name) const {
  PLAIT_TRY_VOID(check_dtype(name));
  const Entry& entry = entries().at(name);
  const at::Tensor tensor =
      at::empty(entry.shape, at::TensorOptions().dtype(find_dtype(entry.dtype)->type));
  std::ifstream stream(path_, std::ios::binary);
  stream.seekg(header_.data + entry.begin);
  stream.read(static_cast<char*>(tensor.data_ptr()), entry.end - entry.begin);
  if (!stream) return io_error(path_, "read");
  return tensor.to(options_of(kDtypes.parameter));
}

Expected<void> SafetensorsFile::read_bytes(const std::string& name, std::int64_t first,
                                           std::span<std::byte> into) const {
  const Entry& entry = entries().at(name);
  const auto bytes = static_cast<std::int64_t>(into.size());
  PLAIT_CHECK(first >= 0 && first + bytes <= entry.end - entry.begin, "bytes of the tensor");
  std::ifstream stream(path_, std::ios::binary);
  stream.seekg(header_.data + entry.begin + first);
  stream.read(reinterpret_cast<char*>(into.data()), bytes);
  if (!stream) return io_error(path_, "read");
  return {};
}

Expected<void> SafetensorsSink::begin(const std::vector<TensorInfo>& tensors) {
  Json header = Json::object();
  if (!metadata_.empty()) header["__metadata__"] = metadata_;
  std::int64_t offset = 0;
  for (const TensorInfo& tensor : tensors) {
    const std::optional<std::int64_t> item = dtype_bytes(tensor.dtype);
    if (!item) {
      return invalid(path_,
                     fmt::format("tensor {} has a dtype that the format lacks", tensor.name));
    }
    const std::optional<std::int64_t> bytes = tensor_bytes(*item, tensor.shape);
    PLAIT_CHECK(bytes.has_value(), "a tensor that exists has a size");
    const std::int64_t end = offset + *bytes;
    header[tensor.name] = {
        {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  missing_ = offset;
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // data are aligned, as the format advises
  const auto length = static_cast<std::uint64_t>(text.size());
  PLAIT_TRY_VOID(file_.open());
  PLAIT_TRY_VOID(put(std::as_bytes(std::span(&length, 1))));
  return put(std::as_bytes(std::span(text)));
}

Expected<void> SafetensorsSink::put(std::span<const std::byte> bytes) {
  if (observe_) observe_(bytes);
  return file_.write(bytes.data(), bytes.size());
}

Expected<void> SafetensorsSink::write(std::span<const std::byte> bytes) {
  missing_ -= static_cast<std::int64_t>(bytes.size());
  return put(bytes);
}

Expected<void> SafetensorsSink::end() {
  PLAIT_CHECK(missing_ == 0, "all bytes that the header announces have come");
  return file_.commit();
}

Expected<void> write_tensors(TensorSink& sink, const std::vector<Parameter>& tensors) {
  std::map<std::string, at::Tensor> sorted;
  std::vector<TensorInfo> infos;
  for (const Parameter& one : tensors) {
    if (!sorted.emplace(one.name, one.tensor.detach().cpu().contiguous()).second)
      return fail(ErrorCode::kInvalidInput, fmt::format("tensor {} is given twice", one.name));
    if (find_dtype(one.tensor.scalar_type()) == nullptr) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("tensor {} is {}, needed one of {}", one.name,
                              c10::toString(one.tensor.scalar_type()), readable_dtypes()));
    }
  }
  for (const auto& [name, tensor] : sorted) {
    infos.push_back(
        {name, std::string(find_dtype(tensor.scalar_type())->name), tensor.sizes().vec()});
  }
  PLAIT_TRY_VOID(sink.begin(infos));
  for (const auto& [name, tensor] : sorted) {
    PLAIT_TRY_VOID(
        sink.write({static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()}));
  }
  return sink.end();
}

Expected<void> write_safetensors(const std::string& path, const std::vector<Parameter>& tensors,
                                 const std::map<std::string, std::string>& metadata) {
  SafetensorsSink sink(path, metadata);
  Expected<void> written = write_tensors(sink, tensors);
  if (!written && written.error().where.empty()) written.error().where = path;
  return written;
}

}  // namespace plait
