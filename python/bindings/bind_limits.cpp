// Limits by name, and the wish to end a build or a run.
#include <pybind11/stl.h>

#include "base/guard.h"
#include "bindings.h"
#include "limits.h"

namespace planck {

Limits limits_from(const py::dict& given) {
  Limits limits;
  if (given.contains("profile")) {
    const std::string profile = py::str(given["profile"]);
    if (profile != "default" && profile != "tight") {
      throw with(UsageError("limits.profile is '", profile, "'; expected 'default' or 'tight'"),
                 {.expected = "default, tight", .got = profile});
    }
    if (profile == "tight") limits = Limits::tight();
  }
  for (const auto& [key, value] : given) {
    const std::string name = py::str(key);
    if (name == "profile") continue;
    if (py::isinstance<py::int_>(value) && !py::isinstance<py::bool_>(value)) {
      limits.set(name, whole_number("limits." + name, value));
    } else if (py::isinstance<py::float_>(value)) {
      limits.set(name, value.cast<double>());
    } else {
      limits.set(name, int64_t{0});  // an unknown name is the better message
      throw with(UsageError("limits.", name, " is not a number"),
                 {.expected = "a number", .got = std::string(py::str(py::type::of(value)))});
    }
  }
  return limits;
}

int64_t whole_number(const std::string& name, const py::handle& value) {
  int overflow = 0;
  const int64_t number = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
  if (overflow == 0 && (number != -1 || PyErr_Occurred() == nullptr)) return number;
  PyErr_Clear();
  throw with(UsageError(name, " is not an integer of 64 bits"),
             {.expected = "an integer", .got = std::string(py::str(value)).substr(0, 40)});
}

void bind_limits(py::module_& m) {
  py::class_<Cancel, std::shared_ptr<Cancel>>(
      m, "Cancel", "A wish to end builds and runs, from any thread: request().")
      .def(py::init<>())
      .def("request", &Cancel::request, "Ends what it was given to, within 10 ms or a kernel.")
      .def_property_readonly("requested", &Cancel::requested);
  m.def(
      "limits",
      [] {
        py::list rows;
        for (const LimitRow& row : limit_rows()) {
          rows.append(py::make_tuple(row.name, row.normal, row.tight, row.most, row.unit, row.doc,
                                     row.seconds));
        }
        return rows;
      },
      "Name, default, tight, most, unit, meaning and whether it counts seconds, of each limit.");
}

}  // namespace planck
