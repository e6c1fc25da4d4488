#include "plait/draw/loss_curve.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace plait {
namespace {

constexpr int kLabel = 8;  // columns left of the curve

/// The bit of a braille sign's point, by row and column.
constexpr std::array<std::array<unsigned, 2>, 4> kPoints{
    {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}}};

/// U+2800 with these points, in UTF-8.
std::string braille(unsigned points) {
  if (points == 0) return " ";
  return {'\xe2', static_cast<char>(0xa0U | points >> 6U),
          static_cast<char>(0x80U | (points & 0x3fU))};
}

class Curve {
 public:
  Curve(const std::vector<LossPoint>& losses, const std::vector<LossPoint>& validations,
        int columns, int rows)
      : losses_(losses),
        validations_(validations),
        width_(columns - kLabel),
        rows_(rows),
        signs_(static_cast<std::size_t>(width_) * static_cast<std::size_t>(rows)) {
    last_step_ = losses.back().step;
    for (const LossPoint& one : validations) last_step_ = std::max(last_step_, one.step);
    average();
    low_ = high_ = means_.front();
    for (const double mean : means_) include(mean);
    for (const LossPoint& one : validations) include(one.loss);
  }

  std::vector<std::string> draw() {
    int before = y_of(means_.front());
    for (std::size_t x = 0; x < means_.size(); ++x) {
      const int y = y_of(means_[x]);
      // Down or up to the point before, so that the line is closed.
      const int from = before < y ? before + 1 : before > y ? before - 1 : y;
      for (int dot = std::min(from, y); dot <= std::max(from, y); ++dot)
        sign(static_cast<int>(x) / 2, dot / 4) |= kPoints[static_cast<std::size_t>(dot % 4)][x % 2];
      before = y;
    }
    std::vector<std::string> lines{title()};
    for (int row = 0; row < rows_; ++row) lines.push_back(label(row) + paint(row));
    lines.push_back(
        fmt::format("{:{}}{}{:>{}}", "", kLabel, losses_.front().step, last_step_,
                    width_ - static_cast<int>(std::to_string(losses_.front().step).size())));
    return lines;
  }

 private:
  unsigned& sign(int column, int row) {
    return signs_[static_cast<std::size_t>(row) * static_cast<std::size_t>(width_) +
                  static_cast<std::size_t>(column)];
  }
  void include(double loss) {
    low_ = std::min(low_, loss);
    high_ = std::max(high_, loss);
  }
  int x_of(int step) const {
    const double first = losses_.front().step;
    const double steps = last_step_ - first;
    const double share = steps > 0 ? std::clamp((step - first) / steps, 0.0, 1.0) : 0;
    return static_cast<int>(share * (2 * width_ - 1));
  }
  int y_of(double loss) const {
    const int most = 4 * rows_ - 1;
    if (high_ <= low_) return most;
    // Halves first: the difference of two finite numbers may not be one.
    const double share = (high_ / 2 - loss / 2) / (high_ / 2 - low_ / 2);
    return std::clamp(static_cast<int>(std::lround(share * most)), 0, most);
  }

  /// The mean of the losses at each point of the width, and a straight line where there are none.
  void average() {
    std::vector<int> counts(static_cast<std::size_t>(x_of(losses_.back().step)) + 1);
    means_.resize(counts.size());
    for (const LossPoint& one : losses_) {
      const auto x = static_cast<std::size_t>(x_of(one.step));
      ++counts[x];
      means_[x] += (one.loss - means_[x]) / counts[x];
    }
    std::size_t known = 0;
    for (std::size_t x = 1; x < means_.size(); ++x) {
      if (counts[x] == 0) continue;
      for (std::size_t between = known + 1; between < x; ++between) {
        const double share = static_cast<double>(between - known) / static_cast<double>(x - known);
        means_[between] = std::lerp(means_[known], means_[x], share);
      }
      known = x;
    }
  }

  std::string title() const {
    std::string text =
        fmt::format("loss {:.4f} to {:.4f}", losses_.front().loss, losses_.back().loss);
    if (!validations_.empty()) {
      text += fmt::format("  o validation {:.4f} after step {}", validations_.back().loss,
                          validations_.back().step);
    }
    return text;
  }
  std::string label(int row) const {
    if (row == rows_ - 1) return fmt::format("{:>{}.4g} ", low_, kLabel - 1);
    if (row == 0 && low_ < high_) return fmt::format("{:>{}.4g} ", high_, kLabel - 1);
    return std::string(kLabel, ' ');
  }
  std::string paint(int row) {
    std::vector<std::string> cells;
    for (int column = 0; column < width_; ++column) cells.push_back(braille(sign(column, row)));
    for (const LossPoint& one : validations_) {
      if (y_of(one.loss) / 4 == row) cells[static_cast<std::size_t>(x_of(one.step)) / 2] = "o";
    }
    std::string text;
    for (const std::string& cell : cells) text += cell;
    return text;
  }

  const std::vector<LossPoint>& losses_;
  const std::vector<LossPoint>& validations_;
  int width_, rows_;
  std::vector<unsigned> signs_;
  std::vector<double> means_;  // by point from the left
  double low_ = 0, high_ = 0;
  int last_step_ = 0;
};

}  // namespace

std::vector<std::string> draw_losses(const std::vector<LossPoint>& losses,
                                     const std::vector<LossPoint>& validations, int columns,
                                     int rows) {
  std::vector<std::string> lines = Curve(losses, validations, columns, rows).draw();
  for (std::string& line : lines) line.erase(line.find_last_not_of(' ') + 1);
  return lines;
}

}  // namespace plait
