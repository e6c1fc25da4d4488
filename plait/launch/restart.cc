#include "plait/launch/restart.h"

namespace plait {

std::vector<std::string> restarted_arguments(std::vector<std::string> arguments,
                                             bool has_checkpoint) {
  std::vector<std::string> kept;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& one = arguments[i];
    if (one == "--overwrite" || one == "--resume" || one.starts_with("--resume-from=")) continue;
    if (one == "--resume-from") {
      ++i;  // its value
      continue;
    }
    kept.push_back(one);
  }
  if (has_checkpoint) {
    kept.emplace_back("--resume");
    return kept;
  }
  // Nothing was saved: as it was begun, over what is there by now.
  arguments.emplace_back("--overwrite");
  return arguments;
}

bool RestartLimit::allows(int step) {
  fruitless_ = step > step_ ? 1 : fruitless_ + 1;
  step_ = step;
  return fruitless_ <= kFruitless;
}

}  // namespace plait
