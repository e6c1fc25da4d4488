#include "plait/train/checkpoint_state.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "plait/base/check.h"
#include "plait/base/json_node.h"
#include "plait/base/key_reader.h"
#include "plait/base/numbers_of.h"

namespace plait {
namespace {

using Json = nlohmann::json;

constexpr const char* kSlices = "slices";

std::string name_of(const StateSlice& slice) {
  if (slice.count == numbers_of(slice.shape)) return slice.key();
  return fmt::format("{}[{}:{}]", slice.key(), slice.first, slice.first + slice.count);
}

/// A message names so many tensors, and counts the others.
constexpr std::size_t kMostNamed = 1000;

std::string listed(const std::vector<std::string>& problems) {
  std::string text;
  for (std::size_t i = 0; i < std::min(problems.size(), kMostNamed); ++i)
    text += "\n  " + problems[i];
  if (problems.size() > kMostNamed)
    text += fmt::format("\n  and {} more", problems.size() - kMostNamed);
  return text;
}

/// A part of a tensor, as the metadata say.
struct PartOfTensor {
  std::string key;
  std::int64_t first = 0;
  std::vector<std::int64_t> shape;
};

Expected<std::map<std::string, PartOfTensor>> read_parts(const SafetensorsFile& file) {
  std::map<std::string, PartOfTensor> parts;
  const auto found = file.metadata().find(kSlices);
  if (found == file.metadata().end())
    return fail(ErrorCode::kInvalidInput, "holds no state of training: no slices in its metadata",
                file.path());
  const Json json = Json::parse(found->second, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object())
    return fail(ErrorCode::kInvalidInput, "its slices are no JSON object", file.path());
  FirstError error;
  for (const auto& [name, entry] : json.items()) {
    KeyReader keys(JsonNode<Json>(entry), file.path(), error, name);
    PartOfTensor part;
    keys.require("key", part.key);
    keys.require("first", part.first, 0);
    keys.require("shape", part.shape, 0);
    parts[name] = std::move(part);
  }
  PLAIT_TRY_VOID(error.result());
  return parts;
}

}  // namespace

void StateSnapshot::take(const TrainState& state) {
  std::map<std::string, const StateSlice*> mine;
  std::size_t bytes = 0;
  Json partial = Json::object();
  for (const StateSlice& slice : state) {
    if (!slice.speaks || slice.count == 0) continue;
    std::string name = name_of(slice);
    if (name != slice.key()) {
      partial[name] = {{"key", slice.key()}, {"first", slice.first}, {"shape", slice.shape}};
    }
    const bool added = mine.emplace(std::move(name), &slice).second;
    PLAIT_CHECK(added, "a rank speaks for a slice once");
    bytes += slice.bytes.size();
  }
  partial_ = partial.dump();
  tensors_.clear();
  numbers_.resize(bytes);
  std::byte* next = numbers_.data();
  for (const auto& [name, slice] : mine) {
    const bool whole = name == slice->key();
    tensors_.push_back({name, slice->dtype, whole ? slice->shape : std::vector{slice->count}});
    std::memcpy(next, slice->bytes.data(), slice->bytes.size());
    next += slice->bytes.size();
  }
}

Expected<FileSeal> StateSnapshot::write(const std::string& path) const {
  FileHash hash;
  SafetensorsSink sink(path, {{kSlices, partial_}},
                       [&](std::span<const std::byte> bytes) { hash.update(bytes); });
  PLAIT_TRY_VOID(sink.begin(tensors_));
  PLAIT_TRY_VOID(sink.write(numbers_));
  PLAIT_TRY_VOID(sink.end());
  return hash.seal();
}

Expected<SavedState> SavedState::open(const std::string& folder, const Manifest& manifest) {
  SavedState saved;
  for (int rank = 0; rank < manifest.ranks; ++rank) {
    PLAIT_TRY(SafetensorsFile file,
              SafetensorsFile::open(fmt::format("{}/{}", folder, rank_file(rank))));
    saved.files_.push_back(std::move(file));
    PLAIT_TRY_VOID(saved.add(saved.files_.size() - 1));
  }
  for (auto& [key, tensor] : saved.tensors_) {
    std::stable_sort(tensor.pieces.begin(), tensor.pieces.end(),
                     [](const Piece& a, const Piece& b) { return a.first < b.first; });
  }
  return saved;
}

Expected<void> SavedState::add(std::size_t file) {
  const SafetensorsFile& from = files_[file];
  PLAIT_TRY(auto parts, read_parts(from));
  for (const auto& [name, entry] : from.entries()) {
    const auto part = parts.find(name);
    const bool whole = part == parts.end();
    const std::string& key = whole ? name : part->second.key;
    const std::vector<std::int64_t>& shape = whole ? entry.shape : part->second.shape;
    const auto [at, added] = tensors_.emplace(key, Tensor{entry.dtype, shape, {}});
    Tensor& tensor = at->second;
    if (tensor.dtype != entry.dtype || tensor.shape != shape) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("{} is {} {}, and {} {} in another file", key, entry.dtype, shape,
                              tensor.dtype, tensor.shape),
                  from.path());
    }
    tensor.pieces.push_back({file, name, whole ? 0 : part->second.first, numbers_of(entry.shape)});
  }
  return {};
}

