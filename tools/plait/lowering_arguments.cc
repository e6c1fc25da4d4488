#include "tools/plait/lowering_arguments.h"

#include <fmt/core.h>

#include <charconv>
#include <cstdio>
#include <utility>
#include <vector>

namespace plait::tools {
namespace {

Expected<int> parse_sends(const std::string& text) {
  int number = 0;
  const char* end = text.data() + text.size();
  const auto [read_to, problem] = std::from_chars(text.data(), end, number);
  if (problem == std::errc{} && read_to == end && number >= 0) return number;
  return fail(ErrorCode::kInvalidInput,
              fmt::format("found '{}', needed min or a number of at least 0", text.substr(0, 40)),
              "--max-outstanding-sends");
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
  auto arguments = std::make_shared<LoweringArguments>();
  arguments->command = command.get_name();
  LoweringOptions& options = arguments->options;
  command.add_flag("--lower", arguments->lower,
                   "as torch lowers: unshard and reshard, reduce-grad, sends and receives, waits");
  command.add_option("--max-active-stages", options.max_active_stages,
                     "of --lower: stages of a rank that are unsharded at a time, 3 unless given");
  command.add_option("--unshard-lookahead", options.unshard_lookahead,
                     "of --lower: full, auto, or a number for each rank, with commas: stages that "
                     "are unsharded ahead");
  command.add_flag("--defer-reduce-grad-wait", options.defer_reduce_grad_wait,
                   "of --lower: wait for a reduction before the next one begins");
  command.add_option("--max-outstanding-sends", arguments->max_outstanding_sends,
                     "of --lower: a number, or min for the fewest that work: sends of a rank "
                     "without their wait");
  command.add_flag("--defer-recv", options.defer_recv,
                   "of --lower: receive right before the reader, as defer_pp_recv");
  return arguments;
}

Expected<Schedule> LoweringArguments::apply(Schedule schedule, Dialect dialect) const {
  LoweringOptions wanted = options;
  wanted.dialect = dialect;
  if (!lower) {
    const LoweringOptions none;
    for (const auto& [name, given] :
         {std::pair("--max-active-stages", wanted.max_active_stages != none.max_active_stages),
          std::pair("--unshard-lookahead", wanted.unshard_lookahead != none.unshard_lookahead),
          std::pair("--defer-reduce-grad-wait", wanted.defer_reduce_grad_wait),
          std::pair("--max-outstanding-sends", !max_outstanding_sends.empty()),
          std::pair("--defer-recv", wanted.defer_recv)}) {
      if (given) return fail(ErrorCode::kInvalidInput, "is of --lower, needed both", name);
    }
    return schedule;
  }
  if (max_outstanding_sends == "min") {
    wanted.fewest_outstanding_sends = true;
  } else if (!max_outstanding_sends.empty()) {
    PLAIT_TRY(wanted.max_outstanding_sends, parse_sends(max_outstanding_sends));
  }
  const std::string name = schedule.name;
  PLAIT_TRY(Lowered lowered, lower_as_torch(std::move(schedule), wanted));
  for (const std::string& note : lowered.notes)
    fmt::print(stderr, "plait {}: note: {}: {}\n", command, name, note);
  return std::move(lowered.schedule);
}

}  // namespace plait::tools
