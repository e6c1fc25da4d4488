#include "plait/train/shard_layout.h"

#include <algorithm>

#include "plait/base/check.h"

namespace plait {
namespace {

std::vector<Piece> chunks_of(const std::vector<std::int64_t>& numels) {
  std::vector<Piece> chunks;
  for (std::size_t parameter = 0; parameter < numels.size(); ++parameter) {
    const std::int64_t numel = numels[parameter], length = chunk_numbers(numel);
    for (std::int64_t first = 0; first < numel; first += length)
      chunks.push_back({parameter, first, std::min(length, numel - first)});
  }
  return chunks;
}

void add_chunk(const Piece& chunk, std::vector<Piece>& run) {
  if (!run.empty() && run.back().parameter == chunk.parameter) {
    run.back().count += chunk.count;
  } else {
    run.push_back(chunk);
  }
}

}  // namespace

std::int64_t chunk_numbers(std::int64_t numel) {
  constexpr std::int64_t kMostChunks = 256, kFewestNumbers = 64, kMultiple = 8;
  const std::int64_t even = (numel + kMostChunks - 1) / kMostChunks;
  return std::max(kFewestNumbers, (even + kMultiple - 1) / kMultiple * kMultiple);
}

std::int64_t chunk_count(std::int64_t numel) {
  const std::int64_t length = chunk_numbers(numel);
  return (numel + length - 1) / length;
}

ShardLayout::ShardLayout(const std::vector<std::int64_t>& numels, int members) {
  PLAIT_CHECK(members > 0, "a row of parameters has members");
  pieces_.resize(static_cast<std::size_t>(members));
  std::int64_t numbers = 0, done = 0;
  for (const std::int64_t numel : numels) numbers += numel;
  int member = 0;
  for (const Piece& chunk : chunks_of(numels)) {
    // The run ends before this chunk if its end there is nearer to what is due than behind it:
    // due - done <= done + chunk.count - due, times `members`.
    while (member + 1 < members && 2 * numbers * (member + 1) <= members * (2 * done + chunk.count))
      ++member;
    add_chunk(chunk, pieces_[static_cast<std::size_t>(member)]);
    done += chunk.count;
  }
  for (int i = 0; i < members; ++i) row_numbers_ = std::max(row_numbers_, this->numbers(i));
}

const std::vector<Piece>& ShardLayout::pieces(int member) const {
  PLAIT_CHECK(member >= 0 && member < members(), "a member of the row");
  return pieces_[static_cast<std::size_t>(member)];
}

std::int64_t ShardLayout::numbers(int member) const {
  std::int64_t numbers = 0;
  for (const Piece& piece : pieces(member)) numbers += piece.count;
  return numbers;
}

}  // namespace plait