std::set<std::string> SavedState::keys() const {
  std::set<std::string> keys;
  for (const auto& [key, tensor] : tensors_) keys.insert(key);
  return keys;
}

std::string SavedState::mismatch(const StateSlice& slice) const {
  const auto found = tensors_.find(slice.key());
  if (found == tensors_.end()) return fmt::format("{}: is not in the checkpoint", slice.key());
  const Tensor& tensor = found->second;
  if (tensor.shape != slice.shape || tensor.dtype != slice.dtype) {
    return fmt::format("{}: is {} {} in the checkpoint, needed {} {}", slice.key(), tensor.dtype,
                       tensor.shape, slice.dtype, slice.shape);
  }
  std::int64_t next = slice.first;
  const std::int64_t end = slice.first + slice.count;
  for (const Piece& piece : tensor.pieces) {
    if (piece.first <= next) next = std::max(next, piece.first + piece.count);
  }
  if (next >= end) return {};
  return fmt::format("{}: number {} of {} is in no file of the checkpoint", slice.key(), next, end);
}

Expected<void> SavedState::fill(const StateSlice& slice) const {
  if (slice.count == 0) return {};
  const std::int64_t size = static_cast<std::int64_t>(slice.bytes.size()) / slice.count;
  std::int64_t next = slice.first;
  const std::int64_t end = slice.first + slice.count;
  for (const Piece& piece : tensors_.at(slice.key()).pieces) {
    const std::int64_t last = std::min(end, piece.first + piece.count);
    if (piece.first > next || last <= next) continue;
    const auto into = slice.bytes.subspan(static_cast<std::size_t>((next - slice.first) * size),
                                          static_cast<std::size_t>((last - next) * size));
    PLAIT_TRY_VOID(files_[piece.file].read_bytes(piece.name, (next - piece.first) * size, into));
    next = last;
  }
  PLAIT_CHECK(next >= end, "a slice is filled whose numbers are all there");
  return {};
}

Expected<void> load_state(const TrainState& state, const SavedState& saved,
                          const std::set<std::string>& own, Exchange& exchange) {
  Json mine = {{"keys", Json::array()}, {"problems", Json::array()}};
  for (const StateSlice& slice : state) {
    mine["keys"].push_back(slice.key());
    const std::string problem = saved.mismatch(slice);
    if (!problem.empty()) mine["problems"].push_back(problem);
  }
  PLAIT_TRY(const std::vector<std::string> all, exchange.all_gather(mine.dump()));
  std::set<std::string> extra = saved.keys();
  std::set<std::string> problems;  // ranks that hold the same have the same
  for (const std::string& one : all) {
    const Json json = Json::parse(one);
    for (const Json& key : json["keys"]) extra.erase(key.get<std::string>());
    for (const Json& problem : json["problems"]) problems.insert(problem.get<std::string>());
  }
  for (const std::string& key : extra)
    problems.insert(fmt::format("{}: is in the checkpoint, and the job has none", key));
  if (!problems.empty()) {
    const std::vector<std::string> list(problems.begin(), problems.end());
    return fail(ErrorCode::kInvalidInput,
                fmt::format("the checkpoint does not fit the job, {} tensor{}:{}", list.size(),
                            list.size() == 1 ? "" : "s", listed(list)));
  }
  for (const StateSlice& slice : state)
    if (!own.contains(slice.key())) PLAIT_TRY_VOID(saved.fill(slice));
  return {};
}

}  // namespace plait
