#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "plait/base/print.h"
#include "plait/base/read_file.h"
#include "plait/braid/braid_bound.h"
#include "plait/braid/braid_search.h"
#include "plait/braid/braid_text.h"
#include "plait/braid/layer_clock.h"
#include "plait/draw/braid_picture.h"
#include "tools/plait/commands.h"
#include "tools/plait/cost_arguments.h"
#include "tools/plait/output.h"

namespace plait::tools {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kDefault = "default";

/// The first word of a file that is neither blank nor in a comment.
std::string_view first_word(std::string_view text) {
  while (!text.empty()) {
    const std::size_t begin = text.find_first_not_of(" \t\r\n");
    if (begin == std::string_view::npos) return {};
    text.remove_prefix(begin);
    if (text.front() != '#') return text.substr(0, text.find_first_of(" \t\r\n,="));
    text.remove_prefix(std::min(text.find('\n'), text.size()));
  }
  return {};
}

/// A braid's text, the table of a profile, or a cost file with a braid.
Expected<LayerBraid> read_braid(const std::string& path) {
  PLAIT_TRY(const std::string text, read_file(path, "braid"));
  const std::string_view first = first_word(text);
  if (first == "braid" || first.empty()) return read_braid_text(text, path);
  if (first == "segment") return read_braid_csv(text, path);
  PLAIT_TRY(CostSettings settings, parse_cost_file(text, path));
  if (!settings.braid) {
    return fail(ErrorCode::kInvalidInput,
                "found no braid, needed a braid's text, a table with the columns segment,lane,"
                "depends_on,layer0,… or a cost file with [pair] braid or [[pair.segment]]",
                path);
  }
  return *std::move(settings.braid);
}

/// Errors: also lanes that wait in a circle.
Expected<void> check_braid(const LayerBraid& braid, const std::string& file) {
  auto prepared =
      lay_out(braid).and_then([](Braid all) { return PreparedBraid::make(std::move(all)); });
  if (prepared) return {};
  return fail(prepared.error().code, prepared.error().message, file);
}

int check(const std::string& file) {
  const auto braid = file == kDefault ? default_layer_braid() : read_braid(file);
  if (!braid) return report("braid check", braid.error());
  const auto checked = check_braid(*braid, file);
  if (!checked) return report("braid check", checked.error());
  print(
      "{}: {} layers, {} segments on the compute lane and {} on the communication lane; no "
      "circle: every segment can run\n",
      file, braid->layers, braid->lanes[0].size(), braid->lanes[1].size());
  return kExitOk;
}

/// As lines of comments, so that what is printed is a braid's text.
std::string as_comment(const std::string& text) {
  std::string comment;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    comment += fmt::format("# {}\n", text.substr(begin, end - begin));
    begin = end + 1;
  }
  return comment;
}

constexpr int kWidth = 160;

/// `width` 0: none was given.
Expected<void> show(const std::string& file, const std::vector<std::string>& recomputed,
                    int width) {
  PLAIT_TRY(LayerBraid braid,
            file == kDefault ? Expected<LayerBraid>(default_layer_braid()) : read_braid(file));
  for (const std::string& kind : recomputed) {
    PLAIT_TRY(braid, with_recompute(std::move(braid), kind));
  }
  std::string text = print_braid_text(braid);
  PLAIT_TRY_VOID(check_braid(braid, file));
  if (braid.has_costs()) {
    PLAIT_TRY(const std::string picture, draw_braid(braid, (width == 0 ? kWidth : width) - 2));
    text += as_comment(picture);
  } else if (width != 0) {
    return fail(ErrorCode::kInvalidInput,
                "is of the picture, which needs costs, the braid has none", "--width");
  }
  print_text(text);
  return {};
}

/// What a search found at some costs.
struct Figures {
  std::string costs;
  BraidSearch search;
  Nanoseconds bound = 0;

  double share_above_bound() const {
    if (bound == 0) return 0;
    return static_cast<double>(search.best.front().makespan - bound) / static_cast<double>(bound);
  }
};

Expected<Figures> search_at(std::string costs, const LayerBraid& braid) {
  PLAIT_TRY(BraidSearch search, search_braid(braid));
  return Figures{std::move(costs), std::move(search), braid_bound(braid)};
}

std::string words(const LayerBraid& braid, const std::vector<int>& segments) {
  std::string text;
  for (const int segment : segments)
    text += " " + braid.segments[static_cast<std::size_t>(segment)].word.text();
  return text;
}

Json json_of(const LayerBraid& braid, const std::vector<int>& segments) {
  Json all = Json::array();
  for (const int segment : segments)
    all.push_back(braid.segments[static_cast<std::size_t>(segment)].word.text());
  return all;
}

struct SearchResult {
  LayerBraid braid;
  std::vector<Figures> figures;  ///< at mean costs and by layer; the last is what was asked for
  std::optional<OneThreadSearch> one_thread;
};

Expected<SearchResult> search(const std::string& file) {
  SearchResult result;
  PLAIT_TRY(result.braid, read_braid(file));
  LayerBraid means = with_mean_costs(result.braid);
  if (means != result.braid) {
    PLAIT_TRY(Figures at_means, search_at("mean over the layers", means));
    result.figures.push_back(std::move(at_means));
  }
  PLAIT_TRY(Figures by_layer, search_at("by layer", result.braid));
  result.figures.push_back(std::move(by_layer));
  PLAIT_TRY(result.one_thread, search_one_thread(result.braid));
  return result;
}

