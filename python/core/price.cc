#include "plait/sim/bound/price.h"
#include <fmt/core.h>
#include "plait/ir/action_text.h"

#include "plait/ir/forms/text_header.h"
#include "plait/passes/passes.h"
#include "plait/schedule/source.h"
#include "plait/sim/cost_file.h"
#include "python/core/bind.h"

namespace plait::python {
namespace {

/// Numbers of a schedule are at most what a file may hold; 0 chunks are the default.
void check_shape(int ranks, int microbatches, int chunks) {
  for (const auto& [name, value, least] :
       {std::tuple("ranks", ranks, 1), std::tuple("microbatches", microbatches, 1),
        std::tuple("stages", chunks, 0)}) {
    for (const HeaderNumber& number : kHeaderNumbers) {
      if (number.name != name || (value >= least && value <= number.limit)) continue;
      throw wrong_argument(
          number.name == "stages" ? "chunks" : name,
          fmt::format("found {}, needed a number from 1 to {}", value, number.limit));
    }
  }
}

Schedule generate_for(const std::string& name, int ranks, int microbatches, int chunks, bool any_m,
                      const CostSettings* settings, int activations) {
  check_shape(ranks, microbatches, chunks);
  return value_of(without_gil([&]() -> Expected<Schedule> {
    ScheduleShape shape;
    shape.ranks = ranks;
    shape.microbatches = microbatches;
    shape.chunks = chunks;
    shape.any_m = any_m;
    shape.activations = activations;
    const GeneratorInfo* const generator = find_generator(name);
    if (settings != nullptr && generator != nullptr) {
      const int stages = ranks * (chunks == 0 ? generator->default_chunks : chunks);
      PLAIT_TRY(const CostModel costs, make_cost_model(*settings, stages));
      shape.costs = costs.actions;
    }
    return generate(name, shape);
  }));
}

Price price_of(const Schedule& schedule, const CostSettings& settings, bool critical_path,
               bool timeline) {
  return value_of(without_gil([&]() -> Expected<Price> {
    PLAIT_TRY(const CostModel costs, make_cost_model(settings, schedule.placement.stages()));
    SimulateOptions options;
    options.critical_path = critical_path;
    options.keep_timeline = timeline;
    return price(schedule, costs, options);
  }));
}

Schedule run_passes_on(const Schedule& schedule, const std::string& passes,
                       const CostSettings* settings, std::optional<int> max_activations) {
  return value_of(without_gil([&]() -> Expected<Schedule> {
    SchedulePrice priced;
    if (settings != nullptr) {
      PLAIT_TRY(CostModel costs, make_cost_model(*settings, schedule.placement.stages()));
      priced = schedule_price(std::move(costs), max_activations);
    }
    return run_passes(passes, schedule, priced);
  }));
}

/// One number of every rank, as an array that `owner` keeps.
template <typename Owner, auto Member>
nb::object of_ranks(nb::handle_t<Owner> self) {
  const std::vector<RankPrediction>& ranks = nb::cast<const Owner&>(self).prediction.ranks;
  const std::int64_t* first = ranks.empty() ? nullptr : &(ranks.front().*Member);
  return column(first, ranks.size(), sizeof(RankPrediction), self);
}

template <auto Peak>
nb::object peaks_of_ranks(nb::handle_t<Price> self) {
  const std::vector<RankPrediction>& ranks = nb::cast<const Price&>(self).prediction.ranks;
  const std::int64_t* first = ranks.empty() ? nullptr : &(ranks.front().*Peak).amount;
  return column(first, ranks.size(), sizeof(RankPrediction), self);
}

using Step = std::tuple<int, int, std::string, std::int64_t, std::int64_t, std::int64_t>;

std::vector<Step> critical_path_of(const Price& price) {
  std::vector<Step> steps;
  for (const CriticalStep& step : price.prediction.critical_path) {
    steps.emplace_back(step.rank, step.position, print_action(step.action), step.begin, step.end,
                       step.wait);
  }
  return steps;
}

}  // namespace

void bind_price(nb::module_& m) {
  const nb::class_<CostSettings> costs(m, "Costs");
  m.def(
      "parse_costs",
      [](const std::string& text, const std::string& name) {
        return value_of(parse_cost_file(text, name));
      },
      nb::arg("text"), nb::arg("name"));
  m.def(
      "read_costs", [](const std::string& path) { return value_of(read_cost_file(path)); },
      nb::arg("path"));
  m.def("generate", generate_for, nb::arg("name"), nb::arg("ranks"), nb::arg("microbatches"),
        nb::arg("chunks"), nb::arg("any_m"), nb::arg("costs").none(), nb::arg("activations"));
  m.def("run_passes", run_passes_on, nb::arg("schedule"), nb::arg("passes"),
        nb::arg("costs").none(), nb::arg("max_activations").none());
#define PLAIT_OF_RANKS(name)                                 \
  def_prop_ro(#name, of_ranks<Price, &RankPrediction::name>, \
              nb::sig("def " #name "(self) -> numpy.typing.NDArray[numpy.int64]"))
  nb::class_<Price>(m, "Price")
      .def_ro("schedule", &Price::schedule)
      .def_ro("ranks", &Price::ranks)
      .def_ro("microbatches", &Price::microbatches)
      .def_ro("chunks", &Price::chunks)
      .def_ro("has_bytes", &Price::has_bytes)
      .def_ro("activation_slots", &Price::activation_slots)
      .def_prop_ro("makespan_ns", [](const Price& self) { return self.prediction.makespan_ns; })
      .def_prop_ro("span_ns", [](const Price& self) { return self.prediction.span_ns; })
      .def_prop_ro("pair_coverage", [](const Price& self) { return self.prediction.pair_coverage; })
      .def_prop_ro("bound_ns", [](const Price& self) { return self.bound.makespan; })
      .def_prop_ro("bound", [](const Price& self) { return self.bound.name; })
      .PLAIT_OF_RANKS(busy_ns)
      .PLAIT_OF_RANKS(idle_ns)
      .PLAIT_OF_RANKS(fill_ns)
      .PLAIT_OF_RANKS(steady_ns)
      .PLAIT_OF_RANKS(drain_ns)
      .PLAIT_OF_RANKS(exposed_comm_ns)
      .def_prop_ro("peak_activations", peaks_of_ranks<&RankPrediction::peak_activations>,
                   nb::sig("def peak_activations(self) -> numpy.typing.NDArray[numpy.int64]"))
      .def_prop_ro("peak_bytes", peaks_of_ranks<&RankPrediction::peak_bytes>,
                   nb::sig("def peak_bytes(self) -> numpy.typing.NDArray[numpy.int64]"))
      .def_prop_ro("critical_path", critical_path_of)
      .def_prop_ro("timeline", [](const Price& self) { return self.prediction.timeline; });
#undef PLAIT_OF_RANKS
  m.def("price", price_of, nb::arg("schedule"), nb::arg("costs"), nb::arg("critical_path"),
        nb::arg("timeline"));
}

}  // namespace plait::python
