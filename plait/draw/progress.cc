#include "plait/draw/progress.h"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include "plait/base/print.h"

#include <algorithm>
#include <cmath>

namespace plait {
namespace {

std::size_t terminal_columns(std::FILE* out) {
  winsize size{};
  return ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

std::string step_text(const StepLine& line, const ProgressShape& shape) {
  const Bytes peak =
      line.peak_activation_bytes.empty()
          ? 0
          : *std::max_element(line.peak_activation_bytes.begin(), line.peak_activation_bytes.end());
  std::string text = fmt::format(
      "step {}/{}  loss {:.4f}  norm {:.3f}  {:.0f} tok/s  bubble {:.0f}%", line.step, shape.steps,
      line.loss, line.grad_norm, line.tokens_per_s(), line.worst_bubble() * 100);
  // Where pairs are braided, what they hide; elsewhere what is left to wait for.
  text += line.pairs_braided > 0 ? fmt::format("  overlap {:.0f}%", line.overlap_efficiency * 100)
                                 : fmt::format("  exposed {:.0f}%", line.worst_exposed() * 100);
  text += fmt::format("  peak {} MB", megabytes(peak));
  if (line.whole_backwards > 0) text += fmt::format("  {} I as B", line.whole_backwards);
  return text;
}

std::string step_legend(const ProgressShape& shape, const std::string& metrics) {
  const std::string oversubscribed = oversubscribed_text(shape);
  return fmt::format(
      "{}bubble, exposed and peak activations are those of the worst rank; each rank's, and the "
      "rest: {}\n",
      oversubscribed.empty() ? "" : oversubscribed + ", so busy time includes being preempted\n",
      metrics);
}

std::string bar_text(int step, int steps, Nanoseconds elapsed) {
  constexpr int kWidth = 30;
  const int filled =
      static_cast<int>(static_cast<std::int64_t>(kWidth) * step / std::max(1, steps));
  const double left = step == 0 ? 0 : static_cast<double>(elapsed) / 1e9 / step * (steps - step);
  const auto seconds = static_cast<std::int64_t>(std::llround(left));
  const std::string time = seconds < 3600 ? fmt::format("{}:{:02}", seconds / 60, seconds % 60)
                                          : fmt::format("{}:{:02}:{:02}", seconds / 3600,
                                                        seconds / 60 % 60, seconds % 60);
  return fmt::format("[{}{}] {}%  {} left", std::string(static_cast<std::size_t>(filled), '#'),
                     std::string(static_cast<std::size_t>(kWidth - filled), '.'),
                     static_cast<std::int64_t>(step) * 100 / std::max(1, steps), time);
}

std::vector<std::string> wrap_text(const std::string& text, std::size_t columns) {
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find("  ", begin), text.size());
    const std::string part = text.substr(begin, end - begin).substr(0, columns);
    begin = text.find_first_not_of(' ', end);
    if (!lines.empty() && lines.back().size() + 2 + part.size() <= columns) {
      lines.back() += "  " + part;
    } else {
      lines.push_back(part);
    }
  }
  return lines;
}

std::string oversubscribed_text(const ProgressShape& shape) {
  if (shape.ranks * shape.threads <= shape.cores) return {};
  return fmt::format("oversubscribed: {} ranks{} on {} cores", shape.ranks,
                     shape.threads > 1 ? fmt::format(" of {} threads", shape.threads) : "",
                     shape.cores);
}

Progress::Progress(std::FILE* out, bool terminal, ProgressShape shape, int log_every)
    : out_(out), terminal_(terminal), shape_(shape), log_every_(log_every) {}

void Progress::erase() {
  for (std::size_t i = 0; i < drawn_lines_; ++i)
    std::fputs(i == 0 ? "\r\x1b[K" : "\x1b[1A\x1b[K", out_);
  drawn_lines_ = 0;
}

void Progress::step(const StepLine& line, Nanoseconds elapsed) {
  const std::string text = step_text(line, shape_);
  if (terminal_) {
    erase();
    std::vector<std::string> lines = wrap_text(text, terminal_columns(out_));
    lines.push_back(bar_text(line.step, shape_.steps, elapsed));
    // Without wrapping by the terminal, so that the lines stay as many as they are.
    std::fputs("\x1b[?7l", out_);
    for (std::size_t i = 0; i < lines.size(); ++i)
      std::fputs(((i == 0 ? "" : "\n") + lines[i]).c_str(), out_);
    std::fputs("\x1b[?7h", out_);
    drawn_lines_ = lines.size();
  } else if (line.step % log_every_ == 0 || line.step == shape_.steps) {
    std::fputs((text + "\n").c_str(), out_);
  }
  std::fflush(out_);
}

void Progress::note(const std::string& text) {
  erase();
  std::fputs((text + "\n").c_str(), out_);
  std::fflush(out_);
}

void Progress::end() {
  if (drawn_lines_ > 0) std::fputs("\n", out_);
  drawn_lines_ = 0;
  std::fflush(out_);
}

}  // namespace plait
