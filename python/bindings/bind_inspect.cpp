// Comparison by tensor and taps. The walk runs without the GIL; callbacks take it.
#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include <optional>
#include <set>

#include "arrays.h"
#include "py_plan.h"
#include "runtime/inspect.h"

namespace planck {
namespace {

std::vector<Tensor> inputs_from(const Plan& plan, const py::dict& feeds) {
  for (const auto& [key, value] : feeds) {
    const std::string name = py::str(key);
    if (std::ranges::find(plan.inputs, name, &PlanPort::name) == plan.inputs.end()) {
      throw FeedError("the model has no input '", name, "'");
    }
  }
  std::vector<Tensor> inputs;
  for (const PlanPort& p : plan.inputs) {
    const py::str name(p.name);
    if (!feeds.contains(name)) throw FeedError("input '", p.name, "' is missing");
    Tensor tensor = tensor_of(dense_array(feeds[name], p.name), p.name);
    const bool other_width = is_integer(tensor.dtype()) && is_integer(p.dtype);
    inputs.push_back(other_width ? narrow(widen(tensor), p.dtype) : std::move(tensor));
  }
  return inputs;
}

InspectOptions inspect_options(const PyPlan& plan, int threads, const py::object& progress) {
  InspectOptions options;
  options.threads = threads;
  options.denormals = plan.session().denormals();
  if (!progress.is_none()) {
    options.progress = [progress](double done) {
      const py::gil_scoped_acquire gil;
      const py::object answer = progress(done);
      return answer.is_none() || answer.cast<bool>();
    };
  }
  return options;
}

py::list compare_py(const PyPlan& self, const py::dict& feeds, const py::object& reference,
                    bool isolated, int threads, const py::object& progress) {
  std::vector<Tensor> inputs = inputs_from(self.plan(), feeds);
  InspectOptions options = inspect_options(self, threads, progress);
  options.isolated = isolated;
  const ReferenceTensors fetch = [&](const std::string& name, Wide& tensor) {
    const py::gil_scoped_acquire gil;
    const py::object given = reference(name);
    if (given.is_none()) return false;
    tensor = widen(tensor_of(dense_array(given, name), name));
    return true;
  };
  std::vector<TensorRow> rows;
  {
    const py::gil_scoped_release release;
    rows = compare_tensors(self.plan(), std::move(inputs), reference.is_none() ? nullptr : &fetch,
                           options);
  }
  py::list out;
  for (const TensorRow& r : rows) {
    py::dict row = dict_of(r.facts);
    row["dtype"] = std::string(info(r.dtype).numpy);
    row["shape"] = py::tuple(py::cast(r.shape));
    row["cumulative"] = dict_of(r.cumulative);
    row["isolated"] = r.isolated_known ? py::object(dict_of(r.isolated)) : py::none();
    row["scale2"] = r.scale2;
    out.append(row);
  }
  return out;
}

py::dict tap_py(const PyPlan& self, const py::dict& feeds,
                const std::optional<std::set<std::string>>& names, int threads) {
  std::vector<Tensor> inputs = inputs_from(self.plan(), feeds);
  std::function<bool(const std::string&)> wanted;
  if (names) wanted = [&](const std::string& name) { return names->contains(name); };
  py::dict out;
  const InspectOptions options = inspect_options(self, threads, py::none());
  {
    const py::gil_scoped_release release;
    tap_tensors(
        self.plan(), std::move(inputs), wanted,
        [&](const TensorFacts& facts, const Tensor& tensor) {
          const py::gil_scoped_acquire gil;
          out[py::str(facts.name)] = array_of(tensor);
        },
        options);
  }
  return out;
}

py::list facts_py(const PyPlan& self) {
  py::list out;
  for (const TensorFacts& f : tensor_facts(self.plan())) out.append(dict_of(f));
  return out;
}

}  // namespace

void bind_inspect(py::module_& m) {
  m.def("compare_tensors", compare_py, py::arg("plan"), py::arg("feeds"), py::arg("reference"),
        py::arg("isolated"), py::arg("threads"), py::arg("progress"));
  m.def("tap_tensors", tap_py, py::arg("plan"), py::arg("feeds"), py::arg("names"),
        py::arg("threads"));
  m.def("tensor_facts", facts_py, py::arg("plan"));
}

}  // namespace planck
