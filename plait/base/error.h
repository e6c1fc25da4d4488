/// Errors as values: what was found, what was needed, and where.
///
/// Input can be wrong: functions that read it return `Expected<T>`. `PLAIT_CHECK` (base/check.h) is
/// for our own bugs and is never reachable from input.
#pragma once

#include <cstdint>
#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace plait {

enum class ErrorCode : std::uint8_t {
  kInvalidInput,  ///< a file, flag or environment variable is wrong: exit code 2
  kNotBuilt,      ///< asked for something this version does not have: exit code 2
  kIo,            ///< a file could not be read or written
  kCheckFailed,   ///< a schedule or a program breaks a rule
  kPeer,          ///< another rank died or answered wrongly
  kTimeout,       ///< a wait took longer than it may
  kNotFinite,     ///< a loss or a gradient is not finite
  kInterrupted,   ///< the user ended the run
  kRuntime,       ///< a library failed in mid-run (out of memory, torch's own errors, …)
};

/// Where an error is, in fields for programs that handle it; what does not apply is empty, 0 or -1.
struct ErrorPlace {
  std::string file{};  ///< or what stands for it: "text", a schedule's name
  int line = 0;        ///< of the file, from 1
  int column = 0;      ///< in bytes, from 1
  std::string key{};   ///< of a TOML file or a line of JSON; of a document of JSON the path to it
  std::string argument{};  ///< the flag without its dashes: "max-active-stages"
  int rank = -1;           ///< whose list it is about
  int position = -1;       ///< in that list; counts pair headers
  std::string action{};    ///< there: "2F0"
  int peer = -1;           ///< the rank at the other end of its message

  /// "--ARGUMENT", "FILE:LINE:COLUMN", "FILE:/PATH" or "FILE: rank R position I", as far as it is
  /// known.
  std::string text() const;
};

struct Error {
  ErrorCode code = ErrorCode::kRuntime;
  std::string message;  ///< lower case, no full stop: found and needed
  std::string where;    ///< file:line, flag, or rank and action; empty if the message says it
  ErrorPlace place{};   ///< the same in fields, as far as whoever made the error filled them

  /// "where: message", or the message alone.
  std::string text() const { return where.empty() ? message : where + ": " + message; }
};

template <typename T>
using Expected = tl::expected<T, Error>;

inline tl::unexpected<Error> fail(ErrorCode code, std::string message, std::string where = {}) {
  return tl::unexpected<Error>(Error{code, std::move(message), std::move(where), {}});
}
inline tl::unexpected<Error> fail(ErrorCode code, std::string message, ErrorPlace place) {
  std::string where = place.text();
  return tl::unexpected<Error>(Error{code, std::move(message), std::move(where), std::move(place)});
}

}  // namespace plait

#define PLAIT_CONCAT_INNER(a, b) a##b
#define PLAIT_CONCAT(a, b) PLAIT_CONCAT_INNER(a, b)

/// PLAIT_TRY(JobConfig job, read_job_config(path)); several statements: use it inside braces.
#define PLAIT_TRY(declaration, expression) \
  PLAIT_TRY_AS(PLAIT_CONCAT(plait_result_, __LINE__), declaration, expression)
#define PLAIT_TRY_AS(result, declaration, expression)                            \
  auto result = (expression);                                                    \
  if (!result) return tl::unexpected<::plait::Error>(std::move(result).error()); \
  declaration = *std::move(result)

/// The same for Expected<void>, or where the value is not needed.
#define PLAIT_TRY_VOID(expression)                                            \
  do {                                                                        \
    if (auto plait_result = (expression); !plait_result)                      \
      return tl::unexpected<::plait::Error>(std::move(plait_result).error()); \
  } while (false)
