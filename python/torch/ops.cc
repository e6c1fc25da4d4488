// The operators of torch.ops.plait (README.md). They are composite: dispatch modes and tensor
// subclasses see what runs inside, not the operators. None of them touches Python, so torch calls
// them without Python's lock.
#include <ATen/ops/empty.h>
#include <fmt/format.h>
#include <torch/library.h>
#include <torch/version.h>

#include <memory>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <string>
#include <torch/csrc/distributed/c10d/GroupRegistry.hpp>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "plait/ir/action_text.h"
#include "plait/ir/forms/text_forms.h"
#include "plait/program/programs.h"
#include "python/torch/program.h"

namespace plait::python {
namespace {

template <typename T>
T value_of(Expected<T> result) {
  if (!result) throw std::runtime_error(result.error().text());
  return *std::move(result);
}

/// Programs by handle. An object of torchbind would cost 20 us as an argument, and its destructor
/// would hold Python's lock.
class Table {
 public:
  std::int64_t add(std::shared_ptr<Program> program) {
    const std::lock_guard lock(mutex_);
    programs_.emplace(++last_, std::move(program));
    return last_;
  }
  std::shared_ptr<Program> get(std::int64_t handle) {
    const std::lock_guard lock(mutex_);
    const auto found = programs_.find(handle);
    if (found != programs_.end()) return found->second;
    throw std::runtime_error(fmt::format("there is no program {}: it has been closed", handle));
  }
  void close(std::int64_t handle) {
    std::shared_ptr<Program> last;  // dies without the lock
    const std::lock_guard lock(mutex_);
    const auto found = programs_.find(handle);
    if (found == programs_.end()) return;
    last = std::move(found->second);
    programs_.erase(found);
  }

 private:
  std::mutex mutex_;
  std::unordered_map<std::int64_t, std::shared_ptr<Program>> programs_;
  std::int64_t last_ = 0;
};

// Never destroyed: at the process's end programs may still hold tensors of Python.
Table& table() {
  static auto* const programs = new Table();
  return *programs;
}

std::string built_for() { return fmt::format("{}.{}", TORCH_VERSION_MAJOR, TORCH_VERSION_MINOR); }

std::int64_t make(const std::string& schedule, std::int64_t rank, const std::string& group,
                  double timeout_s) {
  Schedule read = value_of(read_schedule(schedule, "schedule", {}));
  const int stages = read.placement.stages(), microbatches = read.microbatches;
  ReplicaWork replicas;
  replicas.reduces = !read.forward_only;
  const VerifiedSchedule proven = value_of(prove_lowered(std::move(read), replicas));
  std::vector<RankProgram> programs = value_of(lower_all(proven, {}));
  if (rank < 0 || static_cast<std::size_t>(rank) >= programs.size()) {
    throw std::runtime_error(
        fmt::format("rank: found {}, needed one of {}", rank, programs.size()));
  }
  const auto backend = c10d::resolve_process_group(group)->getBackend(at::kCPU);
  return table().add(std::make_shared<Program>(std::move(programs[static_cast<std::size_t>(rank)]),
                                               stages, microbatches, backend,
                                               static_cast<Nanoseconds>(timeout_s * 1e9)));
}

std::vector<std::string> actions(std::int64_t handle) {
  const std::shared_ptr<Program> program = table().get(handle);
  std::vector<std::string> texts;
  for (const Instruction& instruction : program->program().instructions)
    texts.push_back(print_action(instruction.action));
  return texts;
}

std::tuple<std::int64_t, std::vector<at::Tensor>> next(std::int64_t handle,
                                                       std::vector<at::Tensor> outputs,
                                                       bool whole) {
  Handed handed = table().get(handle)->next(std::move(outputs), whole);
  return {handed.instruction, std::move(handed.tensors)};
}

at::Tensor times(std::int64_t handle) {
  const std::shared_ptr<Program> program = table().get(handle);
  at::Tensor rows = at::empty({static_cast<std::int64_t>(program->times().size()), 2}, at::kLong);
  std::int64_t* to = rows.data_ptr<std::int64_t>();
  for (const std::array<Nanoseconds, 2>& one : program->times()) {
    *to++ = one[0];
    *to++ = one[1];
  }
  return rows;
}

std::vector<std::int64_t> counts(std::int64_t handle) {
  const ProgramCounts counted = table().get(handle)->counts();
  const std::vector<std::int64_t>& whole = counted.whole_backwards;
  return {counted.steps, std::accumulate(whole.begin(), whole.end(), std::int64_t{0})};
}

}  // namespace
}  // namespace plait::python

TORCH_LIBRARY(plait, m) {
  namespace ours = plait::python;
  m.def("built_for() -> str", &ours::built_for);
  m.def("make(str schedule, int rank, str group, float timeout_s) -> int", &ours::make);
  m.def("actions(int program) -> str[]", &ours::actions);
  m.def("stop_before(int program, int[] instructions) -> ()",
        [](std::int64_t program, const std::vector<std::int64_t>& instructions) {
          ours::table().get(program)->stop_before(instructions);
        });
  m.def("begin(int program) -> ()",
        [](std::int64_t program) { ours::table().get(program)->begin(); });
  m.def("next(int program, Tensor[] outputs, bool whole) -> (int, Tensor[])", &ours::next);
  m.def("where(int program) -> str",
        [](std::int64_t program) { return ours::table().get(program)->where(); });
  m.def("times(int program) -> Tensor", &ours::times);
  m.def("counts(int program) -> int[]", &ours::counts);
  m.def("whole_backwards(int program) -> int[]",
        [](std::int64_t program) { return ours::table().get(program)->counts().whole_backwards; });
  m.def("close(int program) -> ()", [](std::int64_t program) { ours::table().close(program); });
}
