#include <fmt/core.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <utility>

#include "plait/base/write_file.h"
#include "plait/compare/compare.h"
#include "plait/ir/forms/text.h"
#include "plait/ir/text_placement.h"
#include "plait/launch/signals.h"
#include "plait/search/search.h"
#include "tools/plait/commands.h"
#include "tools/plait/cost_arguments.h"
#include "tools/plait/output.h"

namespace plait::tools {
namespace {

using Clock = std::chrono::steady_clock;

struct SearchArguments {
  int ranks = 0;
  int microbatches = 0;
  int chunks = 0;
  std::string placement = "v";
  std::string memory;
  std::string bound = "quick";
  std::string output;
  double seconds = 10;
  std::int64_t steps = 0;
  std::uint64_t seed = 1;
};

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// Ends the search when its time is over or a signal came; meanwhile, on a terminal, says how it
/// stands, on stderr.
class Watch {
 public:
  explicit Watch(double seconds) : seconds_(seconds), live_(isatty(STDERR_FILENO) == 1) {}
  ~Watch() {
    if (shown_) fmt::print(stderr, "\r\033[K");
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  bool go_on(const SearchProgress& progress) {
    const double now = seconds();
    if (StopSignals::requested() != 0 || now >= seconds_) return false;
    constexpr double kPeriod = 0.2;
    if (!live_ || now < next_) return true;
    next_ = now + kPeriod;
    shown_ = true;
    const TimeUnit unit = TimeUnit::for_times_of(progress.makespan);
    fmt::print(
        stderr, "\r\033[K{:.1f} s: makespan {} {}, bound {}, {:.2f} % above, {:.0f} moves/s", now,
        unit.print(progress.makespan), unit.name, unit.print(progress.bound),
        100 * (static_cast<double>(progress.makespan) / static_cast<double>(progress.bound) - 1),
        static_cast<double>(progress.moves) / std::max(now, 1e-9));
    return true;
  }
  double seconds() const { return seconds_since(begin_); }

 private:
  Clock::time_point begin_ = Clock::now();
  double seconds_;
  bool live_;
  bool shown_ = false;
  double next_ = 0.2;
};

Expected<Placement> placement_of(const SearchArguments& arguments) {
  std::optional<int> stages;
  const bool named = arguments.placement.find(' ') == std::string::npos;
  if (named) {
    const int chunks = arguments.chunks > 0 ? arguments.chunks : arguments.placement == "v" ? 2 : 1;
    stages = arguments.ranks * chunks;
  } else if (arguments.chunks > 0) {
    return fail(ErrorCode::kInvalidInput, "is of a placement by name, a table has its stages",
                "--chunks");
  }
  return parse_placement(arguments.placement, arguments.ranks, stages);
}

Expected<SearchCap> cap_of(const std::string& memory, const Placement& placement) {
  PLAIT_TRY(const MemoryCap given, parse_memory(memory, "--memory"));
  SearchCap cap;
  cap.bytes = given.bytes;
  if (given.activations) {
    const double stages_a_rank =
        static_cast<double>(placement.rank_of_stage.size()) / placement.ranks;
    constexpr double kMost = 1e9;
    constexpr double kRounding = 1e-9;
    cap.activations = static_cast<int>(
        std::floor(std::min(*given.activations * stages_a_rank + kRounding, kMost)));
  }
  return cap;
}

std::string summary(const SearchResult& result, double seconds) {
  const Price& price = result.price;
  const Nanoseconds makespan = price.prediction.makespan_ns;
  const TimeUnit unit = TimeUnit::for_times_of(makespan);
  return fmt::format(
      "makespan {} {}, idle {}, peak {} {}, bound {} ({}), {}, {:.1f} s, {} moves from {}",
      unit.print(makespan), unit.name, unit.print(price.worst_idle()), price.worst_peak(),
      price.has_bytes ? "bytes" : "stage activations", unit.print(price.bound.makespan),
      price.bound.name,
      result.optimal()
          ? std::string("optimal")
          : fmt::format("at most {:.2f} % above the best", 100 * price.share_above_bound()),
      seconds, result.moves, result.how);
}

Expected<int> search(const CostArguments& cost_arguments, const SearchArguments& arguments) {
  PLAIT_TRY(const CostSettings settings, cost_arguments.settings());
  SearchQuestion question;
  PLAIT_TRY(question.placement, placement_of(arguments));
  question.microbatches = arguments.microbatches;
  PLAIT_TRY(question.costs, make_cost_model(settings, question.placement.stages()));
  PLAIT_TRY(question.cap, cap_of(arguments.memory, question.placement));
  if (question.cap.bytes && !question.costs.has_bytes()) {
    return fail(ErrorCode::kInvalidInput, "a cap in bytes needs costs in bytes, found none",
                "--memory");
  }
  if (arguments.steps > 0) question.moves = arguments.steps;
  question.seed = arguments.seed;
  question.exact_bound = arguments.bound == "exact";
  const StopSignals signals(nullptr);
  StopSignals::defer();
  std::string line;
  Expected<SearchResult> result = [&] {
    Watch watch(arguments.seconds);
    question.go_on = [&watch](const SearchProgress& progress) { return watch.go_on(progress); };
    Expected<SearchResult> found = search_schedule(question);
    if (found) line = summary(*found, watch.seconds());
    return found;
  }();
  if (!result) return tl::unexpected(result.error());
  const std::string text = print_text(result->schedule);
  if (arguments.output.empty()) {
    plait::tools::print_text(text);
    fmt::print(stderr, "plait search: {}\n", line);
  } else {
    PLAIT_TRY_VOID(write_file_atomically(arguments.output, text));
    print("{}\n", line);
  }
  const int signal = StopSignals::requested();
  return signal == 0 ? int{kExitOk} : 128 + signal;
}

}  // namespace

void add_search(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "search", "find an order for given costs and memory, and how far it is from the best");
  auto arguments = std::make_shared<SearchArguments>();
  command->add_option("--ranks", arguments->ranks, "ranks P")
      ->required()
      ->check(CLI::Range(1, 1 << 16));
  command->add_option("--microbatches", arguments->microbatches, "micro-batches M")
      ->required()
      ->check(CLI::Range(1, 1 << 24));
  command->add_option("--placement", arguments->placement,
                      "v (default), another name (plait list), or the rank of every stage, as in "
                      "\"0 1 1 0\"");
  command
      ->add_option("--chunks", arguments->chunks,
                   "stages per rank V; unless given 2 on a v and 1 elsewhere")
      ->check(CLI::Range(1, 1 << 10));
  command->add_option("--memory", arguments->memory,
                      "most a rank may hold: activations of its whole share, or bytes (64GiB)");
  auto costs = CostArguments::add_to(*command);
  command->add_option("--time", arguments->seconds, "most seconds, 10 unless given")
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--steps", arguments->steps,
                   "most moves that are tried: with these and a seed the schedule is always the "
                   "same, if the time does not end it")
      ->check(CLI::PositiveNumber);
  command->add_option("--seed", arguments->seed, "of the walk");
  command
      ->add_option("--bound", arguments->bound,
                   "quick (default), or exact: by the best order of one rank, tighter and slow")
      ->check(CLI::IsMember({"quick", "exact"}));
  command->add_option("--output", arguments->output,
                      "write the schedule to this file, and the line about it to standard output");
  command->callback([arguments, costs, &exit_code] {
    const Expected<int> result = search(*costs, *arguments);
    exit_code = result ? *result : report("search", result.error());
  });
}

}  // namespace plait::tools
