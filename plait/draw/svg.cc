#include "plait/draw/svg.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "plait/base/print.h"
#include "plait/draw/action_look.h"
#include "plait/draw/time_unit.h"
#include "plait/ir/action_text.h"

namespace plait {
namespace {

constexpr double kLeft = 54, kRight = 62, kRow = 24, kThinRow = 7, kGap = 5, kTitle = 26,
                 kAxis = 22, kLegend = 26;
/// Of the numbers in boxes: 10 pixels high, this wide a digit.
constexpr double kDigit = 6;

constexpr std::string_view kOther = "#9a9a9a";

std::string escaped(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    switch (c) {
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '&':
        safe += "&amp;";
        break;
      case '"':
        safe += "&quot;";
        break;
      default:
        // Control characters are no XML.
        safe += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
    }
  }
  return safe;
}

/// "12", "3.5": two digits behind the point at most.
std::string number(double value) {
  std::string text = fmt::format("{:.2f}", value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text == "-0" ? "0" : text;
}

class SvgPicture {
 public:
  SvgPicture(const Timeline& timeline, const SvgStyle& style)
      : timeline_(timeline), style_(style), metrics_(measure(timeline)) {
    first_ = std::numeric_limits<Nanoseconds>::max();
    for (const TimelineEvent& event : timeline.events) {
      first_ = std::min(first_, event.begin);
      if (event.action.stage >= 0) stages_[event.rank].insert(event.action.stage);
      thin_ = thin_ || event.lane == Lane::kCommunication;
    }
    const double plot = style.width - kLeft - kRight;
    scale_ = metrics_.span_ns > 0 ? plot / static_cast<double>(metrics_.span_ns) : 0;
  }

  std::string draw() {
    for (const TimelineEvent& event : timeline_.events) {
      if (event.lane == Lane::kCompute && event.pair >= 0)
        pairs_[{event.rank, event.pair}].push_back(&event);
    }
    for (int rank = 0; rank < timeline_.ranks; ++rank) label_row(rank);
    for (const TimelineEvent& event : timeline_.events) {
      event.lane == Lane::kCompute ? box(event) : thin_box(event);
    }
    for (const auto& [pair, members] : pairs_) frame(pair.first, members);
    const double rows = top(timeline_.ranks);
    axis(rows);
    legend(rows + kAxis);
    const double height = rows + kAxis + kLegend;
    return fmt::format(
               "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" "
               "viewBox=\"0 0 {0} {1}\" font-family=\"Helvetica, Arial, sans-serif\" "
               "font-size=\"10\" role=\"img\">\n<title>{2}</title>\n"
               "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
               style_.width, number(height), escaped(style_.title)) +
           title() + body_ + "</svg>\n";
  }

 private:
  double x(Nanoseconds time) const { return kLeft + static_cast<double>(time - first_) * scale_; }
  double row_height() const { return kRow + (thin_ ? kThinRow : 0) + kGap; }
  double top(int rank) const { return (style_.title.empty() ? 6 : kTitle) + rank * row_height(); }

  std::string title() const {
    if (style_.title.empty()) return {};
    return fmt::format("<text x=\"{}\" y=\"17\" font-size=\"13\" font-weight=\"bold\">{}</text>\n",
                       number(kLeft), escaped(style_.title));
  }

  void text(double at_x, double at_y, std::string_view anchor, std::string_view words,
            std::string_view colour = "#000") {
    body_ += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"{}\" fill=\"{}\">{}</text>\n",
                         number(at_x), number(at_y), anchor, colour, escaped(words));
  }

  void rectangle(double left, double at_y, double width, double height, std::string_view colour,
                 std::string_view says, std::string_view more = {}) {
    body_ += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"{}",
                         number(left), number(at_y), number(width), number(height), colour, more);
    body_ += says.empty() ? "/>\n" : fmt::format("><title>{}</title></rect>\n", escaped(says));
  }

  void label_row(int rank) {
    const double middle = top(rank) + kRow / 2 + 4;
    text(kLeft - 6, middle, "end", fmt::format("rank {}", rank));
    text(style_.width - kRight + 6, middle, "start", percent(metrics_.bubble_share(rank)) + " idle",
         "#555");
    rectangle(kLeft, top(rank), style_.width - kLeft - kRight, kRow, "#f2f2f2", {});
  }

  std::string says(const TimelineEvent& event) const {
    const PictureUnit unit = picture_unit(metrics_.span_ns);
    const auto in_unit = [&](Nanoseconds time) {
      return number(static_cast<double>(time - first_) / unit.nanoseconds);
    };
    return fmt::format("{}: {} to {} {}", print_action(event.action), in_unit(event.begin),
                       in_unit(event.end), unit.name);
  }

