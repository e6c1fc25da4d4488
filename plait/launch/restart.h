/// The command line of a run that is started again after it has lost a rank.
#pragma once

#include <string>
#include <vector>

namespace plait {

/// `arguments` (without the program's name) as they were given. With a checkpoint in the run's
/// folder the run goes on there, else it begins anew: --overwrite, --resume and --resume-from of
/// the first start are no more what is meant.
std::vector<std::string> restarted_arguments(std::vector<std::string> arguments,
                                             bool has_checkpoint);

/// Restarts that bring nothing are given up: those after each of which the newest checkpoint is
/// that of before.
class RestartLimit {
 public:
  static constexpr int kFruitless = 3;
  /// `step`: of the newest checkpoint, 0 if there is none. False: it has been tried often enough.
  bool allows(int step);

 private:
  int step_ = -1;
  int fruitless_ = 0;
};

}  // namespace plait
