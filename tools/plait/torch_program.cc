#include <fmt/core.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "tools/plait/measured_comparison.h"
#include "tools/plait/torch_commands.h"

namespace plait::tools {
namespace {

/// Where plait-torch stands beside this program, followed through links: the same in the build
/// folder and where both are installed.
Expected<std::string> find_torch_program() {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path here = fs::read_symlink("/proc/self/exe", error);
  const fs::path program = (here.parent_path() / PLAIT_TORCH_PROGRAM).lexically_normal();
  if (!error && access(program.c_str(), X_OK) == 0) return program.string();
  return fail(ErrorCode::kNotBuilt, "this build has no torch; configure with -DPLAIT_TORCH=ON",
              program.string());
}

/// The same arguments for plait-torch, which takes this process's place: its number, parent,
/// terminal and environment stay. Returns only if that fails.
Error become_torch_program() {
  // MKL ends a process without one, in words of its own.
  std::error_code gone;
  (void)std::filesystem::current_path(gone);
  if (gone) {
    return Error{ErrorCode::kInvalidInput,
                 fmt::format("the working directory is gone ({}), needed one", gone.message()), ""};
  }
  const Expected<std::string> program = find_torch_program();
  if (!program) return program.error();
  std::vector<std::string> arguments = given_arguments();
  arguments.insert(arguments.begin(), "plait");
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  execv(program->c_str(), pointers.data());
  return Error{ErrorCode::kIo, fmt::format("cannot be started: {}", std::strerror(errno)),
               *program};
}

}  // namespace

Expected<int> train(const TrainOptions& /*options*/) {
  return tl::unexpected<Error>(become_torch_program());
}
Expected<void> profile(const ProfileOptions& /*options*/) {
  return tl::unexpected<Error>(become_torch_program());
}
Expected<void> sample(const SampleOptions& /*options*/) {
  return tl::unexpected<Error>(become_torch_program());
}
Expected<void> export_model(const ExportOptions& /*options*/) {
  return tl::unexpected<Error>(become_torch_program());
}
Expected<void> compare_with_measured(const MeasureArguments& /*arguments*/) {
  return tl::unexpected<Error>(become_torch_program());
}

}  // namespace plait::tools
