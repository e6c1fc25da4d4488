#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "plait/passes/lowering.h"
#include "plait/schedule/source.h"
#include "plait/verify/notes.h"
#include "plait/verify/verify.h"
#include "tools/plait/commands.h"
#include "tools/plait/output.h"

namespace plait::tools {
namespace {

using Json = nlohmann::ordered_json;

struct CheckArguments {
  std::shared_ptr<ScheduleArguments> schedule;
  std::shared_ptr<LoweringArguments> lowering;
  std::string matching;
  std::vector<int> max_activations;
  std::optional<int> max_unsharded;
  bool ascending = false;
  bool messages = false;
  bool json = false;

  VerifyOptions options() const {
    VerifyOptions asked;
    for (const MatchingInfo& info : kMatchings) {
      if (info.name == matching) asked.matchings = {info.matching};
    }
    asked.max_activations = max_activations;
    asked.max_active_stages = max_unsharded;
    asked.ascending = ascending;
    return asked;
  }
};

/// "with communication: torch 2.15, with waits".
std::string describe_communication(const Schedule& schedule) {
  const std::optional<Dialect> dialect = dialect_of(schedule);
  if (!dialect) return "with communication";
  return fmt::format("with communication: {}", info(*dialect).summary);
}

Json json_of(const Schedule& schedule, bool lowered) {
  const std::optional<Dialect> dialect = dialect_of(schedule);
  return {{"schedule", schedule.name},
          {"ranks", schedule.placement.ranks},
          {"stages", schedule.placement.stages()},
          {"microbatches", schedule.microbatches},
          {"placement", schedule.placement.name},
          {"lowered", lowered},
          {"dialect", dialect ? Json(info(*dialect).name) : Json()}};
}

Json json_of(const Diagnostics& findings) {
  Json all = Json::array();
  for (const Diagnostic& finding : findings) {
    Json notes = Json::array();
    for (const DiagnosticNote& other : finding.notes)
      notes.push_back(
          {{"rank", other.rank}, {"position", other.position}, {"message", other.message}});
    all.push_back({{"rule", finding.rule},
                   {"rank", finding.rank},
                   {"position", finding.position},
                   {"message", finding.message},
                   {"notes", std::move(notes)}});
    for (const MatchingInfo& info : kMatchings) {
      if (finding.matching == info.matching) all.back()["matching"] = info.name;
    }
  }
  return all;
}

void print_findings(const Diagnostics& findings) {
  for (const Diagnostic& finding : findings) print("{}\n", finding.text());
  print("{} {}\n", findings.size(), findings.size() == 1 ? "violation" : "violations");
}

void print_shape(const Schedule& schedule, std::string_view communication) {
  std::string table;
  for (const int rank : schedule.placement.rank_of_stage) table += fmt::format(" {}", rank);
  if (schedule.placement.stages() > 32) table = " …";
  print("{}: {} ranks, {} stages, {} micro-batches, placement {} ({}), {}\n", schedule.name,
        schedule.placement.ranks, schedule.placement.stages(), schedule.microbatches,
        schedule.placement.name, table.substr(1), communication);
}

int check(const CheckArguments& arguments) {
  Expected<Schedule> schedule = arguments.schedule->load();
  if (schedule) schedule = arguments.lowering->apply(*std::move(schedule));
  if (!schedule) return report("check", schedule.error());
  const bool lowered = is_lowered(*schedule);
  // A way of matching asks about messages.
  const bool inserts = !lowered && (arguments.messages || !arguments.matching.empty());
  Json json = json_of(*schedule, lowered);
  if (!arguments.json) {
    print_shape(*schedule, lowered   ? describe_communication(*schedule)
                           : inserts ? "compute only: its communication is inserted for the proof"
                                     : "compute only");
  }
  if (inserts) schedule = insert_messages(*std::move(schedule));
  if (!schedule) return report("check", schedule.error());
  const auto verified = verify(*std::move(schedule), arguments.options());
  if (arguments.json) {
    json["proven"] = verified.has_value();
    json["findings"] = verified ? Json::array() : json_of(verified.error());
    json["notes"] = verified ? Json(notes_of(verified->schedule())) : Json::array();
    print("{}\n", json.dump(2));
  } else if (verified) {
    for (const std::string& note : notes_of(verified->schedule())) print("note: {}\n", note);
    print("proven: {}\n", verified->summary());
  } else {
    print_findings(verified.error());
  }
  return verified ? kExitOk : kExitFailed;
}

}  // namespace

void add_check(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("check", "prove a schedule, or list every violation");
  std::vector<std::string> matchings;
  for (const MatchingInfo& info : kMatchings) matchings.emplace_back(info.name);
  auto arguments = std::make_shared<CheckArguments>();
  arguments->schedule = ScheduleArguments::add_to(*command);
  arguments->lowering = LoweringArguments::add_to(*command);
  command
      ->add_option("--matching", arguments->matching,
                   "require the step to end with queues per edge, pair or rank only, with its "
                   "messages inserted; all three if not given")
      ->check(CLI::IsMember(matchings));
  command
      ->add_option("--max-activations", arguments->max_activations,
                   "cap on live stage activations: one for all ranks, or one for each, with commas")
      ->delimiter(',')
      ->check(CLI::Range(0, 1 << 30));
  command
      ->add_option("--max-unsharded", arguments->max_unsharded,
                   "cap on the stages of a rank that are unsharded at a time")
      ->check(CLI::Range(1, 1 << 30));
  command->add_flag("--ascending", arguments->ascending,
                    "gradients must add up by ascending micro-batch");
  command->add_flag("--messages", arguments->messages,
                    "insert a compute-only schedule's messages (insert-comm) and prove them too");
  command->add_flag("--json", arguments->json, "for machines");
  command->callback([arguments, &exit_code] { exit_code = check(*arguments); });
}

}  // namespace plait::tools
