#include "ops/evaluate.h"

#include "base/checked.h"
#include "ops/support.h"

namespace planck {

namespace {

void check_count(const OpDef& op, std::string_view what, size_t got, int low, int high) {
  const auto count = static_cast<int64_t>(got);
  if (count >= low && (high < 0 || count <= high)) return;
  GraphError error(op.text(), " has ", got, " ", what, ", expected ", low,
                   high < 0 ? " or more" : (high == low ? "" : cat(" to ", high)));
  error.fields.op_type = op.name;
  throw error;
}

}  // namespace

void evaluate(const OpDef& op, const void* attrs, Evaluation& call) {
  check_count(op, "inputs", call.in.size(), op.min_inputs, op.max_inputs);
  check_count(op, "outputs", call.out.size(), op.min_outputs, op.max_outputs);
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

}  // namespace planck
