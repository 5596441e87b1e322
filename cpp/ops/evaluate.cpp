#include "ops/evaluate.h"

#include "base/checked.h"
#include "ir/graph.h"
#include "ops/support.h"

namespace planck {

void evaluate(const OpDef& op, const void* attrs, Evaluation& call) {
  check_arity(op, call.in.size(), call.out.size());
  for (size_t i = 0; i < static_cast<size_t>(op.min_inputs); ++i) {
    if (!call.has(i)) throw GraphError(op.text(), " lacks its input ", i);
  }
  for (const Wide* in : call.in) {
    if (in != nullptr) check_size(in->shape);
  }
  op.reference(attrs, call);
  for (size_t i = 0; i < call.out.size(); ++i) {
    Wide& out = call.out[i];
    if (out.count() != checked_count(out.shape)) {
      throw InternalError("the reference of ", op.text(), " did not set output ", i);
    }
    wrap(out);
  }
}

void check_types(const OpDef& op, const void* attrs, std::span<const Fact* const> in,
                 std::span<const std::optional<DType>> out) {
  std::vector<Fact> inferred;
  try {
    inferred = infer_outputs(op, attrs, in, out.size(), "run");
  } catch (const GraphError& e) {
    throw with(RunError(e.what()), e.fields);
  }
  for (size_t i = 0; i < out.size(); ++i) {
    const DType dtype = inferred[i].type.dtype;
    if (!out[i] || dtype == *out[i]) continue;
    throw with(
        RunError(op.text(), " gives ", dtype, ", the plan says ", *out[i]),
        {.expected = std::string(dtype_name(*out[i])), .got = std::string(dtype_name(dtype))});
  }
}

Fact fact_of(const Wide& value) {
  Fact fact;
  fact.type = {value.dtype, {value.shape.begin(), value.shape.end()}};
  if (value.count() <= kMostContents) {
    fact.constant = std::make_shared<const Tensor>(narrow(value));
  }
  return fact;
}

}  // namespace planck
