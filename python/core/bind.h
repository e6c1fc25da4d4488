/// What the bindings of plait._core share: each file binds one idea, errors become exceptions.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <exception>
#include <utility>

#include "plait/base/error.h"

namespace plait::python {

namespace nb = nanobind;

void bind_errors(nb::module_& m);
void bind_tables(nb::module_& m);
void bind_schedule(nb::module_& m);
void bind_proof(nb::module_& m);
void bind_price(nb::module_& m);
void bind_timeline(nb::module_& m);
void bind_compare(nb::module_& m);
void bind_metrics(nb::module_& m);

/// Thrown across the border, where it becomes the class of plait.errors for its code.
struct RaisedError : std::exception {
  explicit RaisedError(Error raised) : error(std::move(raised)) {}
  const char* what() const noexcept override { return error.message.c_str(); }
  Error error;
};

/// An argument of Python's is wrong.
inline RaisedError wrong_argument(std::string name, std::string message) {
  return RaisedError(
      fail(ErrorCode::kInvalidInput, std::move(message), ErrorPlace{.argument = std::move(name)})
          .value());
}

/// The value, or an exception.
template <typename T>
T value_of(Expected<T> result) {
  if (!result) throw RaisedError(std::move(result).error());
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

/// What `work` returns; other threads of Python run meanwhile. `work` touches no Python object.
template <typename Work>
auto without_gil(Work&& work) {
  nb::gil_scoped_release release;
  return std::forward<Work>(work)();
}

/// A read-only array over `count` numbers, `stride` bytes apart, of which the first is at `first`.
/// No copy: `owner` lives as long as the array.
template <typename Number>
nb::object column(const Number* first, std::size_t count, std::size_t stride, nb::handle owner) {
  using Array = nb::ndarray<nb::numpy, const Number, nb::ndim<1>>;
  const std::int64_t steps = static_cast<std::int64_t>(stride / sizeof(Number));
  return nb::cast(Array(first, {count}, owner, {steps}));
}

}  // namespace plait::python