  /// Members of a pair that run at one time lie above one another.
  std::pair<double, double> band(const TimelineEvent& event) const {
    const double row = top(event.rank);
    if (event.pair < 0) return {row, kRow};
    for (const TimelineEvent* other : pairs_.at({event.rank, event.pair})) {
      if (other == &event || other->begin >= event.end || event.begin >= other->end) continue;
      const bool upper = event.action.type == ActionType::kForward;
      return {upper ? row : row + kRow / 2, kRow / 2};
    }
    return {row, kRow};
  }

  void box(const TimelineEvent& event) {
    const std::set<int>& stages = stages_.at(event.rank);
    const bool later = event.action.stage != *stages.begin();
    std::string_view colour = kOther, ink = later ? "#fff" : "#000";
    for (const ActionColour& one : kActionColours) {
      if (one.type == event.action.type) colour = later ? one.later_stage : one.first_stage;
    }
    const double left = x(event.begin), width = x(event.end) - left;
    const auto [at_y, height] = band(event);
    rectangle(left, at_y, width, height, colour, says(event),
              " stroke=\"#fff\" stroke-width=\".6\"");
    const std::string label = std::to_string(event.action.microbatch);
    if (event.action.microbatch < 0 || width < kDigit * static_cast<double>(label.size()) + 1)
      return;
    text(left + width / 2, at_y + height / 2 + 3.5, "middle", label, ink);
  }

  void thin_box(const TimelineEvent& event) {
    const double left = x(event.begin);
    const bool message = is_communication(event.action.type) || is_send_wait(event.action.type);
    rectangle(left, top(event.rank) + kRow, std::max(x(event.end) - left, 0.3), kThinRow,
              message ? "#b8b8b8" : "#555", says(event));
  }

  void frame(int rank, const std::vector<const TimelineEvent*>& members) {
    Nanoseconds begin = members.front()->begin, end = members.front()->end;
    for (const TimelineEvent* member : members) {
      begin = std::min(begin, member->begin);
      end = std::max(end, member->end);
    }
    body_ += fmt::format(
        "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"none\" "
        "stroke=\"#000\" stroke-width=\"1.2\" rx=\"2\"/>\n",
        number(x(begin)), number(top(rank)), number(x(end) - x(begin)), number(kRow));
  }

  void axis(double at_y) {
    const PictureUnit unit = picture_unit(metrics_.span_ns);
    const double span = static_cast<double>(metrics_.span_ns) / unit.nanoseconds;
    if (span <= 0) return;
    double step = std::pow(10, std::floor(std::log10(span / 8)));
    for (const double factor : {5.0, 2.0}) {
      if (span / (step * factor) >= 6) {
        step *= factor;
        break;
      }
    }
    for (double tick = 0; tick <= span * 1.0001; tick += step) {
      const double at_x = kLeft + tick * unit.nanoseconds * scale_;
      body_ += fmt::format("<path d=\"M{} {}v4\" stroke=\"#555\"/>\n", number(at_x), number(at_y));
      text(at_x, at_y + 15, "middle", number(tick), "#555");
    }
    text(style_.width - kRight + 6, at_y + 15, "start", unit.name, "#555");
  }

  void legend(double at_y) {
    double at_x = kLeft;
    const auto entry = [&](std::string_view colour, std::string_view words, double wide) {
      rectangle(at_x, at_y + 4, 12, 12, colour, {});
      text(at_x + 16, at_y + 13.5, "start", words, "#333");
      at_x += wide;
    };
    for (const ActionColour& one : kActionColours) {
      rectangle(at_x + 12, at_y + 4, 12, 12, one.later_stage, {});
      rectangle(at_x, at_y + 4, 12, 12, one.first_stage, {});
      text(at_x + 28, at_y + 13.5, "start", one.name, "#333");
      at_x += 52;
    }
    text(at_x, at_y + 13.5, "start", "dark: a rank's later stages", "#333");
    at_x += 142;
    body_ += fmt::format(
        "<rect x=\"{}\" y=\"{}\" width=\"20\" height=\"12\" fill=\"none\" "
        "stroke=\"#000\" stroke-width=\"1.2\" rx=\"2\"/>\n",
        number(at_x), number(at_y + 4));
    text(at_x + 25, at_y + 13.5, "start", "pair", "#333");
    at_x += 58;
    entry("#f2f2f2", "idle", 48);
    if (!thin_) return;
    entry("#b8b8b8", "message", 72);
    entry("#555", "collective", 0);
  }

  const Timeline& timeline_;
  const SvgStyle& style_;
  StepMetrics metrics_;
  Nanoseconds first_ = 0;
  double scale_ = 0;
  bool thin_ = false;                                                       // a rank communicates
  std::map<int, std::set<int>> stages_;                                     // by rank
  std::map<std::pair<int, int>, std::vector<const TimelineEvent*>> pairs_;  // by rank and number
  std::string body_;
};

}  // namespace

std::string draw_svg(const Timeline& timeline, const SvgStyle& style) {
  return SvgPicture(timeline, style).draw();
}

}  // namespace plait
