#include <pybind11/stl.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "arrays.h"
#include "base/checked.h"
#include "builder/load.h"
#include "limits.h"
#include "log.h"
#include "py_plan.h"

namespace planck {
namespace {

// A key of feeds or outputs; names of a model are UTF-8, which not every text of Python can be.
std::string name_of(const py::handle& key, const char* what) {
  if (!py::isinstance<py::str>(key)) throw FeedError("the name of ", what, " is not a string");
  Py_ssize_t size = 0;
  const char* text = PyUnicode_AsUTF8AndSize(key.ptr(), &size);
  if (text == nullptr) {
    PyErr_Clear();
    throw FeedError("the name of ", what, " is not UTF-8: ", py::repr(key).cast<std::string>());
  }
  return {text, static_cast<size_t>(size)};
}

constexpr const char* kOutputHint = "plan.outputs lists what run gives";

// Gives the caller's arrays or makes new ones; entered without the GIL.
class ArraySink : public OutputSink {
 public:
  ArraySink(const py::dict* given, OutputMemory& memory) : given_(given), memory_(memory) {}

  void* output(size_t index, const PlanPort& port, std::span<const int64_t> shape) override {
    const py::gil_scoped_acquire gil;
    const py::str name(port.name);
    py::array array = given_ != nullptr && given_->contains(name)
                          ? checked(port, shape, (*given_)[name])
                          : fresh(port, shape);
    arrays_.resize(std::max(arrays_.size(), index + 1));
    arrays_[index] = array;
    return array.mutable_data();
  }

  py::dict result(const Plan& plan) const {
    py::dict out;
    for (size_t i = 0; i < arrays_.size(); ++i) out[py::str(plan.outputs[i].name)] = arrays_[i];
    return out;
  }

 private:
  py::array fresh(const PlanPort& port, std::span<const int64_t> shape) const {
    try {
      return memory_.array(numpy_dtype(port.dtype), Shape(shape.begin(), shape.end()));
    } catch (const py::error_already_set& e) {  // what Python raises must not cross the library
      if (!e.matches(PyExc_MemoryError)) throw InternalError(e.what());
      throw OutOfMemoryError("no memory for the output '", port.name, "' ", shape_text(shape));
    }
  }

  static py::array checked(const PlanPort& port, std::span<const int64_t> shape,
                           const py::handle& given) {
    if (!py::isinstance<py::array>(given)) {
      const std::string want = cat(info(port.dtype).numpy, shape_text(shape));
      throw with(FeedError("out['", port.name, "'] is not a NumPy array; expected ", want),
                 {.expected = want, .hint = kOutputHint});
    }
    auto array = py::reinterpret_borrow<py::array>(given);
    const bool fits = dtype_of_array(array, port.name) == port.dtype &&
                      std::ranges::equal(shape_of(array), shape);
    if (!fits || !array.writeable() || (array.flags() & py::array::c_style) == 0) {
      refuse(port, shape, array);
    }
    return array;
  }

  [[noreturn]] static void refuse(const PlanPort& port, std::span<const int64_t> shape,
                                  const py::array& array) {
    const std::string want = cat(info(port.dtype).numpy, shape_text(shape));
    const bool dense = (array.flags() & py::array::c_style) != 0;
    const std::string got =
        cat(std::string(py::str(array.dtype())), shape_text(shape_of(array)),
            array.writeable() ? "" : ", read-only", dense ? "" : ", not C-contiguous");
    throw with(
        FeedError("out['", port.name, "']: expected a writable C-contiguous ", want, ", got ", got),
        {.expected = want, .got = got, .hint = kOutputHint});
  }

  const py::dict* given_;
  OutputMemory& memory_;
  std::vector<py::array> arrays_;
};

struct FeedArrays {
  std::vector<std::string> names;
  std::vector<py::array> arrays;
  std::vector<Shape> shapes;
  std::vector<Feed> feeds;

