#include "importer/recipes.h"

#include <limits>

namespace planck::importer {
namespace {

[[noreturn]] void refuse(const Draft& draft, const char* name) {
  throw with(UnsupportedError(draft.op, " with ", name, " is not supported"),
             {.items = {cat(draft.op, " with ", name)}});
}

}  // namespace

void refuse_inputs(const Draft& draft, std::initializer_list<Feature> features) {
  for (const Feature& f : features) {
    if (draft.has(f.input)) refuse(draft, f.name);
  }
}

void refuse_flags(Draft& draft, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (taken_flag(draft, name)) refuse(draft, name);
  }
}

ValueId needed_input(const Draft& draft, size_t i) {
  if (!draft.has(i)) throw GraphError("input ", i, " of ", draft.op, " is missing");
  return draft.inputs[i];
}

void need_rank(const Draft& draft, const Emitter& e, size_t i, int64_t rank) {
  const TensorType& type = e.fact(needed_input(draft, i)).type;
  if (type.rank() == rank) return;
  throw GraphError("input ", i, " of ", draft.op, " is ", type, ", expected rank ", rank);
}

ValueId number(Emitter& e, double value, ValueId like) {
  return e.number(value, dtype_of(e, like));
}

ValueId cast(Emitter& e, ValueId v, DType to) {
  return dtype_of(e, v) == to ? v : e.node("Cast", {v}, {{"to", info(to).onnx}});
}

ValueId unsqueezed(Emitter& e, ValueId v, const Ints& axes) {
  return e.node("Unsqueeze", {v, e.ints(axes)});
}

ValueId length_of(Emitter& e, ValueId x, int64_t axis) {
  return e.node("Gather", {e.node("Shape", {x}), e.number(static_cast<double>(axis), DType::s64)},
                {{"axis", 0}});
}

ValueId counted(Emitter& e, ValueId length) {
  return e.node("Range", {e.number(0, DType::s64), length, e.number(1, DType::s64)});
}

ValueId binary(Emitter& e, std::string_view op, ValueId a, ValueId b) { return e.node(op, {a, b}); }

ValueId is_positive(Emitter& e, ValueId v) {
  return e.node("Clip", {v, number(e, 0, v), number(e, 1, v)});
}

double lowest(DType dtype) {
  if (dtype == DType::f16) return -65504;
  if (dtype == DType::bf16) return -0x1.fep127;
  return static_cast<double>(std::numeric_limits<float>::lowest());
}

ValueId swish(Emitter& e, ValueId x, double alpha) {
  const ValueId scaled = alpha == 1 ? x : binary(e, "Mul", x, number(e, alpha, x));
  return binary(e, "Mul", x, e.node("Sigmoid", {scaled}));
}

namespace {

ValueId mean(Emitter& e, ValueId x, const Ints& axes) {
  return e.node("ReduceMean", {x, e.ints(axes)}, {{"keepdims", 1}});
}

ValueId root_of(Emitter& e, ValueId square, double epsilon) {
  return e.node("Sqrt", {binary(e, "Add", square, number(e, epsilon, square))});
}

}  // namespace

ValueId normalized(Emitter& e, ValueId x, const Ints& axes, double epsilon) {
  const ValueId centred = binary(e, "Sub", x, mean(e, x, axes));
  const ValueId variance = mean(e, binary(e, "Mul", centred, centred), axes);
  return binary(e, "Div", centred, root_of(e, variance, epsilon));
}

ValueId rms_norm(Emitter& e, ValueId x, ValueId gain, const Ints& axes, double epsilon) {
  const DType narrow = dtype_of(e, x);
  const bool half = narrow == DType::f16 || narrow == DType::bf16;
  const ValueId wide = half ? cast(e, x, DType::f32) : x;
  const ValueId square = mean(e, binary(e, "Mul", wide, wide), axes);
  const ValueId y = binary(e, "Div", wide, root_of(e, square, epsilon));
  return binary(e, "Mul", cast(e, y, narrow), gain);
}

ValueId split_heads(Emitter& e, ValueId v, int64_t heads, int64_t width, const Ints& perm) {
  const ValueId split = e.node("Reshape", {v, e.ints({0, 0, heads, width / heads})});
  return e.node("Transpose", {split}, {{"perm", perm}});
}

}  // namespace planck::importer
