#include "plait/train/model_stream.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "plait/base/check.h"
#include "plait/base/numbers_of.h"
#include "plait/train/tensor_slices.h"

namespace plait {
namespace {

using Json = nlohmann::json;

/// A slice as all ranks know it.
struct RemoteSlice {
  int owner = 0;
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::int64_t count = 0, bytes = 0;
};

/// By the tensor's name and the first number.
using SliceKey = std::pair<std::string, std::int64_t>;
using Slices = std::map<SliceKey, RemoteSlice>;

/// Of all ranks.
Expected<Slices> list_slices(Exchange& exchange, const std::vector<TensorSlice>& mine) {
  Json list = Json::array();
  for (const TensorSlice& one : mine) {
    list.push_back({one.name, one.first, dtype_name(one.numbers), one.shape, one.numbers.numel(),
                    static_cast<std::int64_t>(one.numbers.nbytes())});
  }
  PLAIT_TRY(const std::vector<std::string> lists, exchange.all_gather(list.dump()));
  Slices slices;
  for (std::size_t rank = 0; rank < lists.size(); ++rank) {
    for (const Json& one : Json::parse(lists[rank])) {
      RemoteSlice slice{static_cast<int>(rank), one[2].get<std::string>(),
                        one[3].get<std::vector<std::int64_t>>(), one[4].get<std::int64_t>(),
                        one[5].get<std::int64_t>()};
      const SliceKey key{one[0].get<std::string>(), one[1].get<std::int64_t>()};
      const bool added = slices.emplace(key, std::move(slice)).second;
      PLAIT_CHECK(added, "one rank speaks for a number");
    }
  }
  return slices;
}

/// The tensors that the slices are of.
std::vector<TensorInfo> tensors_of(const Slices& slices) {
  std::vector<TensorInfo> infos;
  std::int64_t missing = 0;  // numbers of the last one
  for (const auto& [key, slice] : slices) {
    if (infos.empty() || infos.back().name != key.first) {
      PLAIT_CHECK(missing == 0, "the slices are whole tensors");
      infos.push_back({key.first, slice.dtype, slice.shape});
      missing = numbers_of(slice.shape);
    }
    missing -= slice.count;
  }
  PLAIT_CHECK(missing == 0, "the slices are whole tensors");
  return infos;
}

/// Keeps the first error and lets the rest of the bytes pass.
class DrainingSink {
 public:
  explicit DrainingSink(TensorSink* sink) : sink_(sink) {}

  void begin(const std::vector<TensorInfo>& tensors) { keep(sink_->begin(tensors)); }
  void write(std::span<const std::byte> bytes) {
    if (result_) keep(sink_->write(bytes));
  }
  Expected<void> end() {
    if (result_) keep(sink_->end());
    return result_;
  }

 private:
  void keep(Expected<void> result) {
    if (!result) result_ = std::move(result);
  }
  TensorSink* sink_;
  Expected<void> result_;
};

std::span<std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes()};
}

/// For the pieces of the largest slice that another rank has.
at::Tensor piece_buffer(const Slices& slices) {
  std::int64_t largest = 0;
  for (const auto& [key, slice] : slices) {
    if (slice.owner != 0) largest = std::max(largest, slice.bytes);
  }
  return at::empty({std::min(kStreamPiece, largest)}, at::TensorOptions().dtype(at::kByte));
}

}  // namespace

Expected<void> stream_tensors(Exchange& exchange, const std::vector<TensorSlice>& mine,
                              TensorSink* sink, MemoryAccount& buffers) {
  const ScopedAccount scope(buffers);
  PLAIT_TRY(const Slices slices, list_slices(exchange, mine));
  const bool first = exchange.rank() == 0;
  PLAIT_CHECK(first == (sink != nullptr), "rank 0 alone has a sink");
  std::map<SliceKey, at::Tensor> held;
  for (const TensorSlice& one : mine)
    held.emplace(SliceKey{one.name, one.first}, one.numbers.detach());
  DrainingSink out(sink);
  if (first) out.begin(tensors_of(slices));
  const at::Tensor buffer = first ? piece_buffer(slices) : at::Tensor();
  int pieces = 0;
  for (const auto& [key, slice] : slices) {
    const bool own = slice.owner == exchange.rank();
    const at::Tensor numbers = own ? held.at(key).cpu().contiguous() : at::Tensor();
    for (std::int64_t begin = 0; begin < slice.bytes; begin += kStreamPiece) {
      if (++pieces % kPiecesBetweenMeetings == 0) PLAIT_TRY_VOID(exchange.all_gather(""));
      if (!own && !first) continue;
      const auto size = static_cast<std::size_t>(std::min(kStreamPiece, slice.bytes - begin));
      const std::span<std::byte> piece =
          own ? bytes_of(numbers).subspan(static_cast<std::size_t>(begin), size)
              : bytes_of(buffer).first(size);
      if (slice.owner != 0) PLAIT_TRY_VOID(exchange.hand_to_first(slice.owner, piece));
      if (first) out.write(piece);
    }
  }
  return first ? out.end() : Expected<void>();
}

}  // namespace plait
