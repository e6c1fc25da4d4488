#include <nanobind/stl/pair.h>

#include "plait/compare/compare.h"
#include "python/core/bind.h"

namespace plait::python {
namespace {

/// A price with the lowering's active stages and look-ahead.
using Row = std::tuple<Price, int, std::string>;
/// Rows, the fastest first; what is left out, with why; lowerings tried; what the cap keeps out.
using Compared = std::tuple<std::vector<Row>, std::vector<std::pair<std::string, std::string>>,
                            std::size_t, std::optional<Row>>;

Row row_of(const PricedLowering& one) {
  return {one.price, one.options.max_active_stages, one.options.unshard_lookahead};
}

/// `active` and `lookahead` are those of a lowering, or "any"; no `active`: schedules as they
/// stand.
Compared compare(int ranks, int microbatches, int chunks, bool any_m, const std::string& memory,
                 const CostSettings& costs, std::optional<int> active, bool any_active,
                 const std::string& lookahead, bool exact_bound) {
  return value_of(without_gil([&]() -> Expected<Compared> {
    CompareQuestion question;
    question.ranks = ranks;
    question.microbatches = microbatches;
    question.chunks = chunks;
    question.any_m = any_m;
    question.cap_name = "memory";
    question.exact_bound = exact_bound;
    PLAIT_TRY(question.cap, parse_memory(memory, question.cap_name));
    if (active || any_active) {
      ResidencyQuestion lowerings;
      lowerings.any_active_stages = any_active;
      lowerings.any_lookahead = lookahead == "any";
      if (active) lowerings.options.max_active_stages = *active;
      if (!lowerings.any_lookahead) lowerings.options.unshard_lookahead = lookahead;
      question.lowerings = lowerings;
    }
    PLAIT_TRY(const Comparison comparison, compare_schedules(question, costs));
    Compared compared;
    auto& [rows, left_out, tried, kept_out] = compared;
    for (const PricedLowering& one : comparison.fit) rows.push_back(row_of(one));
    for (const LeftOut& one : comparison.left_out) left_out.emplace_back(one.schedule, one.why);
    tried = comparison.tried;
    if (const PricedLowering* faster = comparison.kept_out_by_cap()) kept_out = row_of(*faster);
    return compared;
  }));
}

}  // namespace

void bind_compare(nb::module_& m) {
  m.def("compare", compare, nb::arg("ranks"), nb::arg("microbatches"), nb::arg("chunks"),
        nb::arg("any_m"), nb::arg("memory"), nb::arg("costs"), nb::arg("active").none(),
        nb::arg("any_active"), nb::arg("lookahead"), nb::arg("exact_bound"));
}

}  // namespace plait::python
