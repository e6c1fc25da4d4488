/// Which torch a lowered CSV is written for.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "plait/ir/schedule.h"

namespace plait {

/// A dialect is a property of a file's text: in memory there is one IR.
enum class Dialect : std::uint8_t {
  kTorch213,  ///< and before: sends and reductions end by themselves, there are no waits
  kTorch215,  ///< every send and every reduction has its wait
};

struct DialectInfo {
  Dialect dialect;
  std::string_view name;     ///< of --dialect
  std::string_view summary;  ///< of messages
};
/// By Dialect.
inline constexpr std::array kDialects = {
    DialectInfo{Dialect::kTorch213, "torch-2.13", "torch 2.13 or before, without waits"},
    DialectInfo{Dialect::kTorch215, "torch-2.15", "torch 2.15, with waits"},
};
constexpr const DialectInfo& info(Dialect dialect) {
  return kDialects[static_cast<std::size_t>(dialect)];
}
inline constexpr Dialect kNewestDialect = kDialects.back().dialect;

/// The dialect that a schedule's lists are in; none if they hold nothing in which dialects differ:
/// no message, no reduction. Cost: O(actions).
std::optional<Dialect> dialect_of(const Schedule& schedule);

/// True if any list holds a WAIT_SEND_F, WAIT_SEND_B or WAIT_REDUCE_GRAD. Cost: O(actions).
bool has_waits(const Schedule& schedule);

}  // namespace plait