  explicit FeedArrays(const py::dict& given) {
    for (const auto& [key, value] : given) {
      names.push_back(name_of(key, "an input"));
      arrays.push_back(dense_array(py::reinterpret_borrow<py::object>(value), names.back()));
      shapes.push_back(shape_of(arrays.back()));
    }
    for (size_t i = 0; i < names.size(); ++i) {
      feeds.push_back({names[i], dtype_of_array(arrays[i], names[i]), shapes[i], arrays[i].data()});
    }
  }
};

// times: a list that gets (seconds, flops) of every step.
py::dict run(PyPlan& self, const py::dict& feeds, const std::optional<py::dict>& out,
             double timeout, std::shared_ptr<Cancel> cancel, std::optional<py::list> times) {
  const LogCall log_call(false);
  const FeedArrays given(feeds);
  if (out) {
    for (const auto& [key, value] : *out) {
      const std::string name = name_of(key, "an output");
      const auto& ports = self.plan().outputs;
      if (std::ranges::find(ports, name, &PlanPort::name) == ports.end()) {
        throw with(FeedError("the model has no output '", name, "'"), {.hint = kOutputHint});
      }
    }
  }
  ArraySink sink(out ? &*out : nullptr, self.output_memory());
  Trace steps;
  {
    const py::gil_scoped_release release;
    self.session().run(given.feeds, sink, {timeout, std::move(cancel), times ? &steps : nullptr});
  }
  for (const StepTime& step : steps) times->append(py::make_tuple(step.seconds, step.flops));
  return sink.result(self.plan());
}

std::string_view name_of(BufferKind kind) {
  if (kind == BufferKind::input) return "input";
  return kind == BufferKind::output ? "output" : "arena";
}

// shapes: of inputs by name; an extent below 0 is refused here, as no array has it.
MemoryNeed memory_of(const PyPlan& self, const std::map<std::string, Shape>& shapes) {
  std::vector<Feed> feeds;
  for (const auto& [name, shape] : shapes) {
    if (std::ranges::any_of(shape, [](int64_t extent) { return extent < 0; })) {
      throw FeedError("input '", name, "': ", shape_text(shape), " has a negative extent");
    }
    const auto& ports = self.plan().inputs;
    const auto port = std::ranges::find(ports, name, &PlanPort::name);
    feeds.push_back({name, port == ports.end() ? DType::f32 : port->dtype, shape, nullptr});
  }
  const py::gil_scoped_release release;
  return self.session().memory(feeds);
}

py::dict memory(const PyPlan& self, const std::map<std::string, Shape>& shapes) {
  const LogCall log_call(false);
  const MemoryNeed need = memory_of(self, shapes);
  py::dict out = dict_of(need);
  py::list tensors;
  for (const TensorNeed& t : need.tensors) {
    tensors.append(py::make_tuple(t.name, name_of(t.kind), std::string(info(t.dtype).numpy),
                                  py::tuple(py::cast(t.shape)), t.bytes));
  }
  out["tensors"] = tensors;
  return out;
}

py::list ports(const std::vector<PlanPort>& all) {
  py::list out;
  for (const PlanPort& p : all) {
    py::list shape;
    for (const Dim& d : p.shape) {
      d.is_constant() ? shape.append(d.constant()) : shape.append(d.text());
    }
    out.append(py::make_tuple(p.name, std::string(info(p.dtype).numpy), py::tuple(shape)));
  }
  return out;
}

py::list node_names(const Plan& plan, const std::vector<int32_t>& ids) {
  py::list names;
  for (const int32_t n : ids) names.append(plan.nodes[static_cast<size_t>(n)].name);
  return names;
}

// Types of what a step reads or writes, such as "f32[batch,64]"; absent ones are left out.
py::list types_of(const Plan& plan, const std::vector<int32_t>& ids) {
  py::list types;
  for (const int32_t id : ids) {
    if (id < 0) continue;
    const PlanValue& v = plan.values[static_cast<size_t>(id)];
    types.append(cat(TensorType{v.dtype, v.shape}));
  }
  return types;
}

// The earlier steps whose results a step reads, for each step; views lie in the buffer of what they
// look at.
std::vector<std::set<size_t>> steps_before(const Plan& plan) {
  std::map<int32_t, std::set<size_t>> writers;  // of a buffer
  std::vector<std::set<size_t>> out(plan.steps.size());
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    for (const int32_t id : plan.steps[i].inputs) {
      if (id < 0) continue;
      const auto found = writers.find(plan.values[static_cast<size_t>(id)].buffer);
      if (found != writers.end()) out[i].insert(found->second.begin(), found->second.end());
    }
    for (const int32_t id : plan.steps[i].outputs) {
      if (id >= 0) writers[plan.values[static_cast<size_t>(id)].buffer].insert(i);
    }
  }
  return out;
}

py::list steps(const PyPlan& self) {
  py::list out;
  const std::vector<std::set<size_t>> before = steps_before(self.plan());
  for (const Step& s : self.plan().steps) {
    py::dict row;
    row["after"] = before[out.size()];
    row["op"] = s.op;
    row["family"] = std::string(family(s.params));
    row["kernel"] = s.kernel;
    row["nodes"] = node_names(self.plan(), s.nodes);
    row["reads"] = types_of(self.plan(), s.inputs);
    row["writes"] = types_of(self.plan(), s.outputs);
    row["asked"] = s.asked;
    row["given"] = s.given;
    py::list rejected;
    for (const Rejected& r : s.rejected) rejected.append(py::make_tuple(r.kernel, r.reason));
    row["rejected"] = rejected;
    out.append(row);
  }
  return out;
}

int64_t bytes_of(const PlanValue& value, const Bindings& sizes) {
  int64_t bytes = size_of(value.dtype);
  for (const Dim& extent : value.shape) {
    Bindings known = sizes;
    for (const std::string& symbol : extent.symbols()) known.try_emplace(symbol, 1);
    bytes = checked_mul(bytes, std::max<int64_t>(extent.eval(known), 0));
  }
  return bytes;
}

// Of each step: the bytes of all that it reads and writes, where symbols have these sizes, else 1.
std::vector<int64_t> step_bytes(const PyPlan& self, const std::map<std::string, int64_t>& given) {
  const Bindings sizes(given.begin(), given.end());
  const Plan& plan = self.plan();
  std::vector<int64_t> out;
  for (const Step& s : plan.steps) {
    int64_t bytes = 0;
    for (const auto* ids : {&s.inputs, &s.outputs}) {
      for (const int32_t id : *ids) {
        if (id < 0) continue;
        bytes = checked_add(bytes, bytes_of(plan.values[static_cast<size_t>(id)], sizes));
      }
    }
    out.push_back(bytes);
  }
  return out;
}

// What steps read and no run brings, as it lies in the plan: (name, kernel it is packed for,
// array).
py::list constants(const PyPlan& self) {
  std::set<int32_t> read;
  const Plan& plan = self.plan();
  for (const Step& s : plan.steps) {
    for (const int32_t v : s.inputs) {
      if (v < 0) continue;
      const int32_t id = plan.values[static_cast<size_t>(v)].buffer;
      const PlanBuffer& buffer = plan.buffers[static_cast<size_t>(id)];
      if (buffer.kind == BufferKind::constant) read.insert(buffer.index);
    }
  }
  py::list out;
  for (const int32_t index : read) {
    const PlanConstant& c = plan.constants[static_cast<size_t>(index)];
    out.append(py::make_tuple(c.name, c.packing.kernel, array_of(c.tensor)));
  }
  return out;
}

py::dict report(const PyPlan& self) {
  const BuildReport& r = self.plan().report;
  py::dict out;
  out["model"] = r.model;
  out["onnx_nodes"] = r.onnx_nodes;
  out["ops"] = r.fused;
  out["import_ms"] = r.import_ms;
  out["passes_ms"] = r.passes_ms;
  out["lower_ms"] = r.lower_ms;
  out["peak_rss_bytes"] = r.peak_rss_bytes;
  py::list refusals, passes;
  for (const RefusalRow& row : r.refusals) {
    refusals.append(py::make_tuple(row.pass, row.where, row.reason));
  }
  for (const PassRow& row : r.passes) passes.append(py::make_tuple(row.name, row.patches, row.ms));
  out["refusals"] = refusals;
  out["passes"] = passes;
  return out;
}

// The bytes of the plan file, piece by piece, to a Python callable. A piece is valid during the
// call.
void write(const PyPlan& self, const py::function& sink) {
  write_plan(self.plan(), [&](std::span<const std::byte> piece) {
    sink(py::memoryview::from_memory(piece.data(), static_cast<py::ssize_t>(piece.size())));
  });
}

LoadOptions load_options(bool verify, const std::string& repack, const py::dict& limits) {
  LoadOptions options;
  options.limits = limits_from(limits);
  options.verify = verify;
  if (repack == "never") options.repack = Repack::never;
  if (repack == "best") options.repack = Repack::best;
  if (repack != "auto" && repack != "never" && repack != "best") {
    throw UsageError("repack is '", repack, "'; expected 'auto', 'never' or 'best'");
  }
  return options;
}

std::shared_ptr<PyPlan> load_file(const std::string& path, bool verify, const std::string& repack,
                                  int threads, const py::dict& limits, bool flush,
                                  std::string name) {
  const LogCall log_call(true);
  LoadOptions options = load_options(verify, repack, limits);
  options.name = std::move(name);
  const py::gil_scoped_release release;
  return make_py_plan(load_plan(path, options), {threads, options.limits, denormals_of(flush)});
}

std::shared_ptr<PyPlan> load_bytes(const py::bytes& plan, bool verify, const std::string& repack,
                                   int threads, const py::dict& limits, bool flush) {
  const LogCall log_call(true);
  const LoadOptions options = load_options(verify, repack, limits);
  const std::string_view view = plan;
  const py::gil_scoped_release release;
  // A copy of our own: kernels want their weights aligned, and Python may free the bytes.
  std::byte* to = nullptr;
  const Tensor copy = Tensor::make(DType::u8, {static_cast<int64_t>(view.size())}, &to);
  std::ranges::copy(std::as_bytes(std::span(view)), to);
  return make_py_plan(
      load_plan(Bytes{{to, view.size()}, std::make_shared<const Tensor>(copy)}, options),
      {threads, options.limits, denormals_of(flush)});
}

void bind_loading(py::module_& m) {
  m.def("load_file", load_file, py::arg("path"), py::arg("verify"), py::arg("repack"),
        py::arg("threads"), py::arg("limits"), py::arg("flush"), py::arg("name") = "");
  m.def("load_bytes", load_bytes, py::arg("plan"), py::arg("verify"), py::arg("repack"),
        py::arg("threads"), py::arg("limits"), py::arg("flush"));
  m.def("rehash_plan", [](const py::bytes& plan) {  // for tests that change plans
    std::string copy = plan;
    rehash_plan(std::as_writable_bytes(std::span(copy)));
    return py::bytes(copy);
  });
}

}  // namespace

