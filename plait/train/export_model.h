/// The model of a checkpoint as a folder of Hugging Face's transformers.
#pragma once

#include <string>
#include <vector>

#include "plait/base/error.h"

namespace plait {

struct ExportedModel {
  int step = 0;
  std::string folder;              ///< of the checkpoint
  std::vector<Error> passed_over;  ///< newer checkpoints that are damaged
};

/// `checkpoint`: a checkpoint, or a run's folder for its newest whole one; the run may be alive:
/// what it removes meanwhile is looked for anew. `out` is made; a model that is there is an error.
/// Errors: those of find_checkpoint(), and kIo. Cost: reads the checkpoint twice; holds a piece of
/// one tensor at a time.
Expected<ExportedModel> export_checkpoint(const std::string& checkpoint, const std::string& out);

}  // namespace plait
