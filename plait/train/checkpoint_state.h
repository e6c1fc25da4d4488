/// The state of training (train_state.h) as the files of a checkpoint: a safetensors file a rank.
///
/// A tensor of the file is a slice that its rank speaks for. A whole one is called by its key,
/// "optimizer.first/model.norm.weight"; a part of one "KEY[first:end]", one row of numbers, and the
/// file's metadata `slices` says its key, first and whole shape. So which rank wrote what does not
/// matter to who reads: a slice is filled from whatever files hold its numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/base/units.h"
#include "plait/checkpoint/safetensors.h"
#include "plait/runtime/comm.h"
#include "plait/saved/file_hash.h"
#include "plait/saved/manifest.h"
#include "plait/train/train_state.h"

namespace plait {

/// A copy of what one rank speaks for, in ascending order of names. Keeps its memory from one
/// take() to the next.
class StateSnapshot {
 public:
  void take(const TrainState& state);
  /// Flushed to the disk. Errors (kIo): why it cannot be written.
  Expected<FileSeal> write(const std::string& path) const;
  Bytes bytes() const { return static_cast<Bytes>(numbers_.size()); }

 private:
  std::vector<TensorInfo> tensors_;
  std::string partial_;  // the metadata `slices`
  std::vector<std::byte> numbers_;
};

/// What a checkpoint's files hold, by key. Thread-safe: reads open the files anew.
class SavedState {
 public:
  /// Errors (kInvalidInput): a file that is no such state; two that disagree about a tensor.
  static Expected<SavedState> open(const std::string& folder, const Manifest& manifest);

  std::set<std::string> keys() const;
  /// Of a key that is there.
  const std::string& dtype(const std::string& key) const { return tensors_.at(key).dtype; }
  const std::vector<std::int64_t>& shape(const std::string& key) const {
    return tensors_.at(key).shape;
  }
  /// Why the slice cannot be filled, "KEY: what was found, what was needed"; empty: it can.
  std::string mismatch(const StateSlice& slice) const;
  /// Requires that there is no mismatch. Errors: a file cannot be read.
  Expected<void> fill(const StateSlice& slice) const;

 private:
  struct Piece {
    std::size_t file = 0;
    std::string name;
    std::int64_t first = 0, count = 0;
  };
  struct Tensor {
    std::string dtype;
    std::vector<std::int64_t> shape;
    std::vector<Piece> pieces;  // in order of first
  };
  Expected<void> add(std::size_t file);

  std::vector<SafetensorsFile> files_;
  std::map<std::string, Tensor> tensors_;
};

/// Fills the slices of all ranks, but those of a key in `own`, which stay as the job has made them.
/// All ranks call it, with the same `saved` and `own`. Errors (kInvalidInput), the same on all
/// ranks and before anything is filled: every slice that is missing in the checkpoint, that it has
/// in another shape or dtype, and every tensor of the checkpoint that no rank has.
Expected<void> load_state(const TrainState& state, const SavedState& saved,
                          const std::set<std::string>& own, Exchange& exchange);

}  // namespace plait
