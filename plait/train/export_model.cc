#include "plait/train/export_model.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <string_view>
#include <utility>

#include "plait/checkpoint/model_folder.h"
#include "plait/job/job_config.h"
#include "plait/saved/checkpoint_folder.h"
#include "plait/train/checkpoint_state.h"

namespace plait {
namespace {

namespace fs = std::filesystem;

/// What of the state is the model.
constexpr std::array<std::string_view, 2> kOfModel{"parameter", "buffer"};

constexpr std::int64_t kPiece = 1 << 20;  // numbers

/// By name in the model: under which word it stands in the checkpoint.
std::map<std::string, std::string_view> model_tensors(const SavedState& saved) {
  std::map<std::string, std::string_view> tensors;
  for (const std::string& key : saved.keys()) {
    for (const std::string_view word : kOfModel) {
      if (key.starts_with(std::string(word) + "/")) tensors[key.substr(word.size() + 1)] = word;
    }
  }
  return tensors;
}

Expected<void> write_tensor(const SavedState& saved, StateSlice slice, TensorSink& sink) {
  const std::int64_t item = dtype_bytes(slice.dtype).value();
  const std::int64_t numbers = tensor_bytes(1, slice.shape).value();
  std::vector<std::byte> piece;
  for (slice.first = 0; slice.first < numbers; slice.first += slice.count) {
    slice.count = std::min(kPiece, numbers - slice.first);
    piece.resize(static_cast<std::size_t>(slice.count * item));
    slice.bytes = piece;
    if (const std::string problem = saved.mismatch(slice); !problem.empty())
      return fail(ErrorCode::kInvalidInput, problem);
    PLAIT_TRY_VOID(saved.fill(slice));
    PLAIT_TRY_VOID(sink.write(piece));
  }
  return {};
}

Expected<ExportedModel> export_found(const FoundCheckpoint& found, const std::string& out) {
  PLAIT_TRY(const JobConfig job,
            read_job_config(fmt::format("{}/{}", found.folder, kCheckpointJob), {}));
  PLAIT_TRY(const SavedState saved, SavedState::open(found.folder, found.manifest));
  const std::map<std::string, std::string_view> tensors = model_tensors(saved);
  std::vector<TensorInfo> infos;
  std::vector<StateSlice> slices;
  for (const auto& [name, word] : tensors) {
    StateSlice slice;
    slice.what = word;
    slice.name = name;
    slice.dtype = saved.dtype(slice.key());
    slice.shape = saved.shape(slice.key());
    infos.push_back({name, slice.dtype, slice.shape});
    slices.push_back(std::move(slice));
  }
  ModelFolderSink sink(out, job.model, job.data.sequence_length);
  PLAIT_TRY_VOID(sink.begin(infos));
  for (const StateSlice& slice : slices) PLAIT_TRY_VOID(write_tensor(saved, slice, sink));
  PLAIT_TRY_VOID(sink.end());
  return ExportedModel{found.manifest.step, found.folder, found.passed_over};
}

}  // namespace

Expected<ExportedModel> export_checkpoint(const std::string& checkpoint, const std::string& out) {
  std::error_code error;
  if (fs::exists(out + "/config.json", error) || fs::exists(out + "/model.safetensors", error))
    return fail(ErrorCode::kInvalidInput, "holds a model, needed a folder without one", out);
  constexpr int kTries = 5;
  for (int tries = 1;; ++tries) {
    PLAIT_TRY(const FoundCheckpoint found, find_checkpoint(checkpoint));
    Expected<ExportedModel> exported = export_found(found, out);
    // A run that is alive keeps its newest checkpoints: this one has just become too old.
    if (exported || tries == kTries || fs::exists(found.folder, error)) return exported;
  }
}

}  // namespace plait
