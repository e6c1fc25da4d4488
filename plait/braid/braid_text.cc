#include "plait/braid/braid_text.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <utility>

#include "plait/base/nearest_name.h"
#include "plait/ir/action_text.h"

namespace plait {
namespace {

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r'; }

/// A word of the text and where it stands.
struct PlacedWord {
  std::size_t offset = 0;
  std::string_view text;
};

class BraidReader {
 public:
  BraidReader(std::string_view text, const std::string& file) : text_(text), file_(file) {}

  Expected<LayerBraid> read() {
    for (std::size_t begin = 0; begin < text_.size();) {
      const std::size_t end = std::min(text_.find('\n', begin), text_.size());
      at_ = begin;
      end_ = begin + std::min(text_.substr(begin, end - begin).find('#'), end - begin);
      if (!at_end()) PLAIT_TRY_VOID(read_line());
      begin = end + 1;
    }
    at_ = end_ = text_.size();
    if (!version_seen_) return error(at_, "the file is empty, needed 'braid 1' as its first line");
    if (!layers_seen_) return error(at_, "there is no line 'layers', needed one");
    if (braid_.segments.empty()) return error(at_, "there is no segment, needed one at least");
    PLAIT_TRY_VOID(resolve());
    return std::move(braid_);
  }

 private:
  tl::unexpected<Error> error(std::size_t offset, std::string message) const {
    return fail(ErrorCode::kInvalidInput, std::move(message), place_of_byte(file_, text_, offset));
  }

  /// Skips blanks; true if the line holds nothing more.
  bool at_end() {
    while (at_ < end_ && is_space(text_[at_])) ++at_;
    return at_ == end_;
  }

  /// The word at the cursor, which moves behind it; empty at the end of the line.
  PlacedWord take_word() {
    if (at_end()) return {at_, {}};
    const std::size_t begin = at_;
    while (at_ < end_ && !is_space(text_[at_])) ++at_;
    return {begin, text_.substr(begin, at_ - begin)};
  }

  static std::string shown(const PlacedWord& word) {
    return word.text.empty() ? "the end" : fmt::format("'{}'", word.text.substr(0, 40));
  }

  Expected<std::int64_t> take_number(std::string_view what, std::int64_t least, std::int64_t most) {
    const PlacedWord word = take_word();
    std::int64_t number = 0;
    const char* const end = word.text.data() + word.text.size();
    const auto parsed = std::from_chars(word.text.data(), end, number);
    if (parsed.ec == std::errc::invalid_argument || parsed.ptr != end)
      return error(word.offset, fmt::format("found {}, needed a number, {}", shown(word), what));
    if (parsed.ec != std::errc{} || number < least || number > most) {
      return error(word.offset, fmt::format("{} is {}, needs to be from {} to {}", what,
                                            word.text.substr(0, 40), least, most));
    }
    return number;
  }

  Expected<void> need_end() {
    if (at_end()) return {};
    return error(at_, fmt::format("found {}, needed the end of the line",
                                  found_at(text_.substr(0, end_), at_)));
  }

  Expected<void> read_line() {
    const PlacedWord word = take_word();
    if (!version_seen_) return read_version(word);
    if (word.text == "layers") {
      if (layers_seen_) return error(word.offset, "layers stands here a second time, needed once");
      layers_seen_ = true;
      PLAIT_TRY(const std::int64_t layers, take_number("layers", 1, kMostLayers));
      braid_.layers = static_cast<int>(layers);
      return need_end();
    }
    if (word.text == "segment") return read_segment();
    for (std::size_t lane = 0; lane < lane_words_.size(); ++lane) {
      if (word.text != fmt::format("{}:", kLaneNames[lane])) continue;
      if (lane_seen_[lane]) {
        return error(word.offset, fmt::format("the {} lane stands here a second time, needed once",
                                              kLaneNames[lane]));
      }
      lane_seen_[lane] = true;
      while (!at_end()) lane_words_[lane].push_back(take_word());
      return {};
    }
    return error(word.offset, fmt::format("found {}, needed a line that begins with layers, "
                                          "segment, compute: or communication:",
                                          shown(word)));
  }

  Expected<void> read_version(const PlacedWord& word) {
    if (word.text != "braid") {
      return error(word.offset, fmt::format("found {}, needed 'braid {}' as the first line",
                                            shown(word), kBraidTextVersion));
    }
    PLAIT_TRY(const std::int64_t version,
              take_number("the format's version", kBraidTextVersion, kBraidTextVersion));
    version_seen_ = version == kBraidTextVersion;
    return need_end();
  }

  Expected<void> read_segment() {
    const PlacedWord name = take_word();
    const auto word = parse_word(name.text);
    if (!word) {
      return error(name.offset, fmt::format("found {}, needed a segment's word such as attn.F, "
                                            "mlp.B or mlp.W",
                                            shown(name)));
    }
    const auto number = static_cast<int>(braid_.segments.size());
    if (number == kMostLayerSegments) {
      return error(name.offset,
                   fmt::format("a layer has more than {} segments", kMostLayerSegments));
    }
    if (!index_.try_emplace(name.text, number).second)
      return error(name.offset, fmt::format("there are two segments {}", name.text));
    LayerSegment segment{*word};
    const PlacedWord lane = take_word();
    if (lane.text != kLaneNames[0] && lane.text != kLaneNames[1]) {
      return error(lane.offset,
                   fmt::format("found {}, needed compute or communication", shown(lane)));
    }
    segment.lane = lane.text == kLaneNames[0] ? Lane::kCompute : Lane::kCommunication;
    braid_.segments.push_back(std::move(segment));
    offsets_.push_back(name.offset);
    return read_needs_and_costs(number);
  }

