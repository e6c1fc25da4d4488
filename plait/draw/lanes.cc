#include "plait/draw/lanes.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <optional>
#include <string_view>
#include <tuple>

#include "plait/draw/action_look.h"
#include "plait/draw/time_unit.h"

namespace plait {
namespace {

constexpr int kLeastWidth = 20;

/// What a box stands for: all parts of one action.
struct Key {
  ActionType type = ActionType::kIdle;
  int stage = -1;
  int microbatch = -1;
  int pair = -1;

  bool operator<(const Key& other) const { return tuple() < other.tuple(); }
  bool operator==(const Key& other) const { return tuple() == other.tuple(); }

 private:
  std::tuple<ActionType, int, int, int> tuple() const { return {type, stage, microbatch, pair}; }
};

/// What a column shows: nothing, one action, or two members of a pair at one time.
struct Shown {
  std::optional<Key> first, second;
  bool operator==(const Shown&) const = default;
};

/// One lane of one rank. Times are in column-nanoseconds, so that a column is `span` long and
/// nothing is rounded.
class Row {
 public:
  Row(int columns, Nanoseconds span)
      : columns_(columns),
        span_(static_cast<double>(span)),
        shares_(static_cast<std::size_t>(columns)),
        busy_(shares_.size()) {}

  /// In the order of their begins.
  void add(const TimelineEvent& event, Nanoseconds first) {
    const Key key{event.action.type, event.action.stage, event.action.microbatch, event.pair};
    const double begin = static_cast<double>(event.begin - first) * columns_;
    const double end = static_cast<double>(event.end - first) * columns_;
    for_columns(begin, end, [&](std::size_t column, double time) { shares_[column][key] += time; });
    for_columns(std::max(begin, busy_until_), end,
                [&](std::size_t column, double time) { busy_[column] += time; });
    busy_until_ = std::max(busy_until_, end);
  }

  Shown shown(std::size_t column) const {
    if (2 * busy_[column] < span_ || shares_[column].empty()) return {};
    const auto& shares = shares_[column];
    const auto longest =
        std::max_element(shares.begin(), shares.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    for (const auto& [key, time] : shares) {
      const bool members = key.pair >= 0 && key.pair == longest->first.pair;
      if (!members || key == longest->first) continue;
      if (2 * time >= span_ && time + longest->second > span_)
        return {std::min(key, longest->first), std::max(key, longest->first)};
    }
    return {longest->first, {}};
  }

 private:
  template <typename Use>
  void for_columns(double begin, double end, const Use& use) const {
    for (int column = std::max(0, static_cast<int>(begin / span_) - 1); column < columns_;
         ++column) {
      const double left = column * span_;
      if (left >= end) break;
      const double time = std::min(end, left + span_) - std::max(begin, left);
      if (time > 0) use(static_cast<std::size_t>(column), time);
    }
  }

  int columns_;
  double span_;
  std::vector<std::map<Key, double>> shares_;  // by column
  std::vector<double> busy_;                   // the union of all
  double busy_until_ = 0;
};

class LanesPicture {
 public:
  LanesPicture(const Timeline& timeline, const LanesStyle& style)
      : timeline_(timeline), style_(style), rows_(static_cast<std::size_t>(timeline.ranks)) {
    first_ = std::numeric_limits<Nanoseconds>::max();
    Nanoseconds last = std::numeric_limits<Nanoseconds>::min();
    std::map<int, int> first_stages;
    for (const TimelineEvent& event : timeline.events) {
      first_ = std::min(first_, event.begin);
      last = std::max(last, event.end);
      const auto rank = static_cast<std::size_t>(event.rank);
      rows_[rank][static_cast<std::size_t>(event.lane)].push_back(&event);
      if (event.action.stage < 0) continue;
      const auto [stage, is_new] = first_stages.try_emplace(event.rank, event.action.stage);
      if (!is_new) stage->second = std::min(stage->second, event.action.stage);
    }
    span_ = timeline.events.empty() ? 0 : last - first_;
    first_stages_ = std::move(first_stages);
    label_ = fmt::format("rank {} ", std::max(0, timeline.ranks - 1)).size();
    columns_ = std::max(style.width, kLeastWidth) - static_cast<int>(label_);
    if (span_ > 0 && span_ <= columns_) columns_ -= columns_ % static_cast<int>(span_);
  }

