#include "plait/train/model_stream.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "plait/base/check.h"
#include "plait/train/tensor_slices.h"

namespace plait {
namespace {

using Json = nlohmann::json;

struct RemoteTensor {
  TensorInfo info;
  int owner = 0;
  std::int64_t bytes = 0;
};

/// Of all ranks, by name.
Expected<std::map<std::string, RemoteTensor>> list_tensors(Exchange& exchange,
                                                           const std::vector<Parameter>& mine) {
  Json list = Json::array();
  for (const Parameter& one : mine) {
    list.push_back({one.name, dtype_name(one.tensor), one.tensor.sizes().vec(),
                    static_cast<std::int64_t>(one.tensor.nbytes())});
  }
  PLAIT_TRY(const std::vector<std::string> lists, exchange.all_gather(list.dump()));
  std::map<std::string, RemoteTensor> tensors;
  for (std::size_t rank = 0; rank < lists.size(); ++rank) {
    for (const Json& one : Json::parse(lists[rank])) {
      RemoteTensor tensor;
      tensor.info = {one[0].get<std::string>(), one[1].get<std::string>(),
                     one[2].get<std::vector<std::int64_t>>()};
      tensor.owner = static_cast<int>(rank);
      tensor.bytes = one[3].get<std::int64_t>();
      const bool added = tensors.emplace(tensor.info.name, tensor).second;
      PLAIT_CHECK(added, "one rank speaks for a tensor");
    }
  }
  return tensors;
}

/// Keeps the first error and lets the rest of the bytes pass.
class DrainingSink {
 public:
  explicit DrainingSink(TensorSink* sink) : sink_(sink) {}

  void begin(const std::map<std::string, RemoteTensor>& tensors) {
    std::vector<TensorInfo> infos;
    for (const auto& [name, tensor] : tensors) infos.push_back(tensor.info);
    keep(sink_->begin(infos));
  }
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

/// For the pieces of the largest tensor that another rank has.
at::Tensor piece_buffer(const std::map<std::string, RemoteTensor>& tensors) {
  std::int64_t largest = 0;
  for (const auto& [name, tensor] : tensors) {
    if (tensor.owner != 0) largest = std::max(largest, tensor.bytes);
  }
  return at::empty({std::min(kStreamPiece, largest)}, at::TensorOptions().dtype(at::kByte));
}

}  // namespace

Expected<void> stream_tensors(Exchange& exchange, std::vector<Parameter> mine, TensorSink* sink,
                              MemoryAccount& buffers) {
  const ScopedAccount scope(buffers);
  PLAIT_TRY(const auto tensors, list_tensors(exchange, mine));
  const bool first = exchange.rank() == 0;
  PLAIT_CHECK(first == (sink != nullptr), "rank 0 alone has a sink");
  std::map<std::string, at::Tensor> held;
  for (Parameter& one : mine) held.emplace(one.name, one.tensor.detach());
  DrainingSink out(sink);
  if (first) out.begin(tensors);
  const at::Tensor buffer = first ? piece_buffer(tensors) : at::Tensor();
  int pieces = 0;
  for (const auto& [name, tensor] : tensors) {
    const bool own = tensor.owner == exchange.rank();
    const at::Tensor whole = own ? held.at(name).cpu().contiguous() : at::Tensor();
    for (std::int64_t begin = 0; begin < tensor.bytes; begin += kStreamPiece) {
      if (++pieces % kPiecesBetweenMeetings == 0) PLAIT_TRY_VOID(exchange.all_gather(""));
      if (!own && !first) continue;
      const auto size = static_cast<std::size_t>(std::min(kStreamPiece, tensor.bytes - begin));
      const std::span<std::byte> piece =
          own ? bytes_of(whole).subspan(static_cast<std::size_t>(begin), size)
              : bytes_of(buffer).first(size);
      if (tensor.owner != 0) PLAIT_TRY_VOID(exchange.hand_to_first(tensor.owner, piece));
      if (first) out.write(piece);
    }
  }
  return first ? out.end() : Expected<void>();
}

}  // namespace plait
