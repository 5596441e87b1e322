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

// What a traceback shows below the sentence (PEP 678, from Python 3.11 on): what was expected,
// where the sentence does not say it, and the hint. Made when first asked for, since Python code
// sets hints after the error is made.
py::object notes_of(const py::object& self) {
  const py::dict own = self.attr("__dict__");
  if (!own.contains("_notes")) {
    py::list notes;
    const std::string sentence = py::str(self);
    const std::string expected = py::str(self.attr("expected")), hint = py::str(self.attr("hint"));
    if (!expected.empty() && sentence.find(expected) == std::string::npos) {
      notes.append("expected: " + expected);
    }
    if (!hint.empty() && sentence.find(hint) == std::string::npos) notes.append("hint: " + hint);
    own["_notes"] = notes;
  }
  return own["_notes"];
}

// Fields that every error has, so that those raised by Python code have them too.
py::dict class_body() {
  py::dict body;
  body["__module__"] = "planck";
  for (const char* name : {"node", "op_type", "domain", "subgraph", "expected", "got", "hint"}) {
    body[name] = "";
  }
  body["items"] = py::tuple();
  const py::object property = py::module_::import("builtins").attr("property");
  body["message"] =
      property(py::cpp_function([](const py::object& self) { return py::str(self); }));
  body["__notes__"] = property(py::cpp_function(notes_of));
  return body;
}

py::object new_class(const char* name, const py::tuple& bases, const py::dict& body) {
  return py::module_::import("builtins").attr("type")(name, bases, body);
}

void define(py::module_& m, const char* name, const char* base, const char* code, int exit_code,
            const char* hint) {
  py::dict body;
  body["__module__"] = "planck";
  body["code"] = code;
  body["exit_code"] = exit_code;
  body["hint"] = hint;
  const std::string kind = name;
  if (kind == "LimitError" || kind == "OutOfMemoryError") {
    body["limit"] = 0;
    body["need"] = 0;
  }
  if (kind == "LimitError" || kind == "TimeoutError") body["option"] = "";
  const py::object other = also(kind);
  py::tuple bases = py::make_tuple(classes().at(base));
  if (!other.is_none()) bases = py::make_tuple(classes().at(base), other);
  classes()[name] = new_class(name, bases, body);
  m.attr(name) = classes()[name];
}

// Texts of ours are UTF-8, but what they quote may be anything.
py::object text_of(std::string_view text) {
  return py::reinterpret_steal<py::object>(
      PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "backslashreplace"));
}

void raise(const Error& e) {
  const py::object type = classes().at(e.kind());
  const py::object instance = type(text_of(e.what()));
  const ErrorFields& f = e.fields;
  const std::pair<const char*, const std::string&> texts[] = {
      {"node", f.node},         {"op_type", f.op_type},   {"domain", f.domain},
      {"subgraph", f.subgraph}, {"expected", f.expected}, {"got", f.got},
      {"hint", f.hint}};
  for (const auto& [name, text] : texts) instance.attr(name) = text_of(text);
  py::tuple items(f.items.size());
  for (size_t i = 0; i < f.items.size(); ++i) items[i] = text_of(f.items[i]);
  instance.attr("items") = items;
  if (py::hasattr(type, "need")) {
    instance.attr("limit") = f.limit;
    instance.attr("need") = f.need;
  }
  if (py::hasattr(type, "option")) instance.attr("option") = f.option;
  PyErr_SetObject(type.ptr(), instance.ptr());
}

// pybind11's own exceptions stand for Python's (a wrong argument is a TypeError).
void translate(std::exception_ptr p) {
  try {
    if (p) std::rethrow_exception(p);
  } catch (const py::builtin_exception&) {
    throw;
  } catch (...) {
    try {
      typed([&] { std::rethrow_exception(p); });
    } catch (const Error& e) {
      raise(e);
    }
  }
}

}  // namespace

void bind_errors(py::module_& m) {
  py::dict body = class_body();
  body["__doc__"] =
      "Base of all errors. code: stable text; message; node, op_type, domain, subgraph, expected, "
      "got, hint: text, empty where not known; items: all reasons of an UnsupportedError. "
      "LimitError adds limit, need and option, OutOfMemoryError limit and need, TimeoutError "
      "option.";
  body["code"] = "error";
  body["exit_code"] = 1;
  classes()["Error"] = new_class("Error", py::make_tuple(py::handle(PyExc_Exception)), body);
  m.attr("Error") = classes()["Error"];
#define PLANCK_ERROR(Name, Base, code, exit, hint) define(m, #Name, #Base, code, exit, hint);
#include "base/errors.inc"
#undef PLANCK_ERROR
  py::register_exception_translator(translate);
}

}  // namespace planck