  std::vector<std::string> draw() {
    std::vector<std::string> lines;
    for (int rank = 0; rank < timeline_.ranks; ++rank) {
      const auto& lanes = rows_[static_cast<std::size_t>(rank)];
      for (std::size_t lane = 0; lane < lanes.size(); ++lane) {
        const bool compute = lane == static_cast<std::size_t>(Lane::kCompute);
        if (!compute && (!style_.communication || lanes[lane].empty())) continue;
        lines.push_back(fmt::format(
            "{:<{}}{}", compute ? fmt::format("rank {}", rank) : "  comm", label_,
            paint(lanes[lane], first_stages_.contains(rank) ? first_stages_.at(rank) : -1)));
      }
    }
    if (span_ > 0) lines.push_back(axis());
    lines.push_back(legend());
    for (std::string& line : lines) line.erase(line.find_last_not_of(' ') + 1);
    return lines;
  }

 private:
  std::string paint(std::vector<const TimelineEvent*> events, int first_stage) {
    std::stable_sort(events.begin(), events.end(),
                     [](const auto* a, const auto* b) { return a->begin < b->begin; });
    const auto columns = static_cast<std::size_t>(columns_);
    if (span_ == 0) return std::string(columns, '.');
    Row row(columns_, span_);
    for (const TimelineEvent* event : events) row.add(*event, first_);
    std::string text;
    for (std::size_t begin = 0; begin < columns;) {
      const Shown shown = row.shown(begin);
      std::size_t end = begin + 1;
      while (end < columns && row.shown(end) == shown) ++end;
      const std::size_t half = shown.second ? (end - begin) / 2 : 0;
      text += shown.first ? box(*shown.first, end - begin - half, first_stage)
                          : std::string(end - begin, '.');
      if (half > 0) text += box(*shown.second, half, first_stage);
      begin = end;
    }
    return text;
  }

  std::string box(const Key& key, std::size_t columns, int first_stage) {
    const bool message = is_communication(key.type) || is_send_wait(key.type);
    const bool later = !message && key.stage != first_stage;
    const bool in_pair = key.pair >= 0;
    several_ = several_ || later;
    pairs_ = pairs_ || in_pair;
    others_[static_cast<std::size_t>(key.type)] = true;
    std::string text(1, action_letter(key.type, later));
    const std::string number = key.microbatch < 0 ? "" : std::to_string(key.microbatch);
    if (text.size() + number.size() <= columns) text += number;
    text.resize(columns, in_pair ? '=' : '-');
    return style_.colour ? coloured_action(key.type, later, in_pair, text) : text;
  }

  std::string axis() const {
    const PictureUnit unit = picture_unit(span_);
    const std::string end =
        fmt::format("{:.5g} {}", static_cast<double>(span_) / unit.nanoseconds, unit.name);
    return fmt::format("{:{}}0{:>{}}", "", label_, end, columns_ - 1);
  }

  std::string legend() const {
    const auto drawn = [&](ActionType type) { return others_[static_cast<std::size_t>(type)]; };
    std::string text(kLetterMeanings);
    if (several_) text += kCapitalsMeaning;
    if (pairs_) text += style_.colour ? "  underlined: pair" : "  ==: in a pair";
    if (drawn(ActionType::kSendF) || drawn(ActionType::kSendB)) text += "  > send";
    if (drawn(ActionType::kRecvF) || drawn(ActionType::kRecvB)) text += "  < receive";
    if (drawn(ActionType::kUnshard)) text += "  u UNSHARD";
    if (drawn(ActionType::kReshard)) text += "  d RESHARD";
    if (drawn(ActionType::kReduceGrad)) text += "  r REDUCE_GRAD";
    if (drawn(ActionType::kWaitReduceGrad)) text += "  e WAIT_REDUCE_GRAD";
    if (drawn(ActionType::kWaitSendF) || drawn(ActionType::kWaitSendB)) text += "  | WAIT_SEND";
    const auto width = static_cast<std::size_t>(std::max(style_.width, kLeastWidth));
    // What has no room is left out whole.
    return text.size() <= width ? text : text.substr(0, text.rfind("  ", width));
  }

  const Timeline& timeline_;
  LanesStyle style_;
  // By rank and lane.
  std::vector<std::array<std::vector<const TimelineEvent*>, kLaneNames.size()>> rows_;
  std::map<int, int> first_stages_;  // by rank
  Nanoseconds first_ = 0;
  Nanoseconds span_ = 0;
  std::size_t label_ = 0;
  int columns_ = 0;
  bool several_ = false;  // stages of a rank
  bool pairs_ = false;
  std::array<bool, kActionTypes> others_{};  // by type
};

}  // namespace

std::vector<std::string> draw_lanes(const Timeline& timeline, const LanesStyle& style) {
  return LanesPicture(timeline, style).draw();
}

}  // namespace plait
