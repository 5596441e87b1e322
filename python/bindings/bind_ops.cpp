#include <pybind11/stl.h>

#include "arrays.h"
#include "ir/graph.h"
#include "ops/evaluate.h"
#include "ops/ops.h"

namespace planck {
namespace {

// One op by its reference: inputs are widened, outputs rounded to the type that inference gives.
std::vector<py::array> run_op(const std::string& op, const std::string& attrs,
                              const std::vector<std::optional<py::array>>& inputs, size_t n_outputs,
                              const std::string& row) {
  if (row != "reference") throw UsageError("no kernel row '", row, "' for ", op);
  const OpDef& def = builtin_ops().at(op);
  const Attrs parsed = def.parse(Json::parse(attrs));
  std::vector<Fact> facts(inputs.size());
  std::vector<Wide> wide(inputs.size());
  std::vector<const Fact*> fact_in(inputs.size(), nullptr);
  std::vector<const Wide*> in(inputs.size(), nullptr);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i]) continue;
    const std::string name = cat(i);
    auto tensor = std::make_shared<Tensor>(tensor_of(dense_array(*inputs[i], name), name));
    facts[i].type = tensor->type();
    facts[i].constant = tensor;
    wide[i] = widen(*tensor);
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

}  // namespace

void bind_ops(py::module_& m) {
  m.def("run_op", run_op, py::arg("op"), py::arg("attrs"), py::arg("inputs"), py::arg("n_outputs"),
        py::arg("row"), "Runs one op (attributes as JSON) on arrays; row 'reference'.");
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
