/// --lower and its options: the flags of torch's lowering, for every command that lowers.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "plait/base/error.h"
#include "plait/passes/lowering.h"
#include "plait/sim/bound/residency.h"

namespace plait::tools {

/// --dialect: which torch a lowered list is for.
struct DialectOption {
  std::string name;  ///< empty: not given, the newest

  void add_to(CLI::App& command);
  Dialect dialect() const;
};

struct LoweringArguments {
  std::string command;  ///< whose flags they are, for messages
  bool lower = false;
  std::string max_active_stages;  ///< a number, or any where options are searched
  std::string max_outstanding_sends;
  LoweringOptions options;

  static std::shared_ptr<LoweringArguments> add_to(CLI::App& command);
  /// The same; --max-active-stages and --unshard-lookahead take any.
  static std::shared_ptr<LoweringArguments> add_search_to(CLI::App& command);
  /// What the flags ask for. Errors: a number that is none; an option without --lower.
  Expected<ResidencyQuestion> question(Dialect dialect = kNewestDialect) const;
  /// Lowers if --lower is given; notes go to stderr. Errors: an option without --lower; those of
  /// lower_as_torch().
  Expected<Schedule> apply(Schedule schedule, Dialect dialect = kNewestDialect) const;
  /// A lowering's notes go to stderr.
  void print_notes(const std::string& schedule, const std::vector<std::string>& notes) const;
};

}  // namespace plait::tools
