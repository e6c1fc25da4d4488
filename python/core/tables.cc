#include "plait/ir/action_text.h"
#include "plait/ir/dialect.h"
#include "plait/ir/forms/text_forms.h"
#include "plait/ir/placements.h"
#include "plait/passes/passes.h"
#include "plait/schedule/generators.h"
#include "plait/sim/cost_file.h"
#include "plait/verify/rules.h"
#include "python/core/bind.h"

namespace plait::python {
namespace {

nb::list schedules() {
  nb::list rows;
  for (const GeneratorInfo& info : kGenerators) {
    rows.append(nb::make_tuple(info.name, info.torch_name, info.summary, info.source, info.needs,
                               info.default_chunks, info.chunks == Chunks::kOpen));
  }
  return rows;
}

template <typename Table>
nb::list names_and_summaries(const Table& table) {
  nb::list rows;
  for (const auto& info : table) rows.append(nb::make_tuple(info.name, info.summary));
  return rows;
}

}  // namespace

void bind_tables(nb::module_& m) {
  m.attr("VERSION") = PLAIT_VERSION;
  m.def("schedules", schedules,
        nb::sig("def schedules() -> list[tuple[str, str, str, str, str, int, bool]]"));
  m.def(
      "placements", [] { return names_and_summaries(kPlacements); },
      nb::sig("def placements() -> list[tuple[str, str]]"));
  m.def(
      "passes", [] { return names_and_summaries(kPasses); },
      nb::sig("def passes() -> list[tuple[str, str]]"));
  m.def(
      "dialects", [] { return names_and_summaries(kDialects); },
      nb::sig("def dialects() -> list[tuple[str, str]]"));
  m.def(
      "forms", [] { return names_and_summaries(kForms); },
      nb::sig("def forms() -> list[tuple[str, str]]"));
  m.def(
      "rules",
      [] {
        nb::list rows;
        for (const verify_detail::RuleInfo& info : verify_detail::kRules)
          rows.append(nb::make_tuple(info.id, info.summary));
        return rows;
      },
      nb::sig("def rules() -> list[tuple[str, str]]"));
  m.def(
      "stage_costs",
      [] {
        nb::list rows;
        for (const StageKeyInfo& info : kStageKeys)
          rows.append(nb::make_tuple(info.name, info.meaning));
        return rows;
      },
      nb::sig("def stage_costs() -> list[tuple[str, str]]"));
  m.def(
      "action_types",
      [] {
        nb::list names;
        for (std::size_t type = 0; type < kActionTypes; ++type)
          names.append(type_name(static_cast<ActionType>(type)));
        return names;
      },
      nb::sig("def action_types() -> list[str]"));
}

}  // namespace plait::python
