/// For tests/python/hf_parity.py: makes model folders and computes logits. Carries out the lines of
/// stdin, words separated by tabs, and answers each with "done" or its error.
///   make CONFIG_FOLDER SEED FOLDER      weights from a seed, by that config.json
///   copy FOLDER OTHER                   reads and writes a model folder
///   logits FOLDER LENGTH TOKENS LOGITS  int64 tokens in, float32 logits out, raw files
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <cstdint>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "plait/checkpoint/model_folder.h"
#include "plait/nn/model.h"

namespace plait {
namespace {

constexpr std::int64_t kMaxSequence = 64;

Expected<void> make(const std::string& config, const std::string& seed, const std::string& folder) {
  PLAIT_TRY(const ModelConfig settings, read_model_config(config));
  PLAIT_TRY(LanguageModel model, LanguageModel::make(settings, std::stoull(seed), kMaxSequence));
  return write_model_folder(folder, settings, kMaxSequence, model.store().tensors());
}

Expected<void> copy(const std::string& from, const std::string& to) {
  PLAIT_TRY(LanguageModel model, load_language_model(from, kMaxSequence));
  return write_model_folder(to, model.config(), kMaxSequence, model.store().tensors());
}

Expected<void> logits(const std::string& folder, const std::string& length,
                      const std::string& tokens_path, const std::string& logits_path) {
  PLAIT_TRY(LanguageModel model, load_language_model(folder, kMaxSequence));
  std::ifstream in(tokens_path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  const auto count = static_cast<std::int64_t>(bytes.size() / sizeof(std::int64_t));
  const at::Tensor tokens = at::empty({count}, at::kLong);
  bytes.copy(static_cast<char*>(tokens.data_ptr()), bytes.size());
  PLAIT_TRY(const at::Tensor result, model.logits(tokens.view({-1, std::stoll(length)})));
  std::ofstream out(logits_path, std::ios::binary);
  out.write(static_cast<const char*>(result.contiguous().data_ptr()),
            static_cast<std::streamsize>(result.nbytes()));
  return {};
}

Expected<void> run(const std::vector<std::string>& words) {
  if (words.size() == 4 && words[0] == "make") return make(words[1], words[2], words[3]);
  if (words.size() == 3 && words[0] == "copy") return copy(words[1], words[2]);
  if (words.size() == 5 && words[0] == "logits") {
    return logits(words[1], words[2], words[3], words[4]);
  }
  return fail(ErrorCode::kInvalidInput, "make, copy or logits");
}

}  // namespace
}  // namespace plait

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    std::vector<std::string> words;
    std::istringstream in(line);
    for (std::string word; std::getline(in, word, '\t');) words.push_back(word);
    const auto result = plait::run(words);
    std::cout << (result ? "done" : result.error().text()) << std::endl;
  }
  return 0;
}
