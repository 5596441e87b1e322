#include <pybind11/stl.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "arrays.h"
#include "builder/one_op.h"
#include "ir/graph.h"
#include "ops/evaluate.h"
#include "ops/ops.h"
#include "runtime/session.h"

namespace planck {
namespace {

using Arrays = std::vector<std::optional<py::array>>;

std::vector<std::optional<Tensor>> tensors_of(const Arrays& arrays) {
  std::vector<std::optional<Tensor>> out(arrays.size());
  for (size_t i = 0; i < arrays.size(); ++i) {
    const std::string name = cat(i);
    if (arrays[i]) out[i] = tensor_of(dense_array(*arrays[i], name), name);
  }
  return out;
}

// Inputs are widened, outputs rounded to the type that inference gives.
std::vector<py::array> run_reference(const OpDef& def, const Json& attrs, const Arrays& inputs,
                                     size_t n_outputs) {
  const Attrs parsed = def.parse(attrs);
  const auto tensors = tensors_of(inputs);
  std::vector<Fact> facts(inputs.size());
  std::vector<Wide> wide(inputs.size());
  std::vector<const Fact*> fact_in(inputs.size(), nullptr);
  std::vector<const Wide*> in(inputs.size(), nullptr);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!tensors[i]) continue;
    facts[i].type = tensors[i]->type();
    facts[i].constant = std::make_shared<Tensor>(*tensors[i]);
    wide[i] = widen(*tensors[i]);
    fact_in[i] = &facts[i];
    in[i] = &wide[i];
  }
  const std::vector<Fact> inferred = infer_outputs(def, parsed.get(), fact_in, n_outputs, "run_op");
  std::vector<Wide> out(n_outputs);
  for (size_t i = 0; i < n_outputs; ++i) out[i].dtype = inferred[i].type.dtype;
  const Bindings bindings;
  Evaluation call{in, out, &bindings};
  evaluate(def, parsed.get(), call);
  std::vector<py::array> result;
  for (const Wide& w : out) result.push_back(array_of(narrow(w)));
  return result;
}

// Writes every output into an array of its own.
class Collect : public OutputSink {
 public:
  void* output(size_t, const PlanPort& port, std::span<const int64_t> shape) override {
    arrays.emplace_back(numpy_dtype(port.dtype), Shape(shape.begin(), shape.end()));
    return arrays.back().mutable_data();
  }
  std::vector<py::array> arrays;
};

std::vector<py::array> run_row(Plan plan, const std::vector<std::optional<Tensor>>& tensors) {
  std::vector<Feed> feeds;
  for (const PlanPort& port : plan.inputs) {
    const Tensor& tensor = *tensors[static_cast<size_t>(port.name[1] - '0')];
    feeds.push_back({port.name, tensor.dtype(), tensor.shape(), tensor.data()});
  }
  Session session(std::make_shared<const Plan>(std::move(plan)));
  Collect sink;
  session.run(feeds, sink);
  return std::move(sink.arrays);
}

std::vector<py::array> run_op(const std::string& op, const std::string& attrs, const Arrays& inputs,
                              size_t n_outputs, const std::string& row) {
  const OpDef& def = builtin_ops().at(op);
  if (row == "reference") return run_reference(def, Json::parse(attrs), inputs, n_outputs);
  const auto tensors = tensors_of(inputs);
  return run_row(plan_one_op(op, Json::parse(attrs), tensors, n_outputs, row), tensors);
}

// Every kernel row that the op could run on, with the reason why it cannot; empty where it can.
std::vector<std::pair<std::string, std::string>> op_rows(const std::string& op,
                                                         const std::string& attrs,
                                                         const Arrays& inputs, size_t n_outputs) {
  const Plan plan = plan_one_op(op, Json::parse(attrs), tensors_of(inputs), n_outputs, "");
  std::vector<std::pair<std::string, std::string>> out;
  for (const Step& step : plan.steps) {
    if (step.kernel == "reference" || step.op == "copy") continue;
    out.emplace_back(step.kernel, "");
    for (const Rejected& r : step.rejected) {
      const bool can = r.reason.starts_with("slower") || r.reason.starts_with("same cost");
      out.emplace_back(r.kernel, can ? "" : r.reason);
    }
  }
  return out;
}

}  // namespace

void bind_ops(py::module_& m) {
  m.def("run_op", run_op, py::arg("op"), py::arg("attrs"), py::arg("inputs"), py::arg("n_outputs"),
        py::arg("row"),
        "Runs one op (attributes as JSON) on arrays; row: 'reference' or a kernel.");
  m.def("op_rows", op_rows, py::arg("op"), py::arg("attrs"), py::arg("inputs"),
        py::arg("n_outputs"), "Kernel rows for the op and why each cannot run; '' where it can.");
  m.def("op_names", [] {
    std::vector<std::string> names;
    for (const auto& [name, def] : builtin_ops().all()) names.push_back(name);
    return names;
  });
  m.def("accuracy", [](const std::string& op) {
    constexpr const char* kNames[] = {"exact", "rounding", "reduction"};
    return kNames[static_cast<int>(builtin_ops().at(op).accuracy)];
  });
}

}  // namespace planck
