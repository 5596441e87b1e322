// Ops that the optimizers of ONNX Runtime write, spelled in those of ONNX. Their meaning:
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
#include <algorithm>
#include <cmath>
#include <utility>

#include "importer/expansions.h"
#include "importer/recipes.h"

namespace planck::importer {
namespace {

Values norm_inputs(ValueId x, ValueId gain, ValueId bias) {
  return bias == kAbsent ? Values{x, gain} : Values{x, gain, bias};
}

// A bias belongs to the product that it follows, wherever that stands.
ValueId skip_sum(Emitter& e, ValueId x, ValueId skip, ValueId bias) {
  if (bias != kAbsent) {
    ValueId& biased = e.made_by(skip, "MatMul") && !e.made_by(x, "MatMul") ? skip : x;
    biased = e.node("Add", {biased, bias});
  }
  return e.node("Add", {x, skip});
}

double skip_epsilon(Draft& draft) { return taken<double>(draft, "epsilon").value_or(1e-12); }

// --- attention ------------------------------------------------------------------------------

// Widths of all heads' queries, keys and values together.
struct Widths {
  int64_t heads = 1;
  Ints parts;
};

Widths attention_widths(Draft& draft, const Emitter& e) {
  Widths out{needed<int64_t>(draft, "num_heads"), {}};
  const auto columns = e.fact(draft.inputs[1]).type.dims[1].known();
  if (!columns) throw UnsupportedError("Attention with weights of unknown width");
  const auto given = taken<Ints>(draft, "qkv_hidden_sizes");
  out.parts = given && !given->empty() ? *given : Ints(3, *columns / 3);
  const auto fits = [&](int64_t w) { return w > 0 && w <= *columns && w % out.heads == 0; };
  const bool good = out.heads > 0 && out.parts.size() == 3 && std::ranges::all_of(out.parts, fits);
  if (!good || out.parts[0] != out.parts[1] ||
      out.parts[2] != *columns - out.parts[0] - out.parts[1]) {
    throw GraphError("Attention cannot split ", *columns, " columns into queries, keys and values ",
                     shape_text(out.parts), " of ", out.heads, " heads");
  }
  return out;
}

// [B] ends or [2B] ends and starts to [B,L]: 1 for start <= position < end.
ValueId valid_range(Emitter& e, ValueId lengths, ValueId x, DType dtype) {
  const ValueId zero = e.number(0, DType::s64), one = e.number(1, DType::s64);
  const ValueId place = cast(e, e.node("Range", {zero, length_of(e, x, 1), one}), dtype);
  const ValueId given = cast(e, lengths, dtype);
  const TensorType &type = e.fact(lengths).type, &rows = e.fact(x).type;
  const bool both = type.dims[0] == rows.dims[0] * Dim(2);
  const Values parts =
      both ? e.nodes("Split", {given}, 2, {{"axis", 0}, {"num_outputs", 2}}) : Values{given};
  const auto minus = [&](ValueId a, ValueId b) { return e.node("Sub", {a, b}); };
  const ValueId before_end = is_positive(e, minus(unsqueezed(e, parts[0], {1}), place));
  if (!both) return before_end;
  const ValueId before_start = is_positive(e, minus(unsqueezed(e, parts[1], {1}), place));
  return minus(before_end, e.node("Min", {before_end, before_start}));
}

// What is added to the scores [B,H,L,T] for the second argument of an Attention, by its rank.
ValueId key_mask(Emitter& e, ValueId index, ValueId x, ValueId filter) {
  const DType dtype = dtype_of(e, x);
  const TensorType& type = e.fact(index).type;
  if (!is_integer(type.dtype)) throw GraphError("mask_index is ", type, ", expected integers");
  ValueId valid;
  if (type.rank() == 1) {
    valid = unsqueezed(e, valid_range(e, index, x, dtype), {1, 2});
  } else if (type.rank() == 2) {
    valid = unsqueezed(e, is_positive(e, cast(e, index, dtype)), {1, 2});
  } else if (type.rank() == 3) {
    valid = unsqueezed(e, is_positive(e, cast(e, index, dtype)), {1});
  } else {
    throw with(UnsupportedError("Attention with mask_index ", type, " is not supported"),
               {.items = {cat("Attention with a mask_index of rank ", type.rank())}});
  }
  return e.node("Mul", {e.node("Sub", {number(e, 1, x), valid}), filter});
}

// [L,L]: `filter` above the diagonal, else 0.
ValueId causal_mask(Emitter& e, ValueId x, ValueId filter) {
  const ValueId length = unsqueezed(e, length_of(e, x, 1), {0});
  const ValueId square = e.node("Concat", {length, length}, {{"axis", 0}});
  const ValueId full = e.node("Expand", {filter, square});
  return e.node("Trilu", {full, e.number(1, DType::s64)}, {{"upper", 1}});
}

// Everything that is added to the scores; kAbsent for nothing.
ValueId score_mask(Draft& draft, Emitter& e) {
  const ValueId x = draft.inputs[0];
  const double given = taken<double>(draft, "mask_filter_value").value_or(-10000);
  const ValueId filter = number(e, std::max(given, lowest(dtype_of(e, x))), x);
  ValueId mask = draft.has(3) ? key_mask(e, draft.inputs[3], x, filter) : kAbsent;
  if (taken_flag(draft, "unidirectional")) {
    const ValueId causal = causal_mask(e, x, number(e, lowest(dtype_of(e, x)), x));
    mask = mask == kAbsent ? causal : e.node("Min", {mask, causal});
  }
  if (!draft.has(5)) return mask;
  return mask == kAbsent ? draft.inputs[5] : e.node("Add", {mask, draft.inputs[5]});
}

// [B,H,S,D] as [B,S,H*D]; others as they are.
ValueId merged_heads(Draft& draft, Emitter& e, ValueId v) {
  if (e.fact(v).type.rank() != 4) return v;
  const Dim heads = e.fact(v).type.dims[1], width = e.fact(v).type.dims[3];
  if (!heads.known() || !width.known()) {
    throw UnsupportedError(draft.op, " with keys or values ", e.fact(v).type);
  }
  const ValueId rows = e.node("Transpose", {v}, {{"perm", {0, 2, 1, 3}}});
  return e.node("Reshape", {rows, e.ints({0, 0, *heads.known() * *width.known()})});
}

// Queries, keys and values of a MultiHeadAttention with their parts of the bias. Keys and values
// that come with their heads apart are from a cache, and have theirs.
Values biased_operands(Draft& draft, Emitter& e) {
  Values out;
  Ints widths;
  for (size_t i = 0; i < 3; ++i) {
    out.push_back(merged_heads(draft, e, needed_input(draft, i)));
    const auto width = e.fact(out[i]).type.dims.back().known();
    if (!width) throw UnsupportedError(draft.op, " of ", e.fact(out[i]).type);
    widths.push_back(*width);
  }
  if (!draft.has(3)) return out;
  const Values parts = e.nodes("Split", {draft.inputs[3], e.ints(widths)}, 3, {{"axis", 0}});
  for (size_t i = 0; i < 3; ++i) {
    if (e.fact(draft.inputs[i]).type.rank() == 3) out[i] = e.node("Add", {out[i], parts[i]});
  }
  return out;
}

// What a MultiHeadAttention adds to its scores; kAbsent for nothing.
ValueId padding_mask(Draft& draft, Emitter& e, const Values& operands) {
  const double given = taken<double>(draft, "mask_filter_value").value_or(-10000);
  if (!draft.has(4)) return draft.input(5);
  if (draft.has(6) && e.fact(draft.inputs[4]).type.rank() == 1) {
    throw with(UnsupportedError(draft.op, " with lengths of keys and a past is not supported"),
               {.items = {cat(draft.op, " with lengths of keys and a past")}});
  }
  const ValueId q = operands[0];
  const ValueId filter = number(e, std::max(given, lowest(dtype_of(e, q))), q);
  const ValueId mask = key_mask(e, draft.inputs[4], operands[1], filter);
  return draft.has(5) ? e.node("Add", {mask, draft.inputs[5]}) : mask;
}

// --- look-ups -------------------------------------------------------------------------------

// 0, 1, .. as long as the ids are: out of a list as long as the table, as exporters do it.
ValueId counted_positions(Emitter& e, ValueId ids, ValueId table) {
  const auto rows = e.fact(table).type.dims[0].known();
  constexpr int64_t kMostRows = int64_t{1} << 20;
  if (!rows || *rows > kMostRows) {
    throw UnsupportedError("EmbedLayerNormalization with a table of ", e.fact(table).type,
                           " positions and no position ids");
  }
  Ints places(static_cast<size_t>(*rows));
  for (size_t i = 0; i < places.size(); ++i) places[i] = static_cast<int64_t>(i);
  const ValueId end = unsqueezed(e, length_of(e, ids, 1), {0});
  return e.node("Slice", {unsqueezed(e, e.ints(places), {0}), e.ints({0}), end, e.ints({1})});
}

ValueId lookup(Emitter& e, ValueId table, ValueId ids) {
  return e.node("Gather", {table, ids}, {{"axis", 0}});
}

// How many ones each row of the mask has, as int32; zeros without a mask.
ValueId count_ones(Emitter& e, ValueId mask, ValueId ids) {
  constexpr auto kCount = DType::f32;  // exact below 2^24
  const ValueId numbers = cast(e, mask == kAbsent ? ids : mask, kCount);
  const ValueId one = e.number(1, kCount), zero = e.number(0, kCount);
  const ValueId off = e.node("Min", {e.node("Abs", {e.node("Sub", {numbers, one})}), one});
  const ValueId is_one = mask == kAbsent ? e.node("Mul", {off, zero}) : e.node("Sub", {one, off});
  const ValueId sum = e.node("ReduceSum", {is_one, e.ints({1})}, {{"keepdims", 0}});
  return cast(e, sum, DType::s32);
}

// --- products -------------------------------------------------------------------------------

// The last two axes swapped if `swap`; before that, the first axis moved behind the batch if
// `roll`.
ValueId arranged(Emitter& e, ValueId v, bool swap, bool roll) {
  const int64_t rank = e.fact(v).type.rank();
  if (rank < 2 || (!swap && !roll)) return v;
  Ints perm(static_cast<size_t>(rank));
  for (size_t i = 0; i < perm.size(); ++i) perm[i] = static_cast<int64_t>(i);
  if (roll) std::rotate(perm.begin(), perm.begin() + 1, perm.end() - 1);
  if (swap) std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
  return e.node("Transpose", {v}, {{"perm", perm}});
}

// --- activations behind them ----------------------------------------------------------------

using Reals = std::vector<double>;

// An activation and what its parameters are called, in the order of activation_params.
struct Activation {
  std::string_view op;
  size_t count;
  const char* params[2];
};

constexpr Activation kActivations[] = {
    {"Clip", 2, {"min", "max"}}, {"Elu", 1, {"alpha"}}, {"HardSigmoid", 2, {"alpha", "beta"}},
    {"LeakyRelu", 1, {"alpha"}}, {"Relu", 0, {}},       {"Sigmoid", 0, {}},
    {"Softplus", 0, {}},         {"Tanh", 0, {}},
};

const Activation* activation(std::string_view name) {
  const auto* it = std::ranges::find(kActivations, name, &Activation::op);
  return it == std::end(kActivations) ? nullptr : it;
}

size_t parameters_of(std::string_view name) {
  const Activation* row = activation(name);
  return row == nullptr ? 0 : row->count;
}

Reals taken_reals(Draft& draft, const char* name) {
  Reals out;
  if (!draft.attrs.contains(name)) return out;
  const Json list = std::exchange(draft.attrs[name], Json());
  draft.attrs.erase(name);
  if (!list.is_array()) throw GraphError("the attribute ", name, " of ", draft.op, " is no list");
  for (const Json& item : list) read(item, out.emplace_back());
  return out;
}

ValueId activated(const Draft& draft, Emitter& e, ValueId y, const std::string& name,
                  const Reals& params) {
  if (name.empty()) return y;
  const Activation* row = activation(name);
  if (row == nullptr) {
    throw with(UnsupportedError(draft.op, " with the activation ", name, " is not supported"),
               {.items = {cat(draft.op, " with ", name)}});
  }
  if (params.size() > row->count || (name == "Clip" && params.size() != 2)) {
    throw GraphError(draft.op, " with ", params.size(), " parameters of ", name);
  }
  if (name == "Clip") return e.node(name, {y, number(e, params[0], y), number(e, params[1], y)});
  Json attrs = Json::object();
  for (size_t i = 0; i < params.size(); ++i) attrs[row->params[i]] = params[i];
  return e.node(name, {y}, attrs);
}

}  // namespace

Values expand_attention(Draft& draft, Emitter& e) {
  refuse_inputs(draft, {{4, "past"}, {6, "past_sequence_length"}});
  refuse_flags(draft, {"do_rotary", "past_present_share_buffer", "rotary_embedding_dim"});
  for (size_t i : {0, 1}) need_rank(draft, e, i, i == 0 ? 3 : 2);
  const Widths widths = attention_widths(draft, e);
  const int64_t size = widths.parts[0] / widths.heads;  // of a head, exactly
  const auto head = static_cast<double>(size);
  const double given = taken<double>(draft, "scale").value_or(0);
  ValueId all = e.node("MatMul", {draft.inputs[0], draft.inputs[1]});
  if (draft.has(2)) all = e.node("Add", {all, draft.inputs[2]});
  const Values parts = e.nodes("Split", {all, e.ints(widths.parts)}, 3, {{"axis", -1}});
  const ValueId q = split_heads(e, parts[0], widths.heads, widths.parts[0], {0, 2, 1, 3});
  const ValueId k = split_heads(e, parts[1], widths.heads, widths.parts[1], {0, 2, 3, 1});
  const ValueId v = split_heads(e, parts[2], widths.heads, widths.parts[2], {0, 2, 1, 3});
  const ValueId scale = number(e, given == 0 ? 1 / std::sqrt(head) : given, q);
  ValueId scores = e.node("Mul", {e.node("MatMul", {q, k}), scale});
  const ValueId mask = score_mask(draft, e);
  if (mask != kAbsent) scores = e.node("Add", {scores, mask});
  const ValueId context = e.node("MatMul", {e.node("Softmax", {scores}, {{"axis", -1}}), v});
  const ValueId rows = e.node("Transpose", {context}, {{"perm", {0, 2, 1, 3}}});
  return {e.node("Reshape", {rows, e.ints({0, 0, widths.parts[2]})})};
}

// MultiHeadAttention is Attention of ONNX once biases are added and masks are numbers.
Values expand_multi_head_attention(Draft& draft, Emitter& e) {
  refuse_inputs(draft, {{8, "past_sequence_length"}, {9, "cache_indirection"}});
  if (!draft.has(1) || !draft.has(2)) refuse_inputs(draft, {{0, "packed keys and values"}});
  need_rank(draft, e, 0, 3);
  const int64_t heads = needed<int64_t>(draft, "num_heads");
  const auto scale = taken<double>(draft, "scale");
  draft.attrs["is_causal"] = taken_flag(draft, "unidirectional") ? 1 : 0;
  if (scale && *scale != 0) draft.attrs["scale"] = *scale;
  draft.attrs["q_num_heads"] = draft.attrs["kv_num_heads"] = heads;
  const Values operands = biased_operands(draft, e);
  const ValueId mask = padding_mask(draft, e, operands);
  const ValueId pasts[] = {draft.input(6), draft.input(7)};
  draft.inputs = operands;
  draft.inputs.insert(draft.inputs.end(), {mask, pasts[0], pasts[1]});
  draft.outputs = std::min<size_t>(draft.outputs, 3);
  Values out = expand_onnx_attention(draft, e);
  out.push_back(kAbsent);
  return out;
}

// RotaryEmbedding of ONNX with its inputs in another order, and places that may be a first one.
Values expand_microsoft_rotary(Draft& draft, Emitter& e) {
  refuse_flags(draft, {"is_packed_batching"});
  if (taken<double>(draft, "scale").value_or(1) != 1) {
    throw UnsupportedError("RotaryEmbedding with a scale is not supported");
  }
  const ValueId x = needed_input(draft, 0), cosine = needed_input(draft, 2);
  ValueId places = needed_input(draft, 1);
  const TensorType type = e.fact(x).type;
  if (e.fact(places).type.rank() == 1) {
    const ValueId length = length_of(e, x, type.rank() == 4 ? 2 : 1);
    places = unsqueezed(e, e.node("Add", {counted(e, length), places}), {0});
  }
  const int64_t heads = taken<int64_t>(draft, "num_heads").value_or(0);
  if (heads != 0) {
    draft.attrs["num_heads"] = heads;
  } else if (type.rank() == 3) {
    const auto half = e.fact(cosine).type.dims.back().known(), width = type.dims[2].known();
    if (!half || !width || *half < 1) {
      throw UnsupportedError("RotaryEmbedding of ", type, " by ", e.fact(cosine).type);
    }
    draft.attrs["num_heads"] = *width / (2 * *half);
  }
  draft.inputs = {x, cosine, needed_input(draft, 3), places};
  return expand_rotary_embedding(draft, e);
}

Values expand_embed_layer_norm(Draft& draft, Emitter& e) {
  const ValueId ids = needed_input(draft, 0), segments = draft.input(1);
  for (size_t i : {0, 2, 3}) need_rank(draft, e, i, 2);
  if (draft.has(1) != draft.has(4)) {
    throw GraphError("EmbedLayerNormalization needs segment ids and their table together");
  }
  const ValueId table = draft.inputs[3];
  const ValueId places = draft.has(8) ? draft.inputs[8] : counted_positions(e, ids, table);
  ValueId sum = lookup(e, draft.inputs[2], ids);
  if (segments != kAbsent) sum = e.node("Add", {sum, lookup(e, draft.inputs[4], segments)});
  sum = e.node("Add", {sum, lookup(e, table, places)});
  const double epsilon = skip_epsilon(draft);
  taken<int64_t>(draft, "mask_index_type");  // the output is the same for 0 and 1
  const ValueId y =
      e.node("LayerNormalization", norm_inputs(sum, needed_input(draft, 5), needed_input(draft, 6)),
             {{"axis", -1}, {"epsilon", epsilon}});
  if (draft.outputs < 2) return {y};
  return {y, count_ones(e, draft.input(7), ids), sum};
}

// Conv with what the optimizer saw behind it: a sum with input 3, then an activation.
Values expand_fused_conv(Draft& draft, Emitter& e) {
  const auto name = taken<std::string>(draft, "activation").value_or("");
  const Reals params = taken_reals(draft, "activation_params");
  const ValueId skip = draft.input(3);
  Values inputs{needed_input(draft, 0), needed_input(draft, 1)};
  if (draft.has(2)) inputs.push_back(draft.inputs[2]);
  const Json attrs = std::exchange(draft.attrs, Json::object());
  ValueId y = e.node("Conv", inputs, attrs);
  if (skip != kAbsent) y = e.node("Add", {y, skip});
  return {activated(draft, e, y, name, params)};
}

Values expand_fused_gemm(Draft& draft, Emitter& e) {
  const auto name = taken<std::string>(draft, "activation").value_or("");
  Reals params;
  for (const char* param : {"activation_alpha", "activation_beta", "activation_gamma"}) {
    const auto given = taken<double>(draft, param);
    if (given && params.size() < parameters_of(name)) params.push_back(*given);
  }
  const Json attrs = std::exchange(draft.attrs, Json::object());
  return {activated(draft, e, e.node("Gemm", draft.inputs, attrs), name, params)};
}

Values expand_fused_matmul(Draft& draft, Emitter& e) {
  const bool swap_a = taken_flag(draft, "transA"), swap_b = taken_flag(draft, "transB");
  const bool roll_a = taken_flag(draft, "transBatchA"), roll_b = taken_flag(draft, "transBatchB");
  const double alpha = taken<double>(draft, "alpha").value_or(1);
  const ValueId a = arranged(e, needed_input(draft, 0), swap_a, roll_a);
  const ValueId y = e.node("MatMul", {a, arranged(e, needed_input(draft, 1), swap_b, roll_b)});
  return {alpha == 1 ? y : e.node("Mul", {y, number(e, alpha, y)})};
}

Values expand_gelu_erf(Draft& draft, Emitter& e) {
  const ValueId x = needed_input(draft, 0);
  return {e.node("Gelu", {draft.has(1) ? e.node("Add", {x, draft.inputs[1]}) : x})};
}

Values expand_gelu_tanh(Draft& draft, Emitter& e) {
  const ValueId x = needed_input(draft, 0);
  const ValueId sum = draft.has(1) ? e.node("Add", {x, draft.inputs[1]}) : x;
  return {e.node("Gelu", {sum}, {{"approximate", "tanh"}})};
}

Values expand_layer_norm(Draft& draft, Emitter& e) {
  const Json attrs = std::exchange(draft.attrs, Json::object());
  return e.nodes("LayerNormalization", draft.inputs, draft.outputs, attrs);
}

Values expand_quick_gelu(Draft& draft, Emitter& e) {
  const double alpha = taken<double>(draft, "alpha").value_or(1.702);
  return {swish(e, needed_input(draft, 0), alpha)};
}

Values expand_skip_layer_norm(Draft& draft, Emitter& e) {
  const ValueId sum = skip_sum(e, needed_input(draft, 0), needed_input(draft, 1), draft.input(4));
  const Json attrs{{"axis", -1}, {"epsilon", skip_epsilon(draft)}};
  const auto inputs = norm_inputs(sum, needed_input(draft, 2), draft.input(3));
  return {e.node("LayerNormalization", inputs, attrs), kAbsent, kAbsent, sum};
}

Values expand_skip_rms_norm(Draft& draft, Emitter& e) {
  const ValueId sum = skip_sum(e, needed_input(draft, 0), needed_input(draft, 1), draft.input(3));
  const ValueId y = rms_norm(e, sum, needed_input(draft, 2), {-1}, skip_epsilon(draft));
  return {y, kAbsent, kAbsent, sum};
}

}  // namespace planck::importer