std::shared_ptr<PyPlan> make_py_plan(Plan plan, const SessionOptions& options) {
  return std::make_shared<PyPlan>(std::make_shared<const Plan>(std::move(plan)), options);
}

void bind_plan(py::module_& m) {
  py::class_<PyPlan, std::shared_ptr<PyPlan>>(m, "Plan")
      .def("run", run, py::arg("feeds"), py::arg("out") = py::none(), py::arg("timeout") = 0.0,
           py::arg("cancel") = nullptr, py::arg("times") = py::none())
      .def(
          "save",
          [](const PyPlan& self, const std::string& path) {
            const py::gil_scoped_release release;
            save_plan(self.plan(), path);
          },
          py::arg("path"))
      .def("write", write, py::arg("sink"))
      .def("explain", [](const PyPlan& self) { return explain(self.plan()); })
      .def("memory", memory, py::arg("shapes"))
      .def_property_readonly("inputs", [](const PyPlan& self) { return ports(self.plan().inputs); })
      .def_property_readonly("outputs",
                             [](const PyPlan& self) { return ports(self.plan().outputs); })
      .def_property_readonly("steps", steps)
      .def("constants", constants)
      .def("step_bytes", step_bytes, py::arg("sizes"))
      .def_property_readonly("report", report)
      .def_property_readonly("stats", [](PyPlan& self) { return dict_of(self.session().stats()); })
      .def_property_readonly("nodes",
                             [](const PyPlan& self) {
                               py::list out;
                               for (const auto& n : self.plan().nodes) out.append(n.name);
                               return out;
                             })
      .def_property_readonly(
          "unused", [](const PyPlan& self) { return node_names(self.plan(), self.plan().unused); })
      .def_property_readonly("precision", [](const PyPlan& self) { return self.plan().precision; })
      .def_property_readonly("constant_bytes",
                             [](const PyPlan& self) { return self.plan().constant_bytes(); })
      .def_property_readonly("isa", [](const PyPlan& self) { return self.plan().isa; })
      .def_property_readonly("threads", [](PyPlan& self) { return self.session().threads(); })
      .def_property_readonly("flushes", [](const PyPlan& self) {
        return self.session().denormals() == Denormals::flush;
      });
  bind_loading(m);
}

}  // namespace planck
