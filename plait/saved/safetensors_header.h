/// The header of a safetensors file: which tensors stand where. Knows no torch.
/// Source: https://github.com/huggingface/safetensors#format
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "plait/base/error.h"

namespace plait {

struct SafetensorsEntry {
  std::string dtype;  ///< as in the file: "F32", "BF16", "F16", …
  std::vector<std::int64_t> shape;
  std::int64_t begin = 0;  ///< bytes from the start of the data
  std::int64_t end = 0;
};

struct SafetensorsHeader {
  std::int64_t data = 0;  ///< offset of the data in the file
  std::map<std::string, SafetensorsEntry> entries;
  std::map<std::string, std::string> metadata;
};

/// `text`: the JSON behind the length, `data_bytes`: what the file has behind that. Errors
/// (kInvalidInput) name the file, the tensor, what was found and what was needed: offsets that
/// overlap or leave gaps, sizes other than dtype and shape say, data that are shorter or longer.
/// No size that the header says is taken from memory: it takes what the text itself needs.
Expected<SafetensorsHeader> parse_safetensors_header(const std::string& path,
                                                     const std::string& text,
                                                     std::int64_t data_bytes);
/// Of a file. Before room is taken for the header, its length is held against the file's and
/// against the most that the format allows. Errors: also kIo.
Expected<SafetensorsHeader> read_safetensors_header(const std::string& path);

/// Of one number; none if the format has no such dtype.
std::optional<std::int64_t> dtype_bytes(std::string_view dtype);
/// Bytes of a tensor with items of so many; none if they do not fit into 63 bits.
std::optional<std::int64_t> tensor_bytes(std::int64_t item, const std::vector<std::int64_t>& shape);

}  // namespace plait
