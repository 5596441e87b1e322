#include <map>
#include <string>

#include "base/error.h"
#include "bindings.h"

namespace planck {
namespace {

std::map<std::string, py::object>& classes() {
  static auto* all = new std::map<std::string, py::object>;  // lives as long as the interpreter
  return *all;
}

// The built-in exceptions that users of NumPy and the operating system already catch.
py::object also(const std::string& name) {
  const py::module_ builtins = py::module_::import("builtins");
  if (name == "UsageError") return builtins.attr("ValueError");
  if (name == "FileError") return builtins.attr("OSError");
  if (name == "OutOfMemoryError") return builtins.attr("MemoryError");
  return py::none();
}

void define(py::module_& m, const char* name, const char* base, const char* code, int exit_code) {
  py::dict body;
  body["__module__"] = "planck";
  body["code"] = code;
  body["exit_code"] = exit_code;
  const py::object other = also(name);
  py::tuple bases = py::make_tuple(classes().at(base));
  if (!other.is_none()) bases = py::make_tuple(classes().at(base), other);
  const py::object type = py::module_::import("builtins").attr("type")(name, bases, body);
  classes()[name] = type;
  m.attr(name) = type;
}

void raise(const Error& e) {
  const py::object type = classes().at(e.kind());
  const py::object instance = type(e.what());
  const ErrorFields& f = e.fields;
  instance.attr("message") = e.what();
  instance.attr("node") = f.node;
  instance.attr("op_type") = f.op_type;
  instance.attr("domain") = f.domain;
  instance.attr("subgraph") = f.subgraph;
  instance.attr("expected") = f.expected;
  instance.attr("got") = f.got;
  instance.attr("hint") = f.hint;
  py::list items;
  for (const std::string& item : f.items) items.append(item);
  instance.attr("items") = items;
  PyErr_SetObject(type.ptr(), instance.ptr());
}

}  // namespace

void bind_errors(py::module_& m) {
  py::dict body;
  body["__module__"] = "planck";
  body["__doc__"] =
      "Base of all errors. code: stable text; message; node, op_type, domain, subgraph, expected, "
      "got, hint: text, empty where not known; items: list of text.";
  body["code"] = "error";
  body["exit_code"] = 1;
  classes()["Error"] =
      py::module_::import("builtins")
          .attr("type")("Error", py::make_tuple(py::handle(PyExc_Exception)), body);
  m.attr("Error") = classes()["Error"];
#define PLANCK_ERROR(Name, Base, code, exit) define(m, #Name, #Base, code, exit);
#include "base/errors.inc"
#undef PLANCK_ERROR
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const Error& e) {
      raise(e);
    }
  });
}

}  // namespace planck
