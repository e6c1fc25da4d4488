#include "plait/draw/watch.h"

#include <fmt/core.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "plait/base/print.h"
#include "plait/draw/lanes.h"
#include "plait/draw/loss_curve.h"
#include "plait/draw/progress.h"

namespace plait {
namespace {

constexpr int kLeastColumns = 20;
// Without its title and its axis: at least, if there is no end of rows, and at most.
constexpr std::size_t kCurveRows = 3, kFreeCurveRows = 12, kMostCurveRows = 24;

/// The line in `columns`: escape sequences have no width, a sign of UTF-8 has one.
std::string clipped(const std::string& line, int columns) {
  std::string text;
  bool escaped = false;
  int width = 0;
  for (const char byte : line) {
    if (byte == '\x1b') escaped = true;
    if (!escaped && (static_cast<unsigned char>(byte) & 0xc0U) != 0x80U) ++width;
    if (escaped || width <= columns) text += byte;
    if (escaped && byte == 'm') escaped = false;
  }
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

/// Keeps what fits and says how much does not.
void shorten(std::vector<std::string>& lines, std::size_t room, const char* what) {
  if (lines.size() <= room) return;
  const std::size_t kept = room == 0 ? 0 : room - 1;
  const std::string rest = fmt::format("({} more {})", lines.size() - kept, what);
  lines.resize(kept);
  if (room > 0) lines.push_back(rest);
}

class Screen {
 public:
  Screen(const RunView& run, const ScreenStyle& style)
      : run_(run), style_(style), columns_(std::max(style.columns, kLeastColumns)) {}

  std::vector<std::string> draw() {
    std::vector<std::string> lines = header();
    std::vector<std::string> ranks = table();
    std::vector<std::string> step = lanes(/*communication=*/true);
    std::size_t curve_rows = kFreeCurveRows;
    bool gaps = true;
    if (style_.rows > 0) {
      const std::size_t fixed = lines.size() + (style_.keys.empty() ? 0 : 1);
      const auto rows = static_cast<std::size_t>(style_.rows);
      std::tie(curve_rows, gaps) = fit(rows > fixed ? rows - fixed : 0, ranks, step);
    }
    const auto add = [&](const std::vector<std::string>& section) {
      if (gaps && !section.empty()) lines.emplace_back();
      lines.insert(lines.end(), section.begin(), section.end());
    };
    if (curve_rows > 0 && !run_.losses.empty()) {
      add(draw_losses(run_.losses, run_.validations, columns_, static_cast<int>(curve_rows)));
    }
    add(ranks);
    add(step);
    return finish(std::move(lines));
  }

 private:
  /// Shortens both to what fits beside a curve, whose rows it says, and whether there are gaps.
  std::pair<std::size_t, bool> fit(std::size_t room, std::vector<std::string>& ranks,
                                   std::vector<std::string>& step) const {
    constexpr std::size_t kCurve = kCurveRows + 2, kGaps = 3;
    std::size_t rest = room > 2 * kCurve ? room - kCurve : room;
    if (ranks.size() + step.size() > rest) step = lanes(/*communication=*/false);
    shorten(ranks, std::max(rest / 2, rest - std::min(rest, step.size())), "ranks");
    rest -= std::min(rest, ranks.size());
    if (step.size() == rest + 1) step.pop_back();  // what the letters mean
    shorten(step, rest, "rows");
    if (room <= 2 * kCurve) return {0, false};
    const std::size_t spare = room - kCurve - ranks.size() - step.size();
    const bool gaps = spare >= 2 * kGaps;
    return {std::min(kMostCurveRows, kCurveRows + spare - (gaps ? kGaps : 0)), gaps};
  }

  std::vector<std::string> finish(std::vector<std::string> lines) const {
    if (style_.rows > 0) {
      lines.resize(static_cast<std::size_t>(style_.rows));
      if (!style_.keys.empty() && lines.size() > 1) lines.back() = style_.keys;
    } else if (!style_.keys.empty()) {
      lines.push_back(style_.keys);
    }
    for (std::string& line : lines) line = clipped(line, columns_);
    return lines;
  }

  std::vector<std::string> header() const {
    std::string text = run_.folder;
    if (!run_.last) {
      text += "  no step has ended yet";
    } else {
      const StepLine& last = *run_.last;
      text += fmt::format("  step {}/{}  loss {:.4f}  norm {:.3f}  lr {:.2e}  {:.0f} tok/s",
                          last.step, run_.steps, last.loss, last.grad_norm, last.learning_rate,
                          last.tokens_per_s());
    }
    const auto columns = static_cast<std::size_t>(columns_);
    std::vector<std::string> lines = wrap_text(text, columns);
    for (const std::string& line : wrap_text(state(), columns)) lines.push_back(line);
    return lines;
  }

  std::string state() const {
    const int step = run_.last ? run_.last->step : 0;
    if (run_.ended) {
      return fmt::format("{} after step {}, the model is in {}/model",
                         step < run_.steps ? "stopped" : "ended", step, run_.folder);
    }
    if (run_.killed) {
      return fmt::format("was killed after step {}: no process runs it any more, since {} s", step,
                         run_.quiet_ns / 1'000'000'000);
    }
    std::string text;
    if (step > 0) text = bar_text(std::min(step, run_.steps), run_.steps, run_.elapsed_ns);
    const ProgressShape shape{run_.steps, ranks(), style_.cores, run_.threads};
    const std::string oversubscribed = style_.cores > 0 ? oversubscribed_text(shape) : "";
    if (!oversubscribed.empty()) text += "  " + oversubscribed;
    const double mean = step > 0 ? static_cast<double>(run_.elapsed_ns) / step : 0;
    if (static_cast<double>(run_.quiet_ns) > std::max(5e9, 10 * mean))
      text += fmt::format("  nothing new for {} s", run_.quiet_ns / 1'000'000'000);
    return text;
  }

  int ranks() const {
    return run_.last ? static_cast<int>(run_.last->peak_activation_bytes.size()) : 0;
  }

  std::vector<std::string> table() const {
    if (!run_.last) return {};
    constexpr int kBesideBar = 71;
    const int bar = std::clamp(columns_ - kBesideBar, 6, 30);
    std::vector<std::string> lines{
        fmt::format("{:>4}{:>8}{:>8}{:>8}{:>8}{:>11}{:>8}{:>8} {:{}}{:>7}", "rank", "bubble",
                    "fill", "steady", "drain", "exposed", "", "peak MB", "", bar, "cpu")};
    const StepLine& last = *run_.last;
    const Bytes most =
        std::max<Bytes>(1, ranks() == 0 ? 0
                                        : *std::max_element(last.peak_activation_bytes.begin(),
                                                            last.peak_activation_bytes.end()));
    for (std::size_t rank = 0; rank < last.peak_activation_bytes.size(); ++rank) {
      const Bytes peak = last.peak_activation_bytes[rank];
      const auto filled = static_cast<std::size_t>(static_cast<double>(std::max<Bytes>(0, peak)) /
                                                   static_cast<double>(most) * bar);
      const double cpu = last.step_ns == 0 ? 0
                                           : static_cast<double>(last.cpu_ns[rank]) /
                                                 static_cast<double>(last.step_ns);
      lines.push_back(fmt::format("{:>4}{}{:>8} {:<{}}{:>5.0f} %", rank, idle_of(rank),
                                  megabytes(peak), std::string(filled, '#'), bar, cpu * 100));
    }
    return lines;
  }

  /// The bubble and its parts, and what of it was communication.
  std::string idle_of(std::size_t rank) const {
    const StepLine& last = *run_.last;
    // A reference run has no lanes.
    if (last.bubble_share.empty())
      return fmt::format("{:>8}{:>8}{:>8}{:>8}{:>11}{:>8}", "-", "-", "-", "-", "-", "");
    const double share = last.bubble_share[rank];
    const double bubble = static_cast<double>(last.fill_ns[rank]) +
                          static_cast<double>(last.steady_ns[rank]) +
                          static_cast<double>(last.drain_ns[rank]);
    const auto part = [&](Nanoseconds time) {
      return percent(bubble > 0 ? static_cast<double>(time) / bubble * share : 0);
    };
    return fmt::format(
        "{:>8}{:>8}{:>8}{:>8}{:>8.1f} ms{:>8}", percent(share), part(last.fill_ns[rank]),
        part(last.steady_ns[rank]), part(last.drain_ns[rank]),
        static_cast<double>(last.exposed_comm_ns[rank]) / 1e6, part(last.exposed_comm_ns[rank]));
  }

  std::vector<std::string> lanes(bool communication) const {
    if (!run_.timeline) return {};
    std::vector<std::string> lines =
        draw_lanes(*run_.timeline,
                   {.colour = style_.colour, .width = columns_, .communication = communication});
    const int step = run_.timeline->step;
    lines.insert(lines.begin(),
                 step > 0 ? fmt::format("lanes of step {}", step) : std::string("lanes of a step"));
    return lines;
  }

  const RunView& run_;
  const ScreenStyle& style_;
  int columns_;
};

}  // namespace

std::vector<std::string> draw_run(const RunView& run, const ScreenStyle& style) {
  return Screen(run, style).draw();
}

}  // namespace plait
