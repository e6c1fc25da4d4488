/// The state of training as a value: what a checkpoint writes and reads. Knows no torch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace plait {

/// A part of one tensor of the state that lies on this rank.
struct StateSlice {
  std::string what;   ///< "parameter", "buffer", "optimizer.first", "trainer.step", …
  std::string name;   ///< the model's name of the tensor; empty: a number of the run
  std::string dtype;  ///< as safetensors calls it: "F32", "I64", …
  std::vector<std::int64_t> shape;  ///< of the whole tensor; empty: one number
  std::int64_t first = 0;           ///< which of its numbers, in row-major order, is the first here
  std::int64_t count = 1;           ///< how many are here
  bool speaks = true;  ///< of all ranks that hold these numbers this is the one that writes them
  /// `count` numbers. What is written here is what the next step starts from.
  std::span<std::byte> bytes;

  /// Names the tensor in a checkpoint: "optimizer.first/model.norm.weight", "trainer.step".
  std::string key() const { return name.empty() ? what : what + "/" + name; }
};

/// All that the next steps of one rank depend on, beside the job and the data. Two ranks that hold
/// the same numbers have slices of the same key, first and count, and one of them speaks.
/// `bytes` are valid as long as the trainer lives; read and write them between steps.
using TrainState = std::vector<StateSlice>;

}  // namespace plait