  Expected<void> read_needs_and_costs(int reader) {
    PlacedWord word = take_word();
    if (word.text == "needs") {
      const std::size_t before = needs_.size();
      for (word = take_word(); !word.text.empty() && word.text != "ns"; word = take_word()) {
        const bool previous = word.text == "previous";
        needs_.push_back({previous ? take_word() : word, reader, previous});
      }
      if (needs_.size() == before)
        return error(word.offset, fmt::format("found {}, needed a segment", shown(word)));
    }
    if (word.text.empty()) return {};
    if (word.text != "ns") {
      return error(word.offset,
                   fmt::format("found {}, needed needs, ns or the end of the line", shown(word)));
    }
    std::vector<Nanoseconds>& costs = braid_.segments.back().costs;
    do {
      PLAIT_TRY(const Nanoseconds cost, take_number("a cost in ns", 0, kMostSegmentCost));
      costs.push_back(cost);
    } while (!at_end());
    return {};
  }

  /// The segment that a word names.
  Expected<int> find(const PlacedWord& word) const {
    const auto found = index_.find(word.text);
    if (found != index_.end()) return found->second;
    std::vector<std::string_view> names;
    for (const auto& [name, number] : index_) names.push_back(name);
    return error(word.offset, fmt::format("{} is no segment, did you mean '{}'?", shown(word),
                                          nearest_name(word.text.substr(0, 40), names)));
  }

  /// Called after the last line, when the names of all segments are known.
  Expected<void> resolve() {
    for (const Need& need : needs_) {
      PLAIT_TRY(const int needed, find(need.word));
      LayerSegment& reader = braid_.segments[static_cast<std::size_t>(need.reader)];
      const SegmentOf of = braid_.segments[static_cast<std::size_t>(needed)].word.of;
      if (of == SegmentOf::kBackwardWeight && reader.word.of != SegmentOf::kBackwardWeight) {
        return error(need.word.offset,
                     fmt::format("{} needs {}, a segment of W, which not every pair has",
                                 reader.word.text(), need.word.text));
      }
      (need.previous ? reader.needs_of_layer_before : reader.needs).push_back(needed);
    }
    for (std::size_t s = 0; s < braid_.segments.size(); ++s) {
      const std::size_t costs = braid_.segments[s].costs.size();
      if (costs <= 1 || costs == static_cast<std::size_t>(braid_.layers)) continue;
      return error(offsets_[s],
                   fmt::format("{} has {} costs, needed one, or one for each of {} layers",
                               braid_.segments[s].word.text(), costs, braid_.layers));
    }
    for (const Lane lane : {Lane::kCompute, Lane::kCommunication})
      PLAIT_TRY_VOID(resolve_lane(lane));
    return {};
  }

  Expected<void> resolve_lane(Lane lane) {
    const auto number = static_cast<std::size_t>(lane);
    std::vector<bool> seen(braid_.segments.size());
    for (const PlacedWord& word : lane_words_[number]) {
      PLAIT_TRY(const int segment, find(word));
      const auto s = static_cast<std::size_t>(segment);
      if (braid_.segments[s].lane != lane) {
        return error(word.offset,
                     fmt::format("{} is a segment of the {} lane, not of the {} lane", word.text,
                                 kLaneNames[1 - number], kLaneNames[number]));
      }
      if (seen[s]) return error(word.offset, fmt::format("{} stands twice in its lane", word.text));
      seen[s] = true;
      braid_.lanes[number].push_back(segment);
    }
    for (std::size_t s = 0; s < seen.size(); ++s) {
      if (seen[s] || braid_.segments[s].lane != lane) continue;
      return error(offsets_[s], fmt::format("{} is missing in the line '{}:'",
                                            braid_.segments[s].word.text(), kLaneNames[number]));
    }
    return {};
  }

  struct Need {
    PlacedWord word;
    int reader;
    bool previous;
  };

  std::string_view text_;
  const std::string& file_;
  std::size_t at_ = 0;   // the cursor, in the whole text
  std::size_t end_ = 0;  // of the line, without its comment
  bool version_seen_ = false;
  bool layers_seen_ = false;
  std::array<bool, 2> lane_seen_{};
  std::array<std::vector<PlacedWord>, 2> lane_words_;
  std::vector<Need> needs_;
  std::vector<std::size_t> offsets_;  // of each segment's word
  std::map<std::string_view, int> index_;
  LayerBraid braid_;
};

}  // namespace

Expected<LayerBraid> read_braid_text(std::string_view text, const std::string& file) {
  return BraidReader(text, file).read();
}

std::string print_braid_text(const LayerBraid& braid) {
  std::string text = fmt::format("braid {}\nlayers {}\n", kBraidTextVersion, braid.layers);
  const auto word = [&](int segment) {
    return braid.segments[static_cast<std::size_t>(segment)].word.text();
  };
  for (const LayerSegment& segment : braid.segments) {
    text += fmt::format("segment {} {}", segment.word.text(),
                        kLaneNames[static_cast<std::size_t>(segment.lane)]);
    if (!segment.needs.empty() || !segment.needs_of_layer_before.empty()) text += " needs";
    for (const int need : segment.needs) text += " " + word(need);
    for (const int need : segment.needs_of_layer_before) text += " previous " + word(need);
    if (!segment.costs.empty()) text += " ns";
    for (const Nanoseconds cost : segment.costs) text += fmt::format(" {}", cost);
    text += '\n';
  }
  for (std::size_t lane = 0; lane < braid.lanes.size(); ++lane) {
    text += fmt::format("{}:", kLaneNames[lane]);
    for (const int segment : braid.lanes[lane]) text += " " + word(segment);
    text += '\n';
  }
  return text;
}

}  // namespace plait
