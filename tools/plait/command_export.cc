#include "plait/train/export_model.h"

#include "tools/plait/output.h"
#include "tools/plait/torch_commands.h"

namespace plait::tools {

Expected<void> export_model(const ExportOptions& options) {
  PLAIT_TRY(const ExportedModel model, export_checkpoint(options.checkpoint, options.out));
  for (const Error& one : model.passed_over)
    print("note: a newer checkpoint was passed over: {}\n", one.text());
  print("the model after step {}, of {}, is in {}\n", model.step, model.folder, options.out);
  return {};
}

}  // namespace plait::tools
