#include "ops/transpose.h"

#include <algorithm>

#include "ops/support.h"

namespace planck::ops {

namespace {

std::vector<size_t> checked_perm(const std::vector<int64_t>& perm, size_t rank) {
  std::vector<size_t> out;
  if (perm.empty()) {
    for (size_t i = rank; i-- > 0;) out.push_back(i);
    return out;
  }
  std::vector<bool> seen(rank, false);
  for (const int64_t axis : perm) {
    if (axis < 0 || axis >= static_cast<int64_t>(rank) || seen[static_cast<size_t>(axis)] ||
        perm.size() != rank) {
      throw GraphError("perm [", joined(perm, ","), "] is no permutation of ", rank, " axes");
    }
    seen[static_cast<size_t>(axis)] = true;
    out.push_back(static_cast<size_t>(axis));
  }
  return out;
}

Moved transposed(const Shape& shape, const std::vector<int64_t>& perm) {
  const std::vector<Walk> plain = plain_walks(shape);
  std::vector<Walk> walks;
  for (const size_t axis : checked_perm(perm, shape.size())) walks.push_back(plain[axis]);
  return walk(walks);
}

}  // namespace

void Transpose::infer(Inference& call) const {
  const auto& x = call.at(0).type;
  std::vector<Dim> dims;
  for (const size_t axis : checked_perm(perm, x.dims.size())) dims.push_back(x.dims[axis]);
  set_type(call, 0, x.dtype, std::move(dims));
  set_contents(call, 0,
               take_contents(call, 0, [&](const Shape& from) { return transposed(from, perm); }));
}

void Transpose::reference(Evaluation& call) const {
  call.out[0] = take(call.at(0), transposed(call.at(0).shape, perm));
}
PLANCK_OP(Transpose, 21)

}  // namespace planck::ops
