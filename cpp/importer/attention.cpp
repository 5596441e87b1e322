// Attention and RotaryEmbedding of ONNX. Where nothing but the result is read, Attention is ours:
// rows of scores that are masked altogether give zeros in both.
#include <cmath>
#include <limits>

#include "importer/recipes.h"

namespace planck::importer {
namespace {

struct Problem {
  ValueId q, k, v;          // [B,L,H*D] or [B,H,L,D]; k and v always [B,H,T,D] with a cache
  int64_t heads, kv_heads;  // of q, of k and v
  bool merged;              // the operands have rank 3, and so has the result
  ValueId past = kAbsent;   // extent of the cache in front of k
  ValueId valid = kAbsent;  // [B]: how many keys are none of padding
};

int64_t known_extent(const Draft& draft, const Emitter& e, ValueId v, size_t axis) {
  const TensorType& type = e.fact(v).type;
  if (const auto n = type.dims[axis].known()) return *n;
  throw UnsupportedError(draft.op, " of ", type, ": extent ", axis, " must be a number");
}

int64_t head_count(Draft& draft, const Emitter& e, const char* name, ValueId v, bool merged) {
  const auto given = taken<int64_t>(draft, name);
  if (!merged) return known_extent(draft, e, v, 1);
  if (!given || *given < 1 || known_extent(draft, e, v, 2) % *given != 0) {
    throw GraphError(draft.op, " of rank 3 needs ", name, " that divides ", e.fact(v).type);
  }
  return *given;
}

ValueId apart(const Draft& draft, Emitter& e, ValueId v, int64_t heads, bool merged) {
  if (!merged) return v;
  return split_heads(e, v, heads, known_extent(draft, e, v, 2), {0, 2, 1, 3});
}

// Every head of k or v as often as there are heads of q for it.
ValueId repeated(const Draft& draft, Emitter& e, ValueId v, const Problem& p) {
  const int64_t times = p.heads / p.kv_heads;
  if (times == 1) return v;
  const int64_t width = known_extent(draft, e, v, 3);
  const ValueId wide = e.node("Expand", {unsqueezed(e, v, {2}), e.ints({1, 1, times, 1, 1})});
  return e.node("Reshape", {wide, e.ints({0, p.heads, -1, width})});
}

Problem problem_of(Draft& draft, Emitter& e) {
  Problem p{needed_input(draft, 0), needed_input(draft, 1), needed_input(draft, 2), 1, 1, false};
  const int64_t rank = e.fact(p.q).type.rank();
  if (rank != 3 && rank != 4) throw GraphError("Attention of ", e.fact(p.q).type);
  for (size_t i : {1, 2}) need_rank(draft, e, i, rank);
  p.merged = rank == 3;
  p.heads = head_count(draft, e, "q_num_heads", p.q, p.merged);
  p.kv_heads = head_count(draft, e, "kv_num_heads", p.k, p.merged);
  if (p.kv_heads < 1 || p.heads % p.kv_heads != 0) {
    throw GraphError("Attention of ", p.heads, " heads over ", p.kv_heads);
  }
  if (draft.has(4) != draft.has(5)) throw GraphError("Attention has one of two pasts");
  p.valid = draft.input(6);
  return p;
}

// Keys or values as [B,H,T,D] with their cache in front.
ValueId present(const Draft& draft, Emitter& e, ValueId v, size_t past, const Problem& p) {
  const ValueId own = apart(draft, e, v, p.kv_heads, p.merged);
  return draft.has(past) ? e.node("Concat", {draft.inputs[past], own}, {{"axis", 2}}) : own;
}

// How far ahead of its own place in q a key may lie, [L,1] or [B,1,L,1], for the causal mask and
// windows: the absolute place of the query.
ValueId query_place(Emitter& e, const Problem& p, ValueId q, const Draft& draft, DType dtype) {
  const ValueId length = length_of(e, q, p.merged ? 1 : 2);
  const ValueId place = unsqueezed(e, cast(e, counted(e, length), dtype), {1});
  if (draft.has(4)) {
    return binary(e, "Add", place, cast(e, length_of(e, draft.inputs[4], 2), dtype));
  }
  if (p.valid == kAbsent) return place;
  const ValueId ahead = binary(e, "Sub", cast(e, p.valid, dtype), cast(e, length, dtype));
  return binary(e, "Add", place, unsqueezed(e, ahead, {1, 2, 3}));
}

// 1 where a <= b, else 0, of whole numbers held as floats.
ValueId at_most(Emitter& e, ValueId a, ValueId b) {
  const ValueId gap = binary(e, "Sub", b, a);
  return is_positive(e, binary(e, "Add", gap, number(e, 1, gap)));
}

ValueId both(Emitter& e, ValueId a, ValueId b) {
  return a == kAbsent ? b : b == kAbsent ? a : binary(e, "Mul", a, b);
}

struct Window {
  bool causal;
  int64_t left, right;  // -1: no bound
};

Window window_of(Draft& draft) {
  Window w{taken_flag(draft, "is_causal"), taken<int64_t>(draft, "left_window_size").value_or(-1),
           taken<int64_t>(draft, "right_window_size").value_or(-1)};
  if (w.left < -1 || w.right < -1) throw GraphError("Attention with a window below -1");
  return w;
}

// 1 for scores that count, 0 for others; kAbsent if all count.
ValueId allowed(const Draft& draft, Emitter& e, const Problem& p, const Window& w, ValueId keys) {
  constexpr auto kPlaces = DType::f32;
  ValueId out = kAbsent;
  if (!w.causal && w.left < 0 && w.right < 0 && p.valid == kAbsent) return out;
  const ValueId key = cast(e, counted(e, length_of(e, keys, 2)), kPlaces);
  if (w.causal || w.left >= 0 || w.right >= 0) {
    const ValueId query = query_place(e, p, p.q, draft, kPlaces);
    const auto moved = [&](int64_t by) {
      return binary(e, "Add", query, e.number(static_cast<double>(by), kPlaces));
    };
    if (w.causal) out = at_most(e, key, query);
    if (w.left >= 0) out = both(e, out, at_most(e, moved(-w.left), key));
    if (w.right >= 0) out = both(e, out, at_most(e, key, moved(w.right)));
  }
  if (p.valid == kAbsent) return out;
  const ValueId count = unsqueezed(e, cast(e, p.valid, kPlaces), {1, 2, 3});
  return both(e, out, is_positive(e, binary(e, "Sub", count, key)));
}

// A mask for fewer keys than there are lets none of the others count.
ValueId as_long_as(Emitter& e, ValueId mask, ValueId keys) {
  const Dim have = e.fact(mask).type.dims.back(), want = e.fact(keys).type.dims[2];
  if (!have.known() || !want.known() || *have.known() >= *want.known()) return mask;
  Ints pads(2 * static_cast<size_t>(e.fact(mask).type.rank()), 0);
  pads.back() = *want.known() - *have.known();
  const ValueId none = e.number(-std::numeric_limits<double>::infinity(), dtype_of(e, mask));
  return e.node("Pad", {mask, e.ints(pads), none}, {{"mode", "constant"}});
}

// What is added to the scores, in the type of q; kAbsent for nothing. Flags of 0 and 1 become
// -inf and 0 by their logarithm.
ValueId score_mask(const Draft& draft, Emitter& e, const Problem& p, const Window& w,
                   ValueId keys) {
  const DType dtype = dtype_of(e, p.q);
  const ValueId flags = allowed(draft, e, p, w, keys);
  ValueId out = flags == kAbsent ? kAbsent : cast(e, e.node("Log", {flags}), dtype);
  if (!draft.has(3)) return out;
  ValueId mask = draft.inputs[3];
  if (dtype_of(e, mask) == DType::b8) mask = e.node("Log", {cast(e, mask, dtype)});
  mask = as_long_as(e, mask, keys);
  return out == kAbsent ? mask : binary(e, "Add", mask, out);
}

// The formula spelled out, for a soft cap or when scores are an output.
struct Spelled {
  ValueId y, scores;
};
Spelled spelled(const Draft& draft, Emitter& e, const Problem& p, ValueId mask, double scale,
                double cap, int64_t mode) {
  const ValueId q = apart(draft, e, p.q, p.heads, p.merged);
  const ValueId keys = e.node("Transpose", {p.k}, {{"perm", {0, 1, 3, 2}}});
  ValueId scores = binary(e, "Mul", binary(e, "MatMul", q, keys), number(e, scale, q));
  Spelled out{kAbsent, scores};
  if (cap != 0) {
    const ValueId limit = number(e, cap, q);
    scores = binary(e, "Mul", e.node("Tanh", {binary(e, "Div", scores, limit)}), limit);
  }
  if (mode == 1) out.scores = scores;
  if (mask != kAbsent) scores = binary(e, "Add", scores, mask);
  if (mode == 2) out.scores = scores;
  ValueId weights = e.node("Softmax", {scores}, {{"axis", -1}});
  if (mask != kAbsent) {  // a row without a finite score is NaN so far
    weights = e.node("Where", {e.node("IsNaN", {weights}), number(e, 0, weights), weights});
  }
  if (mode == 3) out.scores = weights;
  out.y = binary(e, "MatMul", weights, p.v);
  if (!p.merged) return out;
  const int64_t width = p.heads * known_extent(draft, e, p.v, 3);
  const ValueId rows = e.node("Transpose", {out.y}, {{"perm", {0, 2, 1, 3}}});
  out.y = e.node("Reshape", {rows, e.ints({0, 0, width})});
  return out;
}

}  // namespace

Values expand_onnx_attention(Draft& draft, Emitter& e) {
  Problem p = problem_of(draft, e);
  const Window window = window_of(draft);
  const double cap = taken<double>(draft, "softcap").value_or(0);
  const int64_t mode = taken<int64_t>(draft, "qk_matmul_output_mode").value_or(0);
  if (mode < 0 || mode > 3) throw GraphError("Attention with qk_matmul_output_mode ", mode);
  taken<int64_t>(draft, "softmax_precision");  // computed in f32 or wider in any case
  const int64_t width = known_extent(draft, e, p.q, p.merged ? 2 : 3);
  const double head = static_cast<double>(p.merged ? width / p.heads : width);
  const double scale = taken<double>(draft, "scale").value_or(1 / std::sqrt(head));
  const ValueId keys = present(draft, e, p.k, 4, p), values = present(draft, e, p.v, 5, p);
  const ValueId mask = score_mask(draft, e, p, window, keys);
  p.k = repeated(draft, e, keys, p);
  p.v = repeated(draft, e, values, p);
  if (cap != 0 || draft.outputs > 3) {
    const Spelled all = spelled(draft, e, p, mask, scale, cap, mode);
    return {all.y, keys, values, all.scores};
  }
  Values inputs{p.q, p.k, p.v};
  if (mask != kAbsent) inputs.push_back(mask);
  const ValueId y = e.node("planck.Attention", inputs,
                           {{"heads", p.heads},
                            {"scale", scale},
                            {"merged", p.merged ? 1 : 0},
                            {"masked_rows_zero", mask != kAbsent ? 1 : 0}});
  return {y, keys, values};
}

namespace {

// Angles [B,L,D/2] or, looked up, [L',D/2] as [B,L,1,D/2].
ValueId angles(const Draft& draft, Emitter& e, size_t i) {
  ValueId table = needed_input(draft, i);
  if (draft.has(3)) table = e.node("Gather", {table, draft.inputs[3]}, {{"axis", 0}});
  return unsqueezed(e, table, {2});
}

// The two halves of a head's columns, or every other column, as [B,L,H,D/2].
Values halves(Emitter& e, ValueId x, int64_t half, bool interleaved) {
  if (!interleaved) return e.nodes("Split", {x, e.ints({half, half})}, 2, {{"axis", -1}});
  const ValueId pairs = e.node("Reshape", {x, e.ints({0, 0, 0, half, 2})});
  Values out = e.nodes("Split", {pairs, e.ints({1, 1})}, 2, {{"axis", -1}});
  for (ValueId& v : out) v = e.node("Squeeze", {v, e.ints({-1})});
  return out;
}

ValueId joined_halves(Emitter& e, const Values& parts, int64_t half, bool interleaved) {
  if (!interleaved) return e.node("Concat", parts, {{"axis", -1}});
  Values pairs;
  for (const ValueId v : parts) pairs.push_back(unsqueezed(e, v, {-1}));
  return e.node("Reshape", {e.node("Concat", pairs, {{"axis", -1}}), e.ints({0, 0, 0, 2 * half})});
}

ValueId rotated(const Draft& draft, Emitter& e, ValueId x, int64_t half, bool interleaved) {
  const ValueId cosine = angles(draft, e, 1), sine = angles(draft, e, 2);
  const Values x01 = halves(e, x, half, interleaved);
  const auto product = [&](ValueId a, ValueId b) { return binary(e, "Mul", a, b); };
  const ValueId real = binary(e, "Sub", product(cosine, x01[0]), product(sine, x01[1]));
  const ValueId imaginary = binary(e, "Add", product(sine, x01[0]), product(cosine, x01[1]));
  return joined_halves(e, {real, imaginary}, half, interleaved);
}

}  // namespace

Values expand_rotary_embedding(Draft& draft, Emitter& e) {
  const ValueId given = needed_input(draft, 0);
  const int64_t rank = e.fact(given).type.rank();
  if (rank != 3 && rank != 4) throw GraphError("RotaryEmbedding of ", e.fact(given).type);
  const bool merged = rank == 3, interleaved = taken_flag(draft, "interleaved");
  const int64_t heads = head_count(draft, e, "num_heads", given, merged);
  const int64_t width = known_extent(draft, e, given, merged ? 2 : 3) / (merged ? heads : 1);
  const int64_t asked = taken<int64_t>(draft, "rotary_embedding_dim").value_or(0);
  const int64_t turned = asked == 0 ? width : asked;
  if (turned < 2 || turned > width || turned % 2 != 0) {
    throw GraphError("RotaryEmbedding of ", turned, " columns out of ", width);
  }
  const ValueId x = merged ? e.node("Reshape", {given, e.ints({0, 0, heads, width})})
                           : e.node("Transpose", {given}, {{"perm", {0, 2, 1, 3}}});
  Values parts{x};
  if (turned < width) {
    parts = e.nodes("Split", {x, e.ints({turned, width - turned})}, 2, {{"axis", -1}});
  }
  parts[0] = rotated(draft, e, parts[0], turned / 2, interleaved);
  const ValueId y = parts.size() == 1 ? parts[0] : e.node("Concat", parts, {{"axis", -1}});
  return {merged ? e.node("Reshape", {y, e.ints({0, 0, heads * width})})
                 : e.node("Transpose", {y}, {{"perm", {0, 2, 1, 3}}})};
}

}  // namespace planck::importer
