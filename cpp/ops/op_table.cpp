#include "ops/ops.h"

namespace planck {

namespace ops {
// The rows declare, then register; a row without its file fails the link.
#define PLANCK_OP_ROW(Op, onnx_version, file) const OpDef& op_##Op();
#include "ops/ops.inc"
#undef PLANCK_OP_ROW
}  // namespace ops

const OpTable& builtin_ops() {
  static const OpTable table = [] {
    OpTable t;
#define PLANCK_OP_ROW(Op, onnx_version, file) t.add(ops::op_##Op());
#include "ops/ops.inc"
#undef PLANCK_OP_ROW
    return t;
  }();
  return table;
}

}  // namespace planck
