/// How replicas share out what they hold of the same parameters.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace plait {

/// Each mode cuts what the one before it cuts, and more. Of D members each owns a D-th.
enum class ShardMode : std::uint8_t {
  kNone,        ///< every member holds everything whole
  kOptimizer,   ///< the optimiser's moments are cut (ZeRO-1)
  kGradients,   ///< gradients too, once they are reduced (ZeRO-2)
  kParameters,  ///< parameters too: whole from their stage's UNSHARD to its RESHARD (ZeRO-3)
};

/// By mode, the names of parallel.shard.
inline constexpr std::array<std::string_view, 4> kShardModeNames{"none", "optimizer", "gradients",
                                                                 "parameters"};

/// Of a name in the table; any other is kNone.
constexpr ShardMode shard_mode_of(std::string_view name) {
  for (std::size_t mode = 0; mode < kShardModeNames.size(); ++mode) {
    if (kShardModeNames[mode] == name) return static_cast<ShardMode>(mode);
  }
  return ShardMode::kNone;
}
constexpr std::string_view name_of(ShardMode mode) {
  return kShardModeNames[static_cast<std::size_t>(mode)];
}

}  // namespace plait
