#include "ops/fill.h"

#include <algorithm>

#include "ops/elementwise.h"
#include "ops/needs_values.h"

namespace planck::ops {

namespace {

Wide filled(Shape shape, double value, DType dtype) {
  Wide out = make_wide(dtype, std::move(shape));
  out.real.assign(out.real.size(), value);
  out.integer.assign(out.integer.size(), to_integer(value));
  return out;
}

// Small integer fills are contents: shapes are often built from vectors of ones.
void set_filled(Inference& call, std::vector<Dim> dims, double value, DType dtype) {
  set_type(call, 0, dtype, std::move(dims));
  const auto shape = known_shape(call.out[0].type.dims);
  if (is_float(dtype) || !shape) return;
  set_contents(call, 0, contents_if([&]() -> Contents {
                 int64_t count = 1;
                 for (const int64_t d : *shape) {
                   count = std::min(count * std::min(d, kMostContents + 1), kMostContents + 1);
                 }
                 if (count > kMostContents) return std::nullopt;
                 return std::vector<Dim>(static_cast<size_t>(count), Dim(to_integer(value)));
               }));
}

}  // namespace

void ConstantOfShape::infer(Inference& call) const {
  need_integer(kName, call, 0);
  need_rank(kName, call, 0, 1, 1);
  const DType type = dtype_attribute(kName, "dtype", dtype);
  if (Contents dims = contents_of(call, 0)) return set_filled(call, std::move(*dims), value, type);
  const auto rank = call.at(0).type.dims[0].known();
  if (!rank || *rank > kAnyRank) {
    throw with(
        UnsupportedError("ConstantOfShape: the rank of the result must be known before the run"),
        {.hint = kNeedsValues});
  }
  set_type(call, 0, type, fresh_dims(call, 0, static_cast<size_t>(*rank)));
}

void ConstantOfShape::reference(Evaluation& call) const {
  call.out[0] = filled(integers(call, 0), value, dtype_attribute(kName, "dtype", dtype));
}
PLANCK_OP(ConstantOfShape, 21)

void Fill::infer(Inference& call) const {
  set_filled(call, shape, value, dtype_attribute(kName, "dtype", dtype));
}

void Fill::reference(Evaluation& call) const {
  call.out[0] = filled(evaluated(shape, call), value, dtype_attribute(kName, "dtype", dtype));
}
PLANCK_OWN_OP(Fill)

}  // namespace planck::ops
