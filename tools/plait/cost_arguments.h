/// What `simulate` and `compare` share: the flags for costs, and how a price is printed.
#pragma once

#include <CLI/CLI.hpp>
#include <array>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "plait/sim/bound/price.h"
#include "plait/sim/cost_file.h"
#include "plait/sim/simulate.h"

namespace plait::tools {

/// --costs FILE and its keys as flags, which are laid over the file's.
struct CostArguments {
  std::string file;
  std::array<std::string, kStageKeys.size()> stage;
  std::optional<std::int64_t> comm;
  std::optional<std::int64_t> latency;
  std::optional<std::int64_t> bandwidth;
  std::optional<std::int64_t> message_bytes;
  std::optional<int> replicas;
  std::optional<std::int64_t> collective_latency;
  std::optional<std::int64_t> collective_bandwidth;
  std::string pairs;
  std::optional<std::int64_t> pair;
  std::optional<double> share;

  static std::shared_ptr<CostArguments> add_to(CLI::App& command);
  Expected<CostSettings> settings() const;
  /// Whether the user gave any.
  bool is_given() const;
};

/// The fields of `simulate --json`.
nlohmann::ordered_json print_price_json(const Price& price);

/// The unit in which times of about `typical` are read most easily.
struct TimeUnit {
  const char* name;
  Nanoseconds nanoseconds;

  static TimeUnit for_times_of(Nanoseconds typical);
  /// Without the unit's name.
  std::string print(Nanoseconds time) const;
};

}  // namespace plait::tools
