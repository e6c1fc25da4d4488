#include "plait/draw/ascii.h"

#include <fmt/core.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "plait/draw/action_look.h"
#include "plait/ir/list_clock.h"

namespace plait {
namespace {

struct Box {
  Action action;
  int begin = 0;
  int units = 1;
  bool in_pair = false;
};

/// Every compute action at its earliest unit of time: F, I and W take one unit, B two.
Expected<std::vector<std::vector<Box>>> lay_out_units(const Schedule& schedule) {
  std::vector<std::vector<Box>> rows(schedule.ranks.size());
  std::vector<std::size_t> pair_end(rows.size());
  std::vector<std::size_t> seen(rows.size());  // list entries looked at, for headers of pairs
  const ActionCosts costs = unit_costs(schedule.placement.stages());
  const std::optional<ListStop> stop =
      ListClock(schedule, costs)
          .run([&](std::size_t rank, std::size_t position, Nanoseconds begin, Nanoseconds end) {
            const std::vector<Action>& list = schedule.ranks[rank];
            for (; seen[rank] < position; ++seen[rank]) {
              if (list[seen[rank]].type == ActionType::kOverlapFB)
                pair_end[rank] = seen[rank] + list[seen[rank]].members + 1;
            }
            rows[rank].push_back({list[position], static_cast<int>(begin),
                                  static_cast<int>(end - begin), position < pair_end[rank]});
          });
  if (!stop) return rows;
  return fail(ErrorCode::kCheckFailed,
              fmt::format("rank {} cannot go on at position {}: the schedule cannot be drawn",
                          stop->rank, stop->position),
              schedule.name);
}

class Painter {
 public:
  Painter(const Schedule& schedule, const std::vector<std::vector<Box>>& rows,
          const AsciiStyle& style)
      : schedule_(schedule), rows_(rows), style_(style) {
    cell_ = 1 + static_cast<int>(std::to_string(schedule.microbatches - 1).size());
    label_ = 6 + static_cast<int>(std::to_string(rows.size() - 1).size());
    for (const std::vector<Box>& row : rows) {
      if (!row.empty()) length_ = std::max(length_, row.back().begin + row.back().units);
    }
  }

  std::string paint() const {
    const int per_band = std::max(8, (style_.width - label_) / cell_);
    std::string text;
    for (int begin = 0; begin < length_; begin += per_band) {
      if (begin > 0) text += '\n';
      const int end = std::min(begin + per_band, length_);
      for (std::size_t rank = 0; rank < rows_.size(); ++rank) {
        text += fmt::format("{:<{}}", fmt::format("rank {}", rank), label_) +
                paint_row(rank, begin, end) + '\n';
      }
    }
    return text + legend();
  }

 private:
  std::string paint_row(std::size_t rank, int begin, int end) const {
    std::string text;
    int time = begin;
    const int first_stage = first_stage_of(rank);
    for (const Box& box : rows_[rank]) {
      if (box.begin + box.units <= begin) continue;
      if (box.begin >= end) break;
      for (; time < box.begin; ++time) text += idle();
      const bool later = box.action.stage != first_stage;
      std::string cells;
      for (; time < std::min(box.begin + box.units, end); ++time) {
        cells += time == box.begin
                     ? fmt::format("{:<{}}",
                                   fmt::format("{}{}", action_letter(box.action.type, later),
                                               box.action.microbatch),
                                   cell_)
                     : std::string(static_cast<std::size_t>(cell_), box.in_pair ? '=' : '-');
      }
      text += style_.colour ? coloured_action(box.action.type, later, box.in_pair, cells) : cells;
    }
    if (!style_.colour) {
      for (; time < end; ++time) text += idle();
    }
    while (!text.empty() && text.back() == ' ') text.pop_back();
    return text;
  }

  std::string idle() const { return fmt::format("{:<{}}", ".", cell_); }
  int first_stage_of(std::size_t rank) const {
    const std::vector<int> stages = schedule_.placement.stages_of(static_cast<int>(rank));
    return stages.empty() ? -1 : stages.front();
  }
  std::string legend() const {
    bool pairs = false;
    bool several = false;
    for (std::size_t rank = 0; rank < rows_.size(); ++rank) {
      for (const Box& box : rows_[rank]) {
        pairs = pairs || box.in_pair;
        several = several || box.action.stage != first_stage_of(rank);
      }
    }
    return fmt::format("{}{}{}\n", kLetterMeanings, several ? kCapitalsMeaning : "",
                       pairs ? (style_.colour ? "  underlined: pair"
                                              : "  B3==: backward of a pair, after its forward")
                             : "");
  }

  const Schedule& schedule_;
  const std::vector<std::vector<Box>>& rows_;
  AsciiStyle style_;
  int cell_ = 2;
  int label_ = 7;
  int length_ = 0;
};

}  // namespace

Expected<std::string> draw_schedule(const Schedule& schedule, const AsciiStyle& style) {
  PLAIT_TRY(const std::vector<std::vector<Box>> rows, lay_out_units(schedule));
  return Painter(schedule, rows, style).paint();
}

}  // namespace plait
