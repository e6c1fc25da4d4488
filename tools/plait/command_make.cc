#include <cstdio>
#include <string>
#include <utility>

#include "tools/plait/commands.h"
#include "tools/plait/output.h"

namespace plait::tools {
namespace {

Expected<std::string> make(const ScheduleArguments& arguments, const LoweringArguments& lowering,
                           const FormatOption& format) {
  PLAIT_TRY(Schedule schedule, arguments.load());
  PLAIT_TRY(schedule, lowering.apply(std::move(schedule), format.dialect.dialect()));
  return format.print(std::move(schedule));
}

}  // namespace

void add_make(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("make", "write a schedule");
  auto arguments = ScheduleArguments::add_to(*command);
  auto lowering = LoweringArguments::add_to(*command);
  auto format = std::make_shared<FormatOption>();
  format->add_to(*command);
  command->callback([arguments, lowering, format, &exit_code] {
    const Expected<std::string> text = make(*arguments, *lowering, *format);
    if (text) {
      print_text(*text);
    } else {
      exit_code = report("make", text.error());
    }
  });
}

}  // namespace plait::tools
