#include <fmt/core.h>

#include "plait/passes/lowering.h"
#include "plait/verify/notes.h"
#include "plait/verify/verify.h"
#include "python/core/bind.h"

namespace plait::python {
namespace {

/// rule, rank, position, message, matching, notes; a note is (rank, position, message).
using Note = std::tuple<int, int, std::string>;
using Finding =
    std::tuple<std::string, int, int, std::string, std::optional<std::string>, std::vector<Note>>;

struct Verdict {
  std::optional<Schedule> checked;  ///< what the findings are of, if messages were inserted
  std::optional<VerifiedSchedule> proven;
  std::vector<Finding> findings;
};

std::vector<Matching> matchings_named(const std::vector<std::string>& names) {
  std::vector<Matching> matchings;
  for (const std::string& name : names) {
    std::string known;
    const std::size_t before = matchings.size();
    for (const MatchingInfo& info : kMatchings) {
      if (info.name == name) matchings.push_back(info.matching);
      known += fmt::format("{}{}", known.empty() ? "" : ", ", info.name);
    }
    if (matchings.size() == before) {
      throw wrong_argument("matching", fmt::format("found '{}', needed one of {}", name, known));
    }
  }
  return matchings;
}

Finding plain(const Diagnostic& finding) {
  std::optional<std::string> matching;
  for (const MatchingInfo& info : kMatchings) {
    if (finding.matching == info.matching) matching = info.name;
  }
  std::vector<Note> notes;
  for (const DiagnosticNote& note : finding.notes)
    notes.emplace_back(note.rank, note.position, note.message);
  return {finding.rule,    finding.rank, finding.position,
          finding.message, matching,     std::move(notes)};
}

Verdict check(const Schedule& schedule, const std::optional<std::vector<std::string>>& matchings,
              std::vector<int> max_activations, std::optional<int> max_active_stages,
              bool ascending, bool messages) {
  VerifyOptions options;
  if (matchings) options.matchings = matchings_named(*matchings);
  options.max_activations = std::move(max_activations);
  options.max_active_stages = max_active_stages;
  options.ascending = ascending;
  return value_of(without_gil([&]() -> Expected<Verdict> {
    Verdict verdict;
    // A way of matching asks about messages.
    if ((messages || matchings) && !is_lowered(schedule)) {
      PLAIT_TRY(verdict.checked, insert_messages(schedule));
    }
    auto verified = verify(verdict.checked ? *verdict.checked : schedule, options);
    if (verified) {
      verdict.proven = *std::move(verified);
      verdict.checked.reset();  // the proof has it
    } else {
      for (const Diagnostic& finding : verified.error()) verdict.findings.push_back(plain(finding));
    }
    return verdict;
  }));
}

}  // namespace

void bind_proof(nb::module_& m) {
  nb::class_<VerifiedSchedule>(m, "Proof")
      .def_prop_ro("schedule", &VerifiedSchedule::schedule, nb::rv_policy::reference_internal)
      .def_prop_ro("lowered", &VerifiedSchedule::lowered)
      .def_prop_ro("summary", &VerifiedSchedule::summary)
      .def_prop_ro("notes", [](const VerifiedSchedule& self) { return notes_of(self.schedule()); });
  nb::class_<Verdict>(m, "Verdict")
      .def_prop_ro(
          "checked", [](const Verdict& self) { return self.checked ? &*self.checked : nullptr; },
          nb::rv_policy::reference_internal, nb::sig("def checked(self) -> Schedule | None"))
      .def_prop_ro(
          "proven", [](const Verdict& self) { return self.proven ? &*self.proven : nullptr; },
          nb::rv_policy::reference_internal, nb::sig("def proven(self) -> Proof | None"))
      .def_ro("findings", &Verdict::findings);
  m.def("check", check, nb::arg("schedule"), nb::arg("matchings").none(),
        nb::arg("max_activations"), nb::arg("max_active_stages").none(), nb::arg("ascending"),
        nb::arg("messages"));
}

}  // namespace plait::python
