#include <algorithm>

#include "python/core/bind.h"

namespace plait::python {
namespace {

/// The class of plait.errors.
const char* class_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidInput:
      return "InvalidInput";
    case ErrorCode::kNotBuilt:
      return "NotBuilt";
    case ErrorCode::kIo:
      return "FileProblem";
    case ErrorCode::kCheckFailed:
      return "CheckFailed";
    default:
      return "Error";
  }
}

void translate(const std::exception_ptr& thrown, void* /*payload*/) {
  try {
    std::rethrow_exception(thrown);
  } catch (const RaisedError& raised) {
    const nb::object type = nb::module_::import_("plait.errors").attr(class_of(raised.error.code));
    const ErrorPlace& place = raised.error.place;
    // What is a flag of the command is an argument here.
    std::string argument = place.argument;
    std::replace(argument.begin(), argument.end(), '-', '_');
    using namespace nb::literals;
    const nb::object exception =
        type(raised.error.message, argument.empty() ? raised.error.where : argument,
             "argument"_a = argument, "file"_a = place.file, "line"_a = place.line,
             "column"_a = place.column, "key"_a = place.key, "rank"_a = place.rank,
             "position"_a = place.position, "action"_a = place.action, "peer"_a = place.peer);
    PyErr_SetObject(type.ptr(), exception.ptr());
  }
}

}  // namespace

void bind_errors(nb::module_& /*m*/) { nb::register_exception_translator(translate); }

}  // namespace plait::python
