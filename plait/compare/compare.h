/// Every schedule of a shape under the same costs: which is the fastest that fits.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/base/units.h"
#include "plait/sim/bound/price.h"
#include "plait/sim/bound/residency.h"
#include "plait/sim/cost_file.h"

namespace plait {

/// A rank's cap: of the activations of so many micro-batches' share, or in bytes.
struct MemoryCap {
  std::optional<double> activations{};
  std::optional<Bytes> bytes{};

  bool is_given() const { return activations || bytes; }
};

/// "4.5" (activations) or "64GiB"; "" is no cap. Errors: `where` says what the text is of.
Expected<MemoryCap> parse_memory(const std::string& text, const std::string& where);

struct CompareQuestion {
  int ranks = 1;         ///< P
  int microbatches = 1;  ///< M
  int chunks = 0;        ///< V, where a schedule leaves a choice; 0: its default
  bool any_m = false;    ///< of ScheduleShape
  MemoryCap cap{};
  std::string cap_name = "--memory";             ///< of messages
  std::optional<ResidencyQuestion> lowerings{};  ///< absent: schedules as they stand
  bool exact_bound = false;                      ///< one_rank_relaxation()
};

struct LeftOut {
  std::string schedule;
  std::string why;
};

struct Comparison {
  ResidencyQuestion question;       ///< of the lowerings
  std::vector<PricedLowering> fit;  ///< of each schedule the best that fits, the fastest first
  std::vector<LeftOut> left_out;    ///< in the order of kGenerators
  std::optional<PricedLowering> over_cap;  ///< the best that holds too much
  std::size_t tried = 0;                   ///< lowerings, all proven

  bool searches() const { return question.any_active_stages || question.any_lookahead; }
  /// The best that holds too much, if it is faster than all that fit; else null.
  const PricedLowering* kept_out_by_cap() const;
};

/// What the rank that holds most holds, in activations of a rank's whole share.
double peak_activations(const Price& price);

/// "--max-active-stages 2 --unshard-lookahead auto"
std::string flags_of(const PricedLowering& lowering);

/// Generates, proves and prices all schedules of kGenerators. Costs are those of a rank's whole
/// share, whatever its number of stages; without times F, I and W of a share take 12 ns each.
/// Errors: costs that are lists by stage, or do not fit; a cap in bytes without costs in bytes. A
/// schedule that the shape does not have is left out, with why. Cost: that of price() for each.
Expected<Comparison> compare_schedules(const CompareQuestion& question, const CostSettings& costs);

}  // namespace plait
