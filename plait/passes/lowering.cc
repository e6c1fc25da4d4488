#include "plait/passes/lowering.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>

#include "plait/ir/action_text.h"
#include "plait/passes/insert_comm.h"
#include "plait/passes/limit_sends.h"
#include "plait/passes/passes.h"

namespace plait {
namespace {

Expected<int> parse_number(std::string_view word, std::size_t rank, int most) {
  int number = 0;
  const auto [end, problem] = std::from_chars(word.data(), word.data() + word.size(), number);
  if (problem == std::errc{} && end == word.data() + word.size() && number >= 1 && number <= most)
    return number;
  return fail(ErrorCode::kInvalidInput,
              fmt::format("found '{}' for rank {}, needed a number from 1 to {}, the stages that "
                          "may be active",
                          word.substr(0, 40), rank, most),
              ErrorPlace{.argument = "unshard-lookahead"});
}

/// By rank; empty: all that may be whole.
Expected<std::vector<int>> parse_lookahead(const LoweringOptions& options, std::size_t ranks) {
  const std::string_view text = options.unshard_lookahead;
  std::vector<int> lookahead;
  if (text == "full") return lookahead;
  if (text == "auto") {
    for (std::size_t rank = 0; rank < ranks; ++rank) {
      lookahead.push_back(static_cast<int>(
          std::min(rank + 2, static_cast<std::size_t>(options.max_active_stages))));
    }
    return lookahead;
  }
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    PLAIT_TRY(const int number, parse_number(text.substr(begin, end - begin), lookahead.size(),
                                             options.max_active_stages));
    lookahead.push_back(number);
    begin = end + 1;
  }
  if (lookahead.size() == ranks) return lookahead;
  return fail(ErrorCode::kInvalidInput,
              fmt::format("found {} numbers, needed full, auto, or one for each of {} ranks",
                          lookahead.size(), ranks),
              ErrorPlace{.argument = "unshard-lookahead"});
}

Expected<void> check_active_stages(const LoweringOptions& options) {
  if (options.max_active_stages >= 1) return {};
  return fail(ErrorCode::kInvalidInput,
              fmt::format("found {}, needed a number of at least 1", options.max_active_stages),
              ErrorPlace{.argument = "max-active-stages"});
}

Expected<void> check_options(const LoweringOptions& options) {
  PLAIT_TRY_VOID(check_active_stages(options));
  if (options.max_outstanding_sends && *options.max_outstanding_sends < 0) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("found {}, needed a number of at least 0, or min",
                            *options.max_outstanding_sends),
                ErrorPlace{.argument = "max-outstanding-sends"});
  }
  if (options.dialect != Dialect::kTorch213) return {};
  const bool sends = options.max_outstanding_sends || options.fewest_outstanding_sends;
  if (!sends && !options.defer_reduce_grad_wait) return {};
  return fail(ErrorCode::kInvalidInput,
              "is about waits, torch 2.13 has none: needed --dialect torch-2.15",
              ErrorPlace{.argument = sends ? "max-outstanding-sends" : "defer-reduce-grad-wait"});
}

/// A pair is needed at once, with all its stages.
Expected<void> check_pairs(const Schedule& schedule, int most) {
  if (most > 1) return {};
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    const std::vector<Action>& list = schedule.ranks[rank];
    for (std::size_t i = 0; i < list.size(); i += 1U + list[i].members) {
      const auto begin = list.begin() + static_cast<std::ptrdiff_t>(i) + 1;
      if (std::all_of(begin, begin + list[i].members,
                      [&](const Action& member) { return member.stage == begin->stage; }))
        continue;
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("found 1, needed at least 2: {} on rank {} computes two stages",
                              print_action_at(list, i), rank),
                  ErrorPlace{.argument = "max-active-stages"});
    }
  }
  return {};
}

Expected<Schedule> limit(Schedule schedule, const LoweringOptions& options,
                         std::vector<std::string>& notes) {
  if (!options.fewest_outstanding_sends) {
    if (!options.max_outstanding_sends) return schedule;
    return limit_sends(std::move(schedule), *options.max_outstanding_sends);
  }
  PLAIT_TRY(const FewestSends fewest, fewest_outstanding_sends(schedule));
  notes.push_back(fmt::format("{} outstanding {} a rank {} the fewest: {}", fewest.number,
                              fewest.number == 1 ? "send" : "sends",
                              fewest.number == 1 ? "is" : "are", fewest.proof));
  return limit_sends(std::move(schedule), fewest.number);
}

/// torch 2.13 keeps whole stages in a set of Python, which gives small numbers back in ascending
/// order.
PassOptions unshard_options(const LoweringOptions& options, std::vector<int> lookahead) {
  PassOptions unshard;
  unshard.number = options.max_active_stages;
  unshard.lookahead = std::move(lookahead);
  if (options.dialect == Dialect::kTorch213) unshard.reshards = Reshards::kAscending;
  return unshard;
}

}  // namespace

Expected<Lowered> lower_as_torch(Schedule schedule, const LoweringOptions& options) {
  PLAIT_TRY_VOID(check_options(options));
  const bool waits = options.dialect == Dialect::kTorch215;
  Lowered lowered;
  PLAIT_TRY(schedule, insert_unshards(std::move(schedule), options));
  PLAIT_TRY(schedule, insert_reduce_grad(std::move(schedule), {}));
  if (waits) {
    PassOptions deferred;
    deferred.number = options.defer_reduce_grad_wait ? 1 : 0;
    PLAIT_TRY(schedule, insert_reduce_wait(std::move(schedule), deferred));
  }
  PLAIT_TRY(schedule, insert_comm(std::move(schedule)));
  if (waits) {
    PLAIT_TRY(schedule, insert_send_wait(std::move(schedule), {}));
  }
  if (options.defer_recv) {
    PLAIT_TRY(schedule, defer_recv(std::move(schedule), {}));
  }
  PLAIT_TRY(lowered.schedule, limit(std::move(schedule), options, lowered.notes));
  return lowered;
}

Expected<Schedule> insert_unshards(Schedule schedule, const LoweringOptions& options) {
  PLAIT_TRY_VOID(check_active_stages(options));
  PLAIT_TRY(std::vector<int> lookahead, parse_lookahead(options, schedule.ranks.size()));
  PLAIT_TRY_VOID(check_pairs(schedule, options.max_active_stages));
  return insert_unshard(std::move(schedule), unshard_options(options, std::move(lookahead)));
}

Expected<Schedule> wait_for_sends(Schedule schedule, int most) {
  PLAIT_TRY(schedule, in_dialect(std::move(schedule), Dialect::kTorch215));
  return limit_sends(std::move(schedule), most);
}

Expected<Schedule> in_dialect(Schedule schedule, Dialect dialect) {
  if (dialect == Dialect::kTorch213) {
    for (std::vector<Action>& list : schedule.ranks)
      std::erase_if(list, [](const Action& action) { return is_wait(action.type); });
    return schedule;
  }
  if (dialect_of(schedule) != Dialect::kTorch213) return schedule;
  PLAIT_TRY(schedule, insert_reduce_wait(std::move(schedule), {}));
  if (!is_lowered(schedule)) return schedule;
  return insert_send_wait(std::move(schedule), {});
}

Expected<Schedule> insert_messages(Schedule schedule) {
  const bool waits = has_waits(schedule);
  PLAIT_TRY(schedule, insert_comm(std::move(schedule)));
  if (!waits) return schedule;
  return insert_send_wait(std::move(schedule), {});
}

}  // namespace plait