Json json_of(const SearchResult& result) {
  const BraidSearch& found = result.figures.back().search;
  Json json{{"layers", result.braid.layers},
            {"compute_segments", result.braid.lanes[0].size()},
            {"communication_segments", result.braid.lanes[1].size()},
            {"exhaustive", found.exhaustive},
            {"orders_without_circle", found.running}};
  for (const Figures& figures : result.figures) {
    Json best = Json::array();
    for (const BraidOrder& order : figures.search.best) {
      best.push_back({{"makespan_ns", order.makespan},
                      {"compute", json_of(result.braid, order.lanes[0])},
                      {"communication", json_of(result.braid, order.lanes[1])}});
    }
    json[&figures == &result.figures.back() ? "by_layer" : "at_means"] = {
        {"bound_ns", figures.bound}, {"best", std::move(best)}};
  }
  if (result.one_thread) {
    json["one_thread"] = {{"orders", result.one_thread->orders},
                          {"best_ns", result.one_thread->best_makespan},
                          {"listed_ns", result.one_thread->listed_makespan},
                          {"worst_ns", result.one_thread->worst_makespan},
                          {"best", json_of(result.braid, result.one_thread->best)}};
  }
  return json;
}

std::string summary(const SearchResult& result) {
  const BraidSearch& found = result.figures.back().search;
  std::string text =
      fmt::format("{} layers, {:.15g} x {:.15g} orders within a layer: ", result.braid.layers,
                  found.orders_of_lane[0], found.orders_of_lane[1]);
  text += found.exhaustive
              ? fmt::format("{} do not wait in a circle\n", found.running)
              : fmt::format(
                    "too many to try them all\na local search met {} that do not wait in a "
                    "circle; {}\n",
                    found.running,
                    found.best.front().makespan == result.figures.back().bound
                        ? "the best meets the bound: none is better"
                        : "there may be a better one");
  const TimeUnit unit = TimeUnit::for_times_of(found.best.front().makespan);
  text += fmt::format("{:<22} {:>10} {:>10} {:>10}  best above bound\n", "costs",
                      fmt::format("best {}", unit.name), "next", "bound");
  for (const Figures& figures : result.figures) {
    const std::vector<BraidOrder>& best = figures.search.best;
    text += fmt::format("{:<22} {:>10} {:>10} {:>10}  {}\n", figures.costs,
                        unit.print(best[0].makespan),
                        best.size() > 1 ? unit.print(best[1].makespan) : "-",
                        unit.print(figures.bound), percent(figures.share_above_bound()));
  }
  if (result.one_thread) {
    text += fmt::format(
        "one thread for both lanes: {} {} at best, {} in the order of the file, {} at worst, of {} "
        "orders\n",
        unit.print(result.one_thread->best_makespan), unit.name,
        unit.print(result.one_thread->listed_makespan),
        unit.print(result.one_thread->worst_makespan), result.one_thread->orders);
  }
  return text;
}

Expected<void> print_search(const std::string& file, bool json) {
  PLAIT_TRY(const SearchResult result, search(file));
  if (json) {
    print("{}\n", json_of(result).dump(1));
    return {};
  }
  std::string text = as_comment(summary(result));
  const std::vector<BraidOrder>& best = result.figures.back().search.best;
  LayerBraid braid = result.braid;
  braid.lanes = best[0].lanes;
  text += print_braid_text(braid);
  if (best.size() > 1) {
    text += fmt::format("# the next best:\n# compute:{}\n# communication:{}\n",
                        words(braid, best[1].lanes[0]), words(braid, best[1].lanes[1]));
  }
  const BraidOrder& at_means = result.figures.front().search.best[0];
  if (at_means.lanes != best[0].lanes) {
    text += fmt::format(
        "# the best at mean costs, which takes {} ns by layer:\n# compute:{}\n"
        "# communication:{}\n",
        *LayerClock(braid).run(at_means.lanes), words(braid, at_means.lanes[0]),
        words(braid, at_means.lanes[1]));
  }
  print_text(text);
  return {};
}

}  // namespace

void add_braid(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("braid", "the lane orders of a pair: show, check, search");
  command->require_subcommand(1);
  auto file = std::make_shared<std::string>(kDefault);
  auto recomputed = std::make_shared<std::vector<std::string>>();
  auto width = std::make_shared<int>(0);
  auto json = std::make_shared<bool>(false);
  constexpr const char* kFile = "a braid's text, a profile's table, a cost file, or: default";
  CLI::App* shown = command->add_subcommand("show", "its text, and what runs when at its costs");
  shown->add_option("file", *file, kFile);
  shown
      ->add_option("--recompute", *recomputed,
                   "kinds of segments to recompute, such as mlp,attn: with their R")
      ->delimiter(',');
  shown->add_option("--width", *width, "columns, 160 unless given")->check(CLI::Range(40, 100000));
  shown->callback([file, recomputed, width, &exit_code] {
    const auto done = show(*file, *recomputed, *width);
    if (!done) exit_code = report("braid show", done.error());
  });
  CLI::App* checked = command->add_subcommand("check", "whether its lanes wait in a circle");
  checked->add_option("file", *file, kFile)->required();
  checked->callback([file, &exit_code] { exit_code = check(*file); });
  CLI::App* searched = command->add_subcommand("search", "the best lane orders for given costs");
  searched
      ->add_option("--costs", *file, "a braid's text with costs, a profile's table, a cost file")
      ->required();
  searched->add_flag("--json", *json, "for machines");
  searched->callback([file, json, &exit_code] {
    const auto done = print_search(*file, *json);
    if (!done) exit_code = report("braid search", done.error());
  });
}

}  // namespace plait::tools
