#include "builder/one_op.h"

#include <optional>

#include "base/device.h"
#include "builder/lowering.h"
#include "ops/ops.h"

namespace planck {

Plan plan_one_op(const std::string& op, const Json& attrs,
                 const std::vector<std::optional<Tensor>>& inputs, size_t outputs,
                 const std::string& kernel) {
  Graph g(builtin_ops());
  Node n;
  n.op = &builtin_ops().at(op);
  n.attrs = n.op->parse(attrs);
  for (size_t i = 0; i < inputs.size(); ++i) {
    const bool fed = i == 0 || (i == 1 && op == "MatMul");
    if (!inputs[i]) {
      n.inputs.push_back(kAbsent);
    } else if (fed) {
      n.inputs.push_back(g.add_input(cat('x', i), inputs[i]->type()));
    } else {
      n.inputs.push_back(g.add_constant(*inputs[i]));
    }
  }
  for (size_t i = 0; i < outputs; ++i) n.outputs.push_back(g.add_value({}));
  const std::vector<Fact> facts = infer_node(g, n);
  for (size_t i = 0; i < outputs; ++i) {
    g.set_fact(n.outputs[i], facts[i]);
    g.add_output(n.outputs[i], cat('y', i));
  }
  g.add_node(std::move(n));
  Plan plan;
  plan.isa = isa_name(this_device().best);
  lower(g, {true, kernel}, plan);
  return plan;
}

}  // namespace planck
