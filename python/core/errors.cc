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
    const nb::object exception = type(raised.error.message, raised.error.where);
    PyErr_SetObject(type.ptr(), exception.ptr());
  }
}

}  // namespace

void bind_errors(nb::module_& /*m*/) { nb::register_exception_translator(translate); }

}  // namespace plait::python
