/// Notes a loss that is far above those before it. Knows no torch.
#pragma once

#include <array>
#include <cstddef>
#include <string>

namespace plait {

/// A step's loss is a spike if it is above the mean of the last 32 losses by more than 6 of their
/// standard deviations and by more than a tenth of the mean. Before there are 8 none is one. Spikes
/// and losses that are not finite do not count among the 32. One run's.
class LossSpikes {
 public:
  /// "loss 4.1000 is a spike: the last 32 were 2.3000 on average, with a deviation of 0.0400";
  /// empty: it is none.
  std::string add(double loss);

 private:
  static constexpr std::size_t kWindow = 32, kLeast = 8;
  std::array<double, kWindow> last_{};
  std::size_t count_ = 0;  // of all that were taken in
};

}  // namespace plait
