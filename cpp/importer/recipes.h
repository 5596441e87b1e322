#pragma once
// What several expansions emit or check.
#include <initializer_list>

#include "importer/expansions.h"
#include "importer/take.h"

namespace planck::importer {

using Values = std::vector<ValueId>;

// --- checks ---------------------------------------------------------------------------------
struct Feature {
  size_t input;
  const char* name;
};
// UnsupportedError where the draft has one of these inputs, or one of these attributes is not 0.
void refuse_inputs(const Draft& draft, std::initializer_list<Feature> features);
void refuse_flags(Draft& draft, std::initializer_list<const char*> names);
// GraphError where the input is missing, or has another rank.
ValueId needed_input(const Draft& draft, size_t i);
void need_rank(const Draft& draft, const Emitter& e, size_t i, int64_t rank);

// --- small pieces ---------------------------------------------------------------------------
inline DType dtype_of(const Emitter& e, ValueId v) { return e.fact(v).type.dtype; }
ValueId number(Emitter& e, double value, ValueId like);  // of rank 0, in the type of `like`
ValueId cast(Emitter& e, ValueId v, DType to);           // itself if it has the type
ValueId unsqueezed(Emitter& e, ValueId v, const Ints& axes);
ValueId length_of(Emitter& e, ValueId x, int64_t axis);  // an extent as s64 of rank 0
// 0, 1, .. before the extent `length`, s64 of rank 1.
ValueId counted(Emitter& e, ValueId length);
ValueId binary(Emitter& e, std::string_view op, ValueId a, ValueId b);
// Whole numbers held as floats: 1 where positive, else 0.
ValueId is_positive(Emitter& e, ValueId v);
// The most negative number that is finite in the type.
double lowest(DType dtype);

// --- larger ones ----------------------------------------------------------------------------
// x * sigmoid(alpha x).
ValueId swish(Emitter& e, ValueId x, double alpha);
// (x - mean) / sqrt(variance + epsilon) over the axes.
ValueId normalized(Emitter& e, ValueId x, const Ints& axes, double epsilon);
// x / sqrt(mean of squares + epsilon) * gain; in f32 at least, whatever x is.
ValueId rms_norm(Emitter& e, ValueId x, ValueId gain, const Ints& axes, double epsilon);
// [B,L,H*D] as [B,H,L,D] (perm 0,2,1,3) or [B,H,D,L] (perm 0,2,3,1).
ValueId split_heads(Emitter& e, ValueId v, int64_t heads, int64_t width, const Ints& perm);
// Rows of expansions.inc that others end in.
Values expand_onnx_attention(Draft& draft, Emitter& e);
Values expand_rotary_embedding(Draft& draft, Emitter& e);

}  // namespace planck::importer
