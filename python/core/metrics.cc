#include <nanobind/stl/pair.h>

#include "plait/base/read_file.h"
#include "plait/record/metrics_file.h"
#include "plait/record/step_fields.h"
#include "python/core/bind.h"

namespace plait::python {
namespace {

nb::dict dict_of(const StepLine& line) {
  nb::dict row;
  row["step"] = line.step;
  for (const StepField& field : kStepFields) {
    const nb::str name(field.name.data(), field.name.size());
    std::visit([&](const auto place) { row[name] = nb::cast(std::invoke(place, line)); },
               field.place);
  }
  return row;
}

nb::dict dict_of(const ValidationLine& line) {
  nb::dict row;
  row["step"] = line.step;
  row["validation_loss"] = line.loss;
  row[line.tokens_are_bytes ? "validation_bits_per_byte" : "validation_bits_per_token"] =
      line.bits_per_token();
  return row;
}

nb::list read_metrics(const std::string& path) {
  const std::vector<MetricsLine> lines =
      value_of(without_gil([&]() -> Expected<std::vector<MetricsLine>> {
        PLAIT_TRY(const std::string text, read_file(path, "metrics"));
        return MetricsReader(path).read(text);
      }));
  nb::list rows;
  for (const MetricsLine& line : lines)
    rows.append(std::visit([](const auto& one) { return dict_of(one); }, line));
  return rows;
}

nb::list step_fields() {
  nb::list rows;
  for (const StepField& field : kStepFields) {
    const bool of_ranks = std::holds_alternative<Numbers StepLine::*>(field.place) ||
                          std::holds_alternative<Integers StepLine::*>(field.place);
    rows.append(nb::make_tuple(field.name, field.meaning, of_ranks));
  }
  return rows;
}

}  // namespace

void bind_metrics(nb::module_& m) {
  m.def(
      "read_metrics", read_metrics, nb::arg("path"),
      nb::sig(
          "def read_metrics(path: str) -> list[dict[str, int | float | list[int] | list[float]]]"));
  m.def("step_fields", step_fields, nb::sig("def step_fields() -> list[tuple[str, str, bool]]"));
}

}  // namespace plait::python
