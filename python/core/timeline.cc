#include "plait/timeline/timeline.h"

#include <fmt/core.h>
#include <nanobind/stl/pair.h>

#include "plait/base/read_file.h"
#include "plait/draw/svg.h"
#include "plait/ir/action_text.h"
#include "plait/timeline/timeline_file.h"
#include "python/core/bind.h"
#include "viewer/view_page.h"

namespace plait::python {
namespace {

/// One field of every event. `self` is kept while the array lives.
template <auto Member>
nb::object of_events(nb::handle_t<Timeline> self) {
  const std::vector<TimelineEvent>& events = nb::cast<const Timeline&>(self).events;
  return column(events.empty() ? nullptr : &(events.front().*Member), events.size(),
                sizeof(TimelineEvent), self);
}

template <auto Member>
nb::object of_actions(nb::handle_t<Timeline> self) {
  const std::vector<TimelineEvent>& events = nb::cast<const Timeline&>(self).events;
  return column(events.empty() ? nullptr : &(events.front().action.*Member), events.size(),
                sizeof(TimelineEvent), self);
}

/// An enumeration is the number that it is made of.
nb::object types_of(nb::handle_t<Timeline> self) {
  const std::vector<TimelineEvent>& events = nb::cast<const Timeline&>(self).events;
  const auto* const first =
      events.empty() ? nullptr : reinterpret_cast<const std::uint8_t*>(&events.front().action.type);
  return column(first, events.size(), sizeof(TimelineEvent), self);
}

nb::object lanes_of(nb::handle_t<Timeline> self) {
  const std::vector<TimelineEvent>& events = nb::cast<const Timeline&>(self).events;
  const auto* const first =
      events.empty() ? nullptr : reinterpret_cast<const std::uint8_t*>(&events.front().lane);
  return column(first, events.size(), sizeof(TimelineEvent), self);
}

template <auto Member>
nb::object of_metrics(nb::handle_t<StepMetrics> self) {
  const std::vector<RankMetrics>& ranks = nb::cast<const StepMetrics&>(self).ranks;
  return column(ranks.empty() ? nullptr : &(ranks.front().*Member), ranks.size(),
                sizeof(RankMetrics), self);
}

/// rank, lane, instruction, action, pair, awaited rank, awaited instruction, begin, end, waits.
using EventRow =
    std::tuple<int, int, int, std::string, int, int, int, Nanoseconds, Nanoseconds, Nanoseconds>;

/// What another runtime has measured; pairs ran in sequence. A clock is an offset and its error.
Timeline timeline_of(int ranks, int step, const std::vector<EventRow>& rows,
                     const std::vector<std::pair<Nanoseconds, Nanoseconds>>& clocks) {
  Timeline timeline{.ranks = ranks, .events = {}, .step = step};
  for (const auto& [rank, lane, instruction, text, pair, awaited_rank, awaited_instruction, begin,
                    end, waits] : rows) {
    std::vector<Action> actions;
    const auto parsed = parse_action(text, actions);
    if (!parsed || actions.size() != 1 || rank < 0 || rank >= ranks || lane < 0 || lane > 1)
      throw wrong_argument("rows", fmt::format("found {} on rank {}", text, rank));
    timeline.events.push_back({.rank = rank,
                               .lane = static_cast<Lane>(lane),
                               .instruction = instruction,
                               .action = actions.front(),
                               .pair = pair,
                               .awaited_rank = awaited_rank,
                               .awaited_instruction = awaited_instruction,
                               .begin = begin,
                               .end = end,
                               .waits_ns = waits});
  }
  for (const auto& [offset, error] : clocks) timeline.clocks.push_back({offset, error});
  return timeline;
}

std::string view_page(const std::vector<std::tuple<std::string, bool, const Timeline*>>& shown) {
  std::vector<viewer::ViewedFile> files;
  for (const auto& [name, schedule, timeline] : shown)
    files.push_back({.name = name, .schedule = schedule, .timeline = *timeline});
  return without_gil([&] { return viewer::print_view_page(files); });
}

}  // namespace

void bind_timeline(nb::module_& m) {
#define PLAIT_COLUMN(name, make, type) \
  def_prop_ro(name, make, nb::sig("def " name "(self) -> numpy.typing.NDArray[numpy." type "]"))
  nb::class_<Timeline>(m, "Timeline")
      .def_ro("ranks", &Timeline::ranks)
      .def_ro("step", &Timeline::step)
      .def_prop_ro("events", [](const Timeline& self) { return self.events.size(); })
      .PLAIT_COLUMN("rank", of_events<&TimelineEvent::rank>, "int32")
      .PLAIT_COLUMN("instruction", of_events<&TimelineEvent::instruction>, "int32")
      .PLAIT_COLUMN("part", of_events<&TimelineEvent::part>, "int32")
      .PLAIT_COLUMN("pair", of_events<&TimelineEvent::pair>, "int32")
      .PLAIT_COLUMN("awaited_rank", of_events<&TimelineEvent::awaited_rank>, "int32")
      .PLAIT_COLUMN("awaited_instruction", of_events<&TimelineEvent::awaited_instruction>, "int32")
      .PLAIT_COLUMN("begin_ns", of_events<&TimelineEvent::begin>, "int64")
      .PLAIT_COLUMN("end_ns", of_events<&TimelineEvent::end>, "int64")
      .PLAIT_COLUMN("waits_ns", of_events<&TimelineEvent::waits_ns>, "int64")
      .PLAIT_COLUMN("stage", of_actions<&Action::stage>, "int32")
      .PLAIT_COLUMN("microbatch", of_actions<&Action::microbatch>, "int32")
      .PLAIT_COLUMN("type", types_of, "uint8")
      .PLAIT_COLUMN("lane", lanes_of, "uint8")
      .def("measure",
           [](const Timeline& self) { return without_gil([&] { return measure(self); }); })
      .def(
          "svg",
          [](const Timeline& self, const std::string& title, int width) {
            return without_gil([&] { return draw_svg(self, {title, width}); });
          },
          nb::arg("title"), nb::arg("width"))
      .def("trace", [](const Timeline& self) {
        return without_gil([&] { return print_chrome_trace(self); });
      });
  nb::class_<StepMetrics>(m, "StepMetrics")
      .def_ro("span_ns", &StepMetrics::span_ns)
      .def_prop_ro("bubble_share", &StepMetrics::mean_bubble_share)
      .def_prop_ro("overlap_efficiency", &StepMetrics::overlap_efficiency)
      .PLAIT_COLUMN("busy_ns", of_metrics<&RankMetrics::busy_ns>, "int64")
      .PLAIT_COLUMN("bubble_ns", of_metrics<&RankMetrics::bubble_ns>, "int64")
      .PLAIT_COLUMN("fill_ns", of_metrics<&RankMetrics::fill_ns>, "int64")
      .PLAIT_COLUMN("steady_ns", of_metrics<&RankMetrics::steady_ns>, "int64")
      .PLAIT_COLUMN("drain_ns", of_metrics<&RankMetrics::drain_ns>, "int64")
      .PLAIT_COLUMN("peer_wait_ns", of_metrics<&RankMetrics::peer_wait_ns>, "int64")
      .PLAIT_COLUMN("exposed_comm_ns", of_metrics<&RankMetrics::exposed_comm_ns>, "int64")
      .PLAIT_COLUMN("transfer_ns", of_metrics<&RankMetrics::transfer_ns>, "int64")
      .PLAIT_COLUMN("hidden_comm_ns", of_metrics<&RankMetrics::hidden_comm_ns>, "int64");
#undef PLAIT_COLUMN
  m.def(
      "read_timeline",
      [](const std::string& path) {
        return value_of(without_gil([&]() -> Expected<Timeline> {
          PLAIT_TRY(const std::string text, read_file(path, "timeline"));
          return read_timeline(text, path);
        }));
      },
      nb::arg("path"));
  m.def("timeline_of", timeline_of, nb::arg("ranks"), nb::arg("step"), nb::arg("rows"),
        nb::arg("clocks"));
  m.def("view_page", view_page, nb::arg("shown"));
}

}  // namespace plait::python
