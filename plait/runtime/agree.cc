#include "plait/runtime/agree.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <unordered_map>

#include "plait/base/fnv1a.h"
#include "plait/base/print.h"
#include "plait/program/print_program.h"

namespace plait {
namespace {

/// "label: content" of one line of print_programs().
struct Line {
  std::string_view label;
  std::string_view content;
};

std::vector<Line> lines_of(std::string_view text) {
  std::vector<Line> lines;
  while (!text.empty()) {
    const std::string_view line = first_line(text);
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    const std::size_t colon = line.find(": ");
    if (colon == std::string_view::npos) continue;
    lines.push_back({line.substr(0, colon), line.substr(colon + 2)});
  }
  return lines;
}

/// The first line of `lines` that `others` lacks or has another content for; null if there is none.
const Line* first_difference(const std::vector<Line>& lines, const std::vector<Line>& others,
                             std::string_view& other_content) {
  std::unordered_map<std::string_view, std::string_view> by_label;
  for (const Line& other : others) by_label.emplace(other.label, other.content);
  for (const Line& line : lines) {
    const auto found = by_label.find(line.label);
    other_content = found == by_label.end() ? "nothing" : found->second;
    if (found == by_label.end() || found->second != line.content) return &line;
  }
  return nullptr;
}

}  // namespace

Expected<void> agree_on_job(Exchange& exchange, const std::string& job) {
  PLAIT_TRY(const std::vector<std::string> jobs, exchange.all_gather(job));
  for (std::size_t rank = 1; rank < jobs.size(); ++rank) {
    std::string_view ours = jobs[0];
    std::string_view theirs = jobs[rank];
    while (ours != theirs) {
      const std::string_view our_line = first_line(ours);
      const std::string_view their_line = first_line(theirs);
      if (our_line != their_line) {
        return fail(
            ErrorCode::kInvalidInput,
            fmt::format("the ranks disagree about the job: rank {} has '{}', rank 0 has '{}'", rank,
                        their_line, our_line));
      }
      ours.remove_prefix(std::min(our_line.size() + 1, ours.size()));
      theirs.remove_prefix(std::min(their_line.size() + 1, theirs.size()));
    }
  }
  return {};
}

Expected<void> agree_on_programs(Exchange& exchange, const std::vector<RankProgram>& programs) {
  const std::string mine = print_programs(programs);
  PLAIT_TRY(const std::vector<std::string> hashes,
            exchange.all_gather(fmt::format("{:016x} {}", fnv1a(mine), mine.size())));
  if (std::all_of(hashes.begin(), hashes.end(),
                  [&](const std::string& one) { return one == hashes.front(); }))
    return {};
  PLAIT_TRY(const std::vector<std::string> texts, exchange.all_gather(mine));
  const std::vector<Line> of_first = lines_of(texts.front());
  for (std::size_t rank = 1; rank < texts.size(); ++rank) {
    const std::vector<Line> of_rank = lines_of(texts[rank]);
    std::string_view here, there;
    const Line* line = first_difference(of_first, of_rank, there);
    if (line != nullptr) {
      here = line->content;
    } else {
      line = first_difference(of_rank, of_first, here);
      if (line == nullptr) continue;
      there = line->content;
    }
    return fail(ErrorCode::kInvalidInput,
                fmt::format("the ranks lowered different programs: {} is {} on rank {}, needed {} "
                            "as on rank 0",
                            line->label, there, rank, here));
  }
  return fail(ErrorCode::kInvalidInput, "the ranks lowered different programs");
}

}  // namespace plait
