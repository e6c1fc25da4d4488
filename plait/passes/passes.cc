#include "plait/passes/passes.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <string>
#include <utility>
#include <vector>

#include "plait/base/nearest_name.h"

namespace plait {
namespace {

struct PassCall {
  const PassInfo* pass;
  PassOptions options;
};

Expected<const PassInfo*> find_pass(std::string_view name) {
  std::string known;
  const PassInfo* nearest = &kPasses.front();
  for (const PassInfo& pass : kPasses) {
    if (pass.name == name) return &pass;
    if (edit_distance(name, pass.name) < edit_distance(name, nearest->name)) nearest = &pass;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", pass.name);
  }
  const bool near = edit_distance(name, nearest->name) <= 1 + nearest->name.size() / 3;
  return fail(ErrorCode::kInvalidInput,
              fmt::format("'{}' is not a pass{}, needed one of: {}", name.substr(0, 60),
                          near ? fmt::format(" (did you mean {}?)", nearest->name) : "", known));
}

Expected<PassCall> parse_call(std::string_view text) {
  const std::size_t equals = text.find('=');
  PLAIT_TRY(const PassInfo* pass, find_pass(text.substr(0, equals)));
  PassCall call{pass, {}};
  call.options.number = pass->default_number;
  if (equals == std::string_view::npos) return call;
  const std::string_view number = text.substr(equals + 1);
  if (pass->number.empty())
    return fail(ErrorCode::kInvalidInput, fmt::format("{} takes no number", pass->name),
                std::string(text.substr(0, 60)));
  const char* end = number.data() + number.size();
  const auto [read_to, problem] = std::from_chars(number.data(), end, call.options.number);
  if (problem != std::errc{} || read_to != end || call.options.number < pass->least_number) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("found '{}', needed a number of at least {}: {}", number.substr(0, 60),
                            pass->least_number, pass->number),
                std::string(pass->name));
  }
  return call;
}

}  // namespace

Expected<Schedule> run_passes(std::string_view spec, Schedule schedule,
                              const SchedulePrice& price) {
  std::vector<PassCall> calls;
  for (std::size_t begin = 0; begin <= spec.size();) {
    const std::size_t end = std::min(spec.find(',', begin), spec.size());
    PLAIT_TRY(PassCall call, parse_call(spec.substr(begin, end - begin)));
    call.options.price = price;
    calls.push_back(std::move(call));
    begin = end + 1;
  }
  for (const PassCall& call : calls) {
    PLAIT_TRY(schedule, call.pass->run(std::move(schedule), call.options));
  }
  return schedule;
}

}  // namespace plait
