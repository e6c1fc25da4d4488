#include <ATen/ops/empty.h>
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <random>

#include "plait/checkpoint/model_folder.h"
#include "plait/job/job_config.h"
#include "plait/nn/model.h"
#include "tools/plait/output.h"
#include "tools/plait/torch_commands.h"

namespace plait::tools {
namespace {

/// Draws from softmax(logits / temperature); the largest at temperature 0. Own arithmetic on a
/// standard generator, so that a seed gives the same text everywhere.
std::int64_t draw(const float* logits, std::int64_t count, double temperature,
                  std::mt19937_64& random) {
  const float* largest = std::max_element(logits, logits + count);
  if (temperature == 0) return largest - logits;
  std::vector<double> weights(static_cast<std::size_t>(count));
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    sum += weights[static_cast<std::size_t>(i)] =
        std::exp(static_cast<double>(logits[i] - *largest) / temperature);
  }
  double point = static_cast<double>(random() >> 11) * 0x1.0p-53 * sum;
  for (std::int64_t i = 0; i < count; ++i) {
    point -= weights[static_cast<std::size_t>(i)];
    if (point < 0) return i;
  }
  return count - 1;
}

}  // namespace

Expected<void> sample(const SampleOptions& options) {
  namespace fs = std::filesystem;
  if (!fs::is_directory(options.run)) {
    return fail(ErrorCode::kInvalidInput, "is not a folder, needed the folder of a run",
                options.run);
  }
  if (options.seed && options.temperature == 0) {
    return fail(ErrorCode::kInvalidInput, "does not apply at temperature 0, where nothing is drawn",
                "--seed");
  }
  PLAIT_TRY(const JobConfig job, read_job_config(options.run + "/job.toml", {}));
  if (job.data.format != "bytes") {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("the run's tokens are {}, this version writes text for bytes only",
                            job.data.format),
                options.run);
  }
  if (options.prompt.empty())
    return fail(ErrorCode::kInvalidInput, "the prompt is empty, needed at least one byte",
                "--prompt");
  if (!fs::exists(options.run + "/model")) {
    return fail(ErrorCode::kInvalidInput, "holds no model: the run has not ended", options.run);
  }
  const std::int64_t window = job.data.sequence_length;
  std::vector<std::string> notes;
  PLAIT_TRY(LanguageModel model, load_language_model(options.run + "/model", window, &notes));
  for (const std::string& note : notes) fmt::print(stderr, "note: {}\n", note);
  std::mt19937_64 random(options.seed.value_or(1));
  std::string text = options.prompt;
  print_text(text);
  for (int i = 0; i < options.tokens; ++i) {
    const std::size_t length = std::min(text.size(), static_cast<std::size_t>(window));
    const at::Tensor tokens = at::empty({1, static_cast<std::int64_t>(length)}, at::kLong);
    for (std::size_t j = 0; j < length; ++j) {
      tokens.mutable_data_ptr<std::int64_t>()[j] =
          static_cast<std::uint8_t>(text[text.size() - length + j]);
    }
    PLAIT_TRY(const at::Tensor logits, model.logits(tokens));
    const std::int64_t count = logits.size(-1);
    const float* last =
        logits.const_data_ptr<float>() + (static_cast<std::int64_t>(length) - 1) * count;
    text += static_cast<char>(
        draw(last, std::min<std::int64_t>(count, 256), options.temperature, random));
    print_text({&text.back(), 1});
    flush_output();
  }
  print_text("\n");
  return {};
}

}  // namespace plait::tools
