#include <fmt/core.h>
#include <nanobind/stl/pair.h>

#include "plait/base/read_file.h"
#include "plait/base/write_file.h"
#include "plait/draw/ascii.h"
#include "plait/ir/action_text.h"
#include "plait/ir/dialect.h"
#include "plait/ir/forms/cells.h"
#include "plait/ir/forms/text_forms.h"
#include "plait/passes/lowering.h"
#include "plait/passes/passes.h"
#include "plait/schedule/source.h"
#include "python/core/bind.h"

namespace plait::python {
namespace {

/// What Python passes for a file or for lists: ranks, stages, microbatches, placement.
using GivenShape = std::tuple<std::optional<int>, std::optional<int>, std::optional<int>,
                              std::optional<std::string>>;
using Read = std::pair<Schedule, std::vector<std::string>>;  // and notes

CsvShape shape_of(const GivenShape& given) {
  const auto& [ranks, stages, microbatches, placement] = given;
  return {ranks, stages, microbatches, placement};
}

Read parse(const std::string& text, const std::string& name, const GivenShape& given) {
  return value_of(without_gil([&]() -> Expected<Read> {
    std::vector<std::string> notes;
    PLAIT_TRY(Schedule schedule, read_schedule(text, name, shape_of(given), &notes));
    return Read(std::move(schedule), std::move(notes));
  }));
}

Read read(const std::string& path, const GivenShape& given) {
  return value_of(without_gil([&]() -> Expected<Read> {
    std::vector<std::string> notes;
    PLAIT_TRY(const std::string text, read_file(path, "schedule"));
    PLAIT_TRY(Schedule schedule, read_schedule(text, path, shape_of(given), &notes));
    return Read(std::move(schedule), std::move(notes));
  }));
}

Schedule of_cells(const Cells& cells, const std::string& name, const GivenShape& given) {
  return value_of(without_gil([&] { return read_cells(cells, name, shape_of(given)); }));
}

Dialect dialect_named(const std::optional<std::string>& name) {
  if (!name) return kNewestDialect;
  std::string known;
  for (const DialectInfo& info : kDialects) {
    if (info.name == *name) return info.dialect;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", info.name);
  }
  throw wrong_argument("dialect", fmt::format("found '{}', needed one of {}", *name, known));
}

/// A CSV is in the newest dialect unless another is asked for; the other forms are as the lists
/// are.
std::string print_as(const Schedule& schedule, const std::string& form,
                     const std::optional<std::string>& dialect) {
  const FormInfo* found = nullptr;
  std::string known;
  for (const FormInfo& info : kForms) {
    if (info.name == form) found = &info;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", info.name);
  }
  if (found == nullptr) {
    throw wrong_argument("form", fmt::format("found '{}', needed one of {}", form, known));
  }
  const Dialect wanted = dialect_named(dialect);
  return value_of(without_gil([&]() -> Expected<std::string> {
    if (form != "csv" && !dialect) return found->print(schedule);
    PLAIT_TRY(const Schedule translated, in_dialect(schedule, wanted));
    return found->print(translated);
  }));
}

std::pair<Schedule, std::vector<std::string>> lower(
    const Schedule& schedule, const std::optional<std::string>& dialect, int max_active_stages,
    const std::string& unshard_lookahead, bool defer_reduce_grad_wait, bool defer_recv,
    std::optional<int> max_outstanding_sends, bool fewest_outstanding_sends) {
  LoweringOptions options;
  options.dialect = dialect_named(dialect);
  options.max_active_stages = max_active_stages;
  options.unshard_lookahead = unshard_lookahead;
  options.defer_reduce_grad_wait = defer_reduce_grad_wait;
  options.defer_recv = defer_recv;
  options.max_outstanding_sends = max_outstanding_sends;
  options.fewest_outstanding_sends = fewest_outstanding_sends;
  Lowered lowered = value_of(without_gil([&] { return lower_as_torch(schedule, options); }));
  return {std::move(lowered.schedule), std::move(lowered.notes)};
}

const std::vector<Action>& list_of(const Schedule& schedule, int rank) {
  const int ranks = static_cast<int>(schedule.ranks.size());
  if (rank < 0 || rank >= ranks) {
    throw wrong_argument("rank", fmt::format("found {}, needed one of {} ranks", rank, ranks));
  }
  return schedule.ranks[static_cast<std::size_t>(rank)];
}

std::int64_t count_entries_of(const Schedule& schedule) {
  std::size_t entries = 0;
  for (const std::vector<Action>& list : schedule.ranks) entries += list.size();
  return static_cast<std::int64_t>(entries);
}

/// The bytes of a rank's list, entry by entry: Python looks at them as rows of plait.ACTION.
nb::object bytes_of_list(nb::handle_t<Schedule> self, int rank) {
  const std::vector<Action>& list = list_of(nb::cast<const Schedule&>(self), rank);
  return column(reinterpret_cast<const std::uint8_t*>(list.data()), list.size() * sizeof(Action), 1,
                self);
}

std::vector<std::string> cells_of(const Schedule& schedule, int rank) {
  const std::vector<Action>& list = list_of(schedule, rank);
  std::vector<std::string> cells;
  for (std::size_t i = 0; i < list.size(); i += 1U + list[i].members)
    cells.push_back(print_action_at(list, i));
  return cells;
}

std::string action_at(const Schedule& schedule, int rank, int position) {
  const std::vector<Action>& list = list_of(schedule, rank);
  if (position < 0 || static_cast<std::size_t>(position) >= list.size()) return {};
  return print_action_at(list, static_cast<std::size_t>(position));
}

std::string draw(const Schedule& schedule, bool colour, int width) {
  return value_of(without_gil([&] { return draw_schedule(schedule, {colour, width}); }));
}

}  // namespace

void bind_schedule(nb::module_& m) {
  nb::class_<Schedule>(m, "Schedule")
      .def_ro("name", &Schedule::name)
      .def_ro("microbatches", &Schedule::microbatches)
      .def_ro("forward_only", &Schedule::forward_only)
      .def_prop_ro("ranks", [](const Schedule& self) { return self.placement.ranks; })
      .def_prop_ro("stages", [](const Schedule& self) { return self.placement.stages(); })
      .def_prop_ro("copies", [](const Schedule& self) { return self.placement.copies; })
      .def_prop_ro("placement_name", [](const Schedule& self) { return self.placement.name; })
      .def_prop_ro("rank_of_stage",
                   [](const Schedule& self) { return self.placement.rank_of_stage; })
      .def_prop_ro("lowered", [](const Schedule& self) { return is_lowered(self); })
      .def_prop_ro("dialect",
                   [](const Schedule& self) -> std::optional<std::string_view> {
                     const std::optional<Dialect> dialect = dialect_of(self);
                     if (!dialect) return std::nullopt;
                     return info(*dialect).name;
                   })
      .def_prop_ro("entries", count_entries_of)
      .def("bytes_of_list", bytes_of_list, nb::arg("rank"),
           nb::sig("def bytes_of_list(self, rank: int) -> numpy.typing.NDArray[numpy.uint8]"))
      .def("cells", cells_of, nb::arg("rank"))
      .def("action_at", action_at, nb::arg("rank"), nb::arg("position"))
      .def("print_as", print_as, nb::arg("form"), nb::arg("dialect").none())
      .def("lower", lower, nb::arg("dialect").none(), nb::arg("max_active_stages"),
           nb::arg("unshard_lookahead"), nb::arg("defer_reduce_grad_wait"), nb::arg("defer_recv"),
           nb::arg("max_outstanding_sends").none(), nb::arg("fewest_outstanding_sends"))
      .def("draw", draw, nb::arg("colour"), nb::arg("width"))
      .def("equals", [](const Schedule& self, const Schedule& other) { return self == other; });
  m.def("parse", parse, nb::arg("text"), nb::arg("name"), nb::arg("shape"));
  m.def("of_cells", of_cells, nb::arg("cells"), nb::arg("name"), nb::arg("shape"));
  m.def(
      "names_generator",
      [](const std::string& name) { return value_of(find_schedule(name)) != nullptr; },
      nb::arg("name"));
  m.def("read", read, nb::arg("path"), nb::arg("shape"));
  m.def(
      "write_file",
      [](const std::string& path, const std::string& text) {
        value_of(without_gil([&] { return write_file_atomically(path, text); }));
      },
      nb::arg("path"), nb::arg("text"));
}

}  // namespace plait::python
