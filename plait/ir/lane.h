/// Lane: what one rank does in order.
#pragma once

#include <array>
#include <cstdint>

namespace plait {

enum class Lane : std::uint8_t { kCompute, kCommunication };
inline constexpr std::array<const char*, 2> kLaneNames{"compute", "communication"};  ///< by Lane

}  // namespace plait
