#include "plait/runtime/clock_alignment.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>

#include "plait/base/check.h"

namespace plait {
namespace {

/// Half of what there is, so that differences do not overflow.
constexpr Nanoseconds kUnbounded = std::numeric_limits<Nanoseconds>::max() / 4;

std::string content_of(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace

std::string clock_name() {
  const std::string boot = content_of("/proc/sys/kernel/random/boot_id");
  return boot.empty() ? boot : boot + content_of("/proc/self/timens_offsets");
}

ClockAlignment::ClockAlignment(const std::vector<std::string>& clock_names) {
  std::map<std::string, int> known;
  for (const std::string& name : clock_names) {
    const auto found = known.find(name);
    const bool is_new = name.empty() || found == known.end();
    clock_of_.push_back(is_new ? clocks_++ : found->second);
    if (is_new && !name.empty()) known[name] = clock_of_.back();
  }
  bounds_.assign(static_cast<std::size_t>(clocks_), {-kUnbounded, kUnbounded});
  if (!bounds_.empty()) bounds_.front() = {0, 0};
}

void ClockAlignment::add(const std::vector<std::array<Nanoseconds, 2>>& exchange) {
  PLAIT_CHECK(exchange.size() == clock_of_.size(), "every rank takes part");
  struct Passage {
    Nanoseconds entered = -kUnbounded;  // the last of its ranks to do so
    Nanoseconds left = kUnbounded;      // the first
  };
  std::vector<Passage> passages(bounds_.size());
  for (std::size_t rank = 0; rank < exchange.size(); ++rank) {
    Passage& passage = passages[static_cast<std::size_t>(clock_of_[rank])];
    passage.entered = std::max(passage.entered, exchange[rank][0]);
    passage.left = std::min(passage.left, exchange[rank][1]);
  }
  const Passage& first = passages.front();
  for (std::size_t clock = 1; clock < bounds_.size(); ++clock) {
    Bounds& bounds = bounds_[clock];
    const Nanoseconds drift =
        std::max<Nanoseconds>(first.left - bounds.seen, 0) / kDriftsOnceIn + 1;
    const Nanoseconds least = passages[clock].entered - first.left;
    const Nanoseconds most = passages[clock].left - first.entered;
    bounds.least = std::max(bounds.least - drift, least);
    bounds.most = std::min(bounds.most + drift, most);
    // A clock was set: what was known of it before is worth nothing.
    if (bounds.least > bounds.most) bounds = {least, most};
    bounds.seen = first.left;
  }
}

std::vector<ClockOffset> ClockAlignment::offsets() const {
  std::vector<ClockOffset> offsets;
  for (const int clock : clock_of_) {
    const Bounds& bounds = bounds_[static_cast<std::size_t>(clock)];
    const Nanoseconds width = bounds.most - bounds.least;
    offsets.push_back({bounds.least + width / 2, (width + 1) / 2});
  }
  return offsets;
}

Nanoseconds ClockAlignment::worst_error() const {
  Nanoseconds worst = 0;
  for (const ClockOffset& offset : offsets()) worst = std::max(worst, offset.error);
  return worst;
}

Expected<ClockAlignment> name_clocks(Exchange& exchange) {
  PLAIT_TRY(const std::vector<std::string> names, exchange.all_gather(clock_name()));
  return ClockAlignment(names);
}

Expected<void> align_clocks(Exchange& exchange, int exchanges, ClockAlignment& alignment) {
  if (alignment.is_one_clock()) return {};
  using Passage = std::array<Nanoseconds, 2>;
  Passage before{};  // through the exchange before, as the ranks know it only then
  for (int i = 0; i <= exchanges; ++i) {
    const Nanoseconds entered = now();
    PLAIT_TRY(const std::vector<std::string> packed,
              exchange.all_gather({reinterpret_cast<const char*>(before.data()), sizeof(Passage)}));
    before = {entered, now()};
    if (i == 0) continue;
    std::vector<Passage> passages(packed.size());
    for (std::size_t rank = 0; rank < packed.size(); ++rank) {
      if (packed[rank].size() != sizeof(Passage))
        return fail(ErrorCode::kPeer, fmt::format("rank {} sent {} bytes in place of its times",
                                                  rank, packed[rank].size()));
      std::memcpy(passages[rank].data(), packed[rank].data(), sizeof(Passage));
    }
    alignment.add(passages);
  }
  return {};
}

}  // namespace plait
