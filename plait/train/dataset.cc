#include "plait/train/dataset.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>
#include <system_error>

#include "plait/base/random.h"
#include "plait/job/validate.h"

namespace plait {

namespace {

/// What the handler of SIGBUS finds: a mapping, and what to say when its file is cut short.
struct Watched {
  const char* begin;
  const char* end;
  std::string words;
};

// A signal handler can reach nothing but globals. A job maps two files.
constexpr std::size_t kMaxWatched = 64;
std::array<std::atomic<const Watched*>, kMaxWatched> watched_mappings;
std::atomic<void (*)(const char*)> end_of_process = nullptr;

void handle_bus_error(int signal, siginfo_t* info, void* /*context*/) {
  const auto* address = static_cast<const char*>(info->si_addr);
  for (const std::atomic<const Watched*>& slot : watched_mappings) {
    const Watched* watched = slot.load();
    if (watched != nullptr && address >= watched->begin && address < watched->end)
      end_of_process.load()(watched->words.c_str());
  }
  std::signal(signal, SIG_DFL);  // the read is tried once more, and is what it was without us
}

}  // namespace

void on_lost_data(void (*end)(const char* words)) {
  end_of_process = end;
  struct sigaction action {};
  action.sa_sigaction = handle_bus_error;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, nullptr);
}

struct Dataset::Mapping {
  Mapping(std::string path_of_file, TokenFormat format_of_file, void* mapped, std::size_t size)
      : path(std::move(path_of_file)), format(format_of_file), data(mapped), bytes(size) {
    const char* begin = static_cast<const char*>(data);
    watched = {
        begin, begin + bytes,
        fmt::format("{}: the data file has been cut short while it was read: it had {} bytes "
                    "when the run began",
                    path, bytes)};
    for (std::atomic<const Watched*>& slot : watched_mappings) {
      const Watched* none = nullptr;
      if (slot.compare_exchange_strong(none, &watched)) return;
    }
  }
  ~Mapping() {
    for (std::atomic<const Watched*>& slot : watched_mappings) {
      const Watched* mine = &watched;
      if (slot.compare_exchange_strong(mine, nullptr)) break;
    }
    munmap(data, bytes);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::int64_t at(std::size_t position) const {
    // Files may lie at any alignment of their tokens: copy, do not cast.
    const char* begin = static_cast<const char*>(data);
    switch (format) {
      case TokenFormat::kBytes:
        return static_cast<std::uint8_t>(begin[position]);
      case TokenFormat::kUint16: {
        std::uint16_t token = 0;
        std::memcpy(&token, begin + position * 2, 2);
        return token;
      }
      case TokenFormat::kUint32: {
        std::uint32_t token = 0;
        std::memcpy(&token, begin + position * 4, 4);
        return token;
      }
    }
    return 0;
  }

  std::string path;
  TokenFormat format;
  void* data;
  std::size_t bytes;
  Watched watched{};
};

namespace {

std::size_t token_size(TokenFormat format) {
  return format == TokenFormat::kBytes ? 1 : format == TokenFormat::kUint16 ? 2 : 4;
}

tl::unexpected<Error> bad_file(const std::string& path, std::string message) {
  return fail(ErrorCode::kInvalidInput, std::move(message), path);
}

TokenFormat format_of(const std::string& name) {
  return name == "uint16"   ? TokenFormat::kUint16
         : name == "uint32" ? TokenFormat::kUint32
                            : TokenFormat::kBytes;
}

Expected<void> need_sequence(const Dataset& part, const char* which, int sequence_length) {
  const std::size_t needed = static_cast<std::size_t>(sequence_length) + 1;
  if (part.size() >= needed) return {};
  return bad_file(
      part.path(),
      fmt::format("the {} part has {} tokens, needs at least {}: one sequence and its next token",
                  which, part.size(), needed));
}

}  // namespace

Expected<Dataset> Dataset::open(const std::string& path, TokenFormat format,
                                std::int64_t vocab_size) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0)
    return bad_file(path, fmt::format("the data file cannot be opened: {}",
                                      std::generic_category().message(errno)));
  struct stat status {};
  const bool is_file = fstat(file, &status) == 0 && S_ISREG(status.st_mode);
  const auto bytes = static_cast<std::size_t>(status.st_size);
  void* mapped =
      is_file && bytes > 0 ? mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, file, 0) : MAP_FAILED;
  ::close(file);
  if (!is_file) return bad_file(path, "is not a file, needed a file of tokens");
  if (bytes == 0) return bad_file(path, "the data file is empty");
  if (mapped == MAP_FAILED) return bad_file(path, "the data file cannot be mapped");
  auto mapping = std::make_shared<const Mapping>(path, format, mapped, bytes);
  const std::size_t size = token_size(format);
  if (bytes % size != 0) {
    return bad_file(path, fmt::format("has {} bytes, needs a multiple of {} for uint{}", bytes,
                                      size, size * 8));
  }
  Dataset dataset;
  dataset.mapping_ = std::move(mapping);
  dataset.end_ = bytes / size;
  for (std::size_t i = 0; i < dataset.end_; ++i) {
    const std::int64_t token = dataset.mapping_->at(i);
    if (token >= vocab_size) {
      return bad_file(path, fmt::format("token {} at position {} is outside the vocabulary of {}",
                                        token, i, vocab_size));
    }
  }
  return dataset;
}

std::int64_t Dataset::at(std::size_t position) const { return mapping_->at(begin_ + position); }

Dataset Dataset::slice(std::size_t first, std::size_t end) const {
  Dataset part = *this;
  part.begin_ = begin_ + first;
  part.end_ = begin_ + end;
  return part;
}

std::span<const std::uint8_t> Dataset::bytes() const {
  return {static_cast<const std::uint8_t*>(mapping_->data) + begin_, size()};
}

const std::string& Dataset::path() const { return mapping_->path; }

Expected<DataSplit> open_data(const DataConfig& data, std::int64_t vocab_size) {
  const TokenFormat format = format_of(data.format);
  PLAIT_TRY(const Dataset file, Dataset::open(data.train, format, vocab_size));
  DataSplit split{file, file};
  if (data.validation.empty()) {
    const auto held_out =
        static_cast<std::size_t>(static_cast<double>(file.size()) * data.validation_share);
    split.training = file.slice(0, file.size() - held_out);
    split.validation = file.slice(file.size() - held_out, file.size());
  } else {
    PLAIT_TRY(split.validation, Dataset::open(data.validation, format, vocab_size));
  }
  PLAIT_TRY_VOID(need_sequence(split.training, "training", data.sequence_length));
  if (has_validation(data))
    PLAIT_TRY_VOID(need_sequence(split.validation, "held-out", data.sequence_length));
  return split;
}

std::vector<std::size_t> sample_starts(std::uint64_t seed, int step, int count,
                                       std::size_t positions) {
  std::vector<std::size_t> starts;
  starts.reserve(static_cast<std::size_t>(count));
  const std::uint64_t key = split_mix(split_mix(seed) ^ static_cast<std::uint64_t>(step));
  for (int i = 0; i < count; ++i) {
    starts.push_back(static_cast<std::size_t>(
        split_mix(key ^ split_mix(static_cast<std::uint64_t>(i))) % positions));
  }
  return starts;
}

}  // namespace plait
