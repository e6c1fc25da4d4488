#include "tools/plait/lowering_arguments.h"

#include <fmt/core.h>

#include <charconv>
#include <cstdio>
#include <utility>
#include <vector>

namespace plait::tools {
namespace {

/// A number of at least `least`; `word` is what else the flag takes.
Expected<int> parse_number(const std::string& text, int least, const char* word, const char* flag) {
  int number = 0;
  const char* end = text.data() + text.size();
  const auto [read_to, problem] = std::from_chars(text.data(), end, number);
  if (problem == std::errc{} && read_to == end && number >= least) return number;
  return fail(ErrorCode::kInvalidInput,
              fmt::format("found '{}', needed {} or a number of at least {}", text.substr(0, 40),
                          word, least),
              flag);
}

constexpr std::string_view kAny = "any";

std::shared_ptr<LoweringArguments> add(CLI::App& command, bool search) {
  auto arguments = std::make_shared<LoweringArguments>();
  arguments->command = command.get_name();
  LoweringOptions& options = arguments->options;
  const std::string any = search ? "; any: the best" : "";
  command.add_flag("--lower", arguments->lower,
                   "as torch lowers: unshard and reshard, reduce-grad, sends and receives, waits");
  const std::string active =
      "of --lower: stages of a rank that are unsharded at a time, 3 unless given" + any;
  if (search) {
    command.add_option("--max-active-stages", arguments->max_active_stages, active);
  } else {
    command.add_option("--max-active-stages", options.max_active_stages, active);
  }
  command.add_option("--unshard-lookahead", options.unshard_lookahead,
                     "of --lower: full, auto, or a number for each rank, with commas: stages that "
                     "are unsharded ahead" +
                         any);
  command.add_flag("--defer-reduce-grad-wait", options.defer_reduce_grad_wait,
                   "of --lower: wait for a reduction before the next one begins");
  command.add_option("--max-outstanding-sends", arguments->max_outstanding_sends,
                     "of --lower: a number, or min for the fewest that work: sends of a rank "
                     "without their wait");
  command.add_flag("--defer-recv", options.defer_recv,
                   "of --lower: receive right before the reader, as defer_pp_recv");
  return arguments;
}

}  // namespace

void DialectOption::add_to(CLI::App& command) {
  std::vector<std::string> names;
  for (const DialectInfo& info : kDialects) names.emplace_back(info.name);
  command
      .add_option("--dialect", name,
                  "the torch that a lowered list is for: of a CSV and of --lower, the newest "
                  "unless given")
      ->check(CLI::IsMember(names));
}

Dialect DialectOption::dialect() const {
  for (const DialectInfo& info : kDialects) {
    if (info.name == name) return info.dialect;
  }
  return kNewestDialect;
}

std::shared_ptr<LoweringArguments> LoweringArguments::add_to(CLI::App& command) {
  return add(command, /*search=*/false);
}

std::shared_ptr<LoweringArguments> LoweringArguments::add_search_to(CLI::App& command) {
  return add(command, /*search=*/true);
}

Expected<ResidencyQuestion> LoweringArguments::question(Dialect dialect) const {
  ResidencyQuestion question;
  LoweringOptions& wanted = question.options;
  wanted = options;
  wanted.dialect = dialect;
  if (!lower) {
    const LoweringOptions none;
    for (const auto& [name, given] :
         {std::pair("--max-active-stages", wanted.max_active_stages != none.max_active_stages ||
                                               !max_active_stages.empty()),
          std::pair("--unshard-lookahead", wanted.unshard_lookahead != none.unshard_lookahead),
          std::pair("--defer-reduce-grad-wait", wanted.defer_reduce_grad_wait),
          std::pair("--max-outstanding-sends", !max_outstanding_sends.empty()),
          std::pair("--defer-recv", wanted.defer_recv)}) {
      if (given) return fail(ErrorCode::kInvalidInput, "is of --lower, needed both", name);
    }
    return question;
  }
  question.any_active_stages = max_active_stages == kAny;
  question.any_lookahead = wanted.unshard_lookahead == kAny;
  if (!max_active_stages.empty() && !question.any_active_stages) {
    PLAIT_TRY(wanted.max_active_stages,
              parse_number(max_active_stages, 1, "any", "--max-active-stages"));
  }
  if (max_outstanding_sends == "min") {
    wanted.fewest_outstanding_sends = true;
  } else if (!max_outstanding_sends.empty()) {
    PLAIT_TRY(wanted.max_outstanding_sends,
              parse_number(max_outstanding_sends, 0, "min", "--max-outstanding-sends"));
  }
  return question;
}

void LoweringArguments::print_notes(const std::string& schedule,
                                    const std::vector<std::string>& notes) const {
  for (const std::string& note : notes)
    fmt::print(stderr, "plait {}: note: {}: {}\n", command, schedule, note);
}

Expected<Schedule> LoweringArguments::apply(Schedule schedule, Dialect dialect) const {
  PLAIT_TRY(const ResidencyQuestion asked, question(dialect));
  if (!lower) return schedule;
  const std::string name = schedule.name;
  PLAIT_TRY(Lowered lowered, lower_as_torch(std::move(schedule), asked.options));
  print_notes(name, lowered.notes);
  return std::move(lowered.schedule);
}

}  // namespace plait::tools
