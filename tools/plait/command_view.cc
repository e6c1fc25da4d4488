#include <fmt/core.h>

#include <filesystem>

#include "plait/base/read_file.h"
#include "plait/base/write_file.h"
#include "plait/ir/forms/text_forms.h"
#include "plait/schedule/source.h"
#include "plait/sim/simulate.h"
#include "plait/timeline/timeline_file.h"
#include "plait/verify/prove.h"
#include "tools/plait/commands.h"
#include "tools/plait/output.h"
#include "viewer/view_page.h"

namespace plait::tools {
namespace {

struct ViewArguments {
  std::vector<std::string> files;
  std::string out;
};

/// What each action takes if F, I and W take one unit and B two.
Expected<Timeline> draw_in_units(Schedule schedule) {
  const CostModel costs = unit_cost_model(schedule.placement.stages());
  PLAIT_TRY(const VerifiedSchedule verified, prove(std::move(schedule)));
  return simulate(verified, costs, {.keep_timeline = true}).map([](Prediction&& prediction) {
    return *std::move(prediction.timeline);
  });
}

/// What the files turned out to be, for the flags.
struct Kinds {
  bool any_name = false;
  bool any_file = false;  ///< that holds a schedule
};

Expected<viewer::ViewedFile> load(const std::string& name, const ScheduleArguments& shape,
                                  Kinds& kinds) {
  viewer::ViewedFile file{.name = name, .timeline = {}};
  PLAIT_TRY(const GeneratorInfo* const generator, find_schedule(name));
  Schedule schedule;
  if (generator != nullptr) {
    kinds.any_name = true;
    ScheduleArguments by_name = shape;
    by_name.schedule = name;
    by_name.stages = 0;  // these are of the other file, if there is one
    by_name.placement.clear();
    PLAIT_TRY(schedule, by_name.load());
  } else {
    PLAIT_TRY(const std::string text, read_file(name, "timeline or schedule"));
    if (looks_like_trace(text)) {
      PLAIT_TRY(file.timeline, read_timeline(text, name));
      return file;
    }
    kinds.any_file = true;
    std::vector<std::string> notes;
    PLAIT_TRY(schedule, read_schedule(text, name, shape.shape_of_file(), &notes));
    shape.print_notes(name, notes);
  }
  PLAIT_TRY(file.timeline, draw_in_units(std::move(schedule)));
  if (file.timeline.events.empty())
    return fail(ErrorCode::kInvalidInput, "found no action, needed one", name);
  file.schedule = true;
  return file;
}

Expected<void> run(const ViewArguments& arguments, const ScheduleArguments& shape) {
  std::vector<viewer::ViewedFile> files;
  std::size_t events = 0;
  Kinds kinds;
  for (const std::string& name : arguments.files) {
    std::error_code ignored;
    if (std::filesystem::equivalent(name, arguments.out, ignored)) {
      return fail(ErrorCode::kInvalidInput, "the page would replace the file that it shows",
                  "--out " + arguments.out);
    }
    PLAIT_TRY(viewer::ViewedFile file, load(name, shape, kinds));
    events += file.timeline.events.size();
    files.push_back(std::move(file));
  }
  PLAIT_TRY_VOID(shape.check_flags(kinds.any_name, kinds.any_file));
  const std::string page = viewer::print_view_page(files);
  PLAIT_TRY_VOID(write_file_atomically(arguments.out, page));
  print("{}: {} actions, {} KB; open it in a browser\n", arguments.out, events,
        (page.size() + 1023) / 1024);
  return {};
}

}  // namespace

void add_view(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "view", "a page for the browser that shows one timeline or schedule, or two");
  auto arguments = std::make_shared<ViewArguments>();
  command
      ->add_option("files", arguments->files,
                   "timelines (simulate --timeline, train --record), or schedules by file or name")
      ->required()
      ->expected(1, 2);
  command->add_option("--out", arguments->out, "the page to write, as in page.html")->required();
  auto shape = ScheduleArguments::add_shape_to(*command);
  command->callback([arguments, shape, &exit_code] {
    const Expected<void> done = run(*arguments, *shape);
    if (!done) exit_code = report("view", done.error());
  });
}

}  // namespace plait::tools
