/// What the header of a schedule's file says; shared by the text form and JSON.
#pragma once

#include <cstdint>
#include <string_view>

namespace plait {

inline constexpr int kTextVersion = 1;

/// The numbers of a header, each with its largest value; all are at least 1.
struct HeaderNumber {
  std::string_view name;
  std::int32_t limit;
};
inline constexpr HeaderNumber kHeaderNumbers[] = {
    {"ranks", 1 << 16}, {"stages", 1 << 20}, {"microbatches", 1 << 30}};

}  // namespace plait
