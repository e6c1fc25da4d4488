/// What the numbers of a tensor are: the one list of dtypes, with names and bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "plait/base/units.h"

namespace plait {

enum class Dtype : std::uint8_t {
  kNone,  ///< no tensor in this place, such as the gradient of integers
  kBool,
  kUint8,
  kInt8,
  kInt16,
  kInt32,
  kInt64,
  kFloat16,
  kBFloat16,
  kFloat32,
  kFloat64,
  kComplex64,
  kComplex128,
  kFloat8E4m3fn,
  kFloat8E5m2,
};

struct DtypeInfo {
  Dtype dtype;
  const char* name;
  Bytes bytes;        ///< of one number
  bool has_gradient;  ///< real and complex numbers have one
};
/// By Dtype.
inline constexpr std::array kDtypeTable{
    DtypeInfo{Dtype::kNone, "none", 0, false},
    DtypeInfo{Dtype::kBool, "bool", 1, false},
    DtypeInfo{Dtype::kUint8, "uint8", 1, false},
    DtypeInfo{Dtype::kInt8, "int8", 1, false},
    DtypeInfo{Dtype::kInt16, "int16", 2, false},
    DtypeInfo{Dtype::kInt32, "int32", 4, false},
    DtypeInfo{Dtype::kInt64, "int64", 8, false},
    DtypeInfo{Dtype::kFloat16, "float16", 2, true},
    DtypeInfo{Dtype::kBFloat16, "bfloat16", 2, true},
    DtypeInfo{Dtype::kFloat32, "float32", 4, true},
    DtypeInfo{Dtype::kFloat64, "float64", 8, true},
    DtypeInfo{Dtype::kComplex64, "complex64", 8, true},
    DtypeInfo{Dtype::kComplex128, "complex128", 16, true},
    DtypeInfo{Dtype::kFloat8E4m3fn, "float8_e4m3fn", 1, true},
    DtypeInfo{Dtype::kFloat8E5m2, "float8_e5m2", 1, true},
};
constexpr const DtypeInfo& info(Dtype dtype) {
  return kDtypeTable[static_cast<std::size_t>(dtype)];
}

constexpr Bytes bytes_of(Dtype dtype) { return info(dtype).bytes; }

/// kNone if no dtype has the name.
constexpr Dtype dtype_named(std::string_view name) {
  for (const DtypeInfo& one : kDtypeTable) {
    if (one.name == name) return one.dtype;
  }
  return Dtype::kNone;
}

static_assert(
    [] {
      for (std::size_t i = 0; i < kDtypeTable.size(); ++i) {
        if (kDtypeTable[i].dtype != static_cast<Dtype>(i)) return false;
      }
      return true;
    }(),
    "row i of the table is the dtype of value i");

}  // namespace plait
