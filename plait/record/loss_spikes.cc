#include "plait/record/loss_spikes.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

namespace plait {

std::string LossSpikes::add(double loss) {
  constexpr double kDeviations = 6, kShare = 0.1;
  if (!std::isfinite(loss)) return "";
  const std::size_t known = std::min(count_, kWindow);
  double mean = 0, squares = 0;
  for (std::size_t i = 0; i < known; ++i) mean += last_[i] / static_cast<double>(known);
  for (std::size_t i = 0; i < known; ++i) squares += (last_[i] - mean) * (last_[i] - mean);
  const double deviation = known == 0 ? 0 : std::sqrt(squares / static_cast<double>(known));
  if (known >= kLeast && loss - mean > std::max(kDeviations * deviation, kShare * std::abs(mean))) {
    return fmt::format(
        "loss {:.4f} is a spike: the last {} were {:.4f} on average, with a deviation of {:.4f}",
        loss, known, mean, deviation);
  }
  last_[count_++ % kWindow] = loss;
  return "";
}

}  // namespace plait
