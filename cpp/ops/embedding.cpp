#include "ops/embedding.h"

#include "ops/elementwise.h"
#include "ops/gather.h"
#include "ops/normalize.h"

namespace planck::ops {

namespace {

size_t checked_tables(const Embedding& op, size_t inputs) {
  const size_t affine = op.norm != 0 ? 2 : 0;
  const auto tables = static_cast<size_t>(op.tables);
  if (op.tables < 1 || inputs < affine || inputs - affine != 2 * tables ||
      tables > inputs) {  // the last for 2 * tables that wrapped
    throw GraphError("Embedding: ", inputs, " inputs for ", op.tables, " tables, norm ", op.norm);
  }
  return tables;
}

}  // namespace

void Embedding::infer(Inference& call) const {
  const size_t count = checked_tables(*this, call.in.size());
  const DType dtype = call.at(0).type.dtype;
  std::vector<Dim> dims;
  Dim width = 1;
  for (size_t i = 0; i < 2 * count; i += 2) {
    need_float(kName, call, i);
    need_same_type(kName, call, 0, i);
    need_rank(kName, call, i, 2, 2);
    need_integer(kName, call, i + 1);
    dims = broadcast(dims, call.at(i + 1).type.dims);
    const Dim& own = call.at(i).type.dims[1];
    if (i > 0 && own.is_constant() && width.is_constant() && own != width) {
      throw GraphError("Embedding: tables of widths ", width, " and ", own);
    }
    width = own;
  }
  dims.push_back(width);
  if (norm != 0) {
    need_affine(kName, call, 2 * count, dtype, dims);
    need_affine(kName, call, 2 * count + 1, dtype, dims);
  }
  set_type(call, 0, dtype, std::move(dims));
}

void Embedding::reference(Evaluation& call) const {
  const size_t count = checked_tables(*this, call.in.size());
  Wide sum;
  for (size_t i = 0; i < count; ++i) {
    Wide rows[1];
    Evaluation gather{call.in.subspan(2 * i, 2), rows};
    Gather().reference(gather);
    if (i == 0) {
      sum = std::move(rows[0]);
    } else {
      sum = zip(sum, rows[0], sum.dtype, [](auto a, auto b) { return a + b; });
    }
  }
  if (norm == 0) {
    call.out[0] = std::move(sum);
  } else {
    call.out[0] = normalize(sum, -1, epsilon, call.at(2 * count), &call.at(2 * count + 1)).y;
  }
}
PLANCK_OWN_OP(Embedding)

}  // namespace planck::ops
