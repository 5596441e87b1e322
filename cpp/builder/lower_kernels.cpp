// Ops that become one step of a kernel family: products, attention, norms, softmax, embedding,
// counting.
#include <algorithm>
#include <numeric>

#include "backends/packing.h"
#include "builder/lowering.h"
#include "builder/quantized.h"
#include "builder/select.h"
#include "kernels/attention/rows.h"
#include "kernels/embed/rows.h"
#include "kernels/matmul/rows.h"
#include "kernels/norm/rows.h"
#include "kernels/range/rows.h"
#include "kernels/reduce/rows.h"
#include "kernels/softmax/rows.h"
#include "ops/attention.h"
#include "ops/embedding.h"
#include "ops/linear.h"
#include "ops/norm.h"
#include "ops/range.h"
#include "ops/reduce.h"
#include "ops/softmax.h"
#include "passes/quant_facts.h"

namespace planck {
bool all_f32(const Lowering& l, const Node& n) {
  return std::ranges::all_of(n.inputs, [&](ValueId v) {
    return v == kAbsent || l.graph.value(v).type().dtype == DType::f32;
  });
}

TileProgram activation_program(std::string_view activation, bool residual) {
  TileProgram p;
  if (activation.empty()) return p;
  p.operands = {Broadcast::none};
  const std::string_view name = activation == "gelu" ? "gelu_erf" : activation;
  const auto* op = std::ranges::find(kTileOps, name, &TileOpInfo::name);
  if (op == std::end(kTileOps)) throw InternalError("unknown activation ", activation);
  const int16_t act = p.apply(op->op, p.operand(0));
  if (residual) {  // added after the activation, not before it
    p.operands.push_back(Broadcast::none);
    p.apply(TileOp::add, act, p.operand(1));
  }
  return p;
}

namespace {

// The product of integers, where both operands lie on grids.
bool lower_integer_linear(Lowering& l, const Node& n) {
  const Value& w = l.graph.value(n.inputs[1]);
  const ByteSource input = byte_source(l.graph, n.inputs[0]);
  // Reasons of the first kind are in the report already (passes/quantized.cpp).
  if (input.node == nullptr || !why_no_integer_product(l.graph, n).empty()) return false;
  auto weights =
      std::make_shared<IntegerWeights>(integer_weights(*w.fact.constant, w.quant.get(), 1, 0));
  const std::string& why = input.refusal.empty() ? weights->refusal : input.refusal;
  if (!why.empty()) {
    l.refuse("quantized", n, why);
    return false;
  }
  l.defer(
      n,
      [&l, &n, input, weights](const Node& last, const TileProgram& tail, Origin origin) {
        const IntegerProduct product{&n, input, weights->k,
                                     {}, false, n.as<ops::Linear>().activation};
        const ProductPlace place{l.rows(l.value(input.node->inputs[0])),
                                 l.make_output(last, 0, true),
                                 l.rows(byte_residual(l, n.input(3)))};
        add_integer_product(l, product, *weights, place, tail, std::move(origin));
      },
      true);
  return true;
}

}  // namespace

std::string lower_linear(Lowering& l, const Node& n) {
  if (lower_integer_linear(l, n)) return "";
  const Value& w = l.graph.value(n.inputs[1]);
  if (!all_f32(l, n)) return "only fp32 products have kernels";
  if (!w.is_constant()) return "its weight is not constant";
  const Tensor& tensor = *w.fact.constant;
  const int64_t k = tensor.shape()[0], columns = tensor.shape()[1];
  const auto emit = [&l, &n, columns, k](const Node& last, const TileProgram& tail, Origin origin) {
    const Value& weight = l.graph.value(n.inputs[1]);
    const auto choice = select_linear(columns, k, l.forced());
    const std::string kernel(choice.row->name);
    const bool residual = n.input(3) != kAbsent;
    const TileProgram own = activation_program(n.as<ops::Linear>().activation, residual);
    Step step{.op = "",
              .params = LinearParams{columns, k, composed(own, tail)},
              .inputs = {},
              .outputs = {},
              .kernel = kernel,
              .nodes = std::move(origin),
              .rejected = choice.rejected};
    step.inputs = {l.rows(l.value(n.inputs[0])),
                   l.make_constant(packed(weight.name, *weight.fact.constant, kernel)),
                   l.dense(l.value(n.input(2))), l.rows(l.value(n.input(3)))};
    step.outputs = {l.make_output(last, 0, true)};
    l.add_step(n, std::move(step));
  };
  l.defer(n, emit, true);
  return "";
}

std::string lower_matmul(Lowering& l, const Node& n) {
  if (!all_f32(l, n)) return "only fp32 products have kernels";
  const TensorType& a = l.graph.value(n.inputs[0]).type();
  const TensorType& b = l.graph.value(n.inputs[1]).type();
  if (a.rank() < 2 || b.rank() < 2) return "an operand is a vector";
  if (std::max(a.rank(), b.rank()) > kMaxMatmulBatch + 2) return "it has too many axes";
  const auto typical = [](const Dim& d) { return d.known().value_or(kTypicalRows); };
  const auto choice =
      select_matmul(typical(b.dims.back()), typical(a.dims.back()), false, l.forced());
  // The last axis of A is walked with step 1; B may have any strides.
  const int32_t left = l.value(n.inputs[0]);
  const bool walks = l.at(left).strides.back() == Dim(1);
  l.add_step(n, {.op = "",
                 .params = MatmulParams{},
                 .inputs = {walks ? left : l.dense(left), l.value(n.inputs[1])},
                 .outputs = {l.make_output(n, 0)},
                 .kernel = std::string(choice.row->name),
                 .nodes = {},
                 .rejected = choice.rejected});
  return "";
}

std::string lower_attention(Lowering& l, const Node& n) {
  if (!all_f32(l, n)) return "only fp32 attention has kernels";
  const auto& attention = n.as<ops::Attention>();
  std::vector<int32_t> inputs;
  for (size_t i = 0; i < 3; ++i) {
    const int32_t v = l.value(n.inputs[i]);
    inputs.push_back(l.at(v).strides.back() == Dim(1) ? v : l.dense(v));
  }
  inputs.push_back(l.value(n.input(3)));
  const auto choice = select_attention(attention.heads, l.forced());
  const AttentionParams params{.heads = attention.heads,
                               .scale = attention.scale,
                               .merged = attention.merged != 0,
                               .masked_rows_zero = attention.masked_rows_zero != 0,
                               .then = {}};
  const auto emit = [&l, &n, params, inputs, choice](const Node& last, const TileProgram& tail,
                                                     Origin origin) {
    AttentionParams whole = params;
    whole.then = tail;
    l.add_step(n, {.op = "",
                   .params = std::move(whole),
                   .inputs = inputs,
                   .outputs = {l.make_output(last, 0, params.merged)},
                   .kernel = std::string(choice.row->name),
                   .nodes = std::move(origin),
                   .rejected = choice.rejected});
  };
  l.defer(n, emit, true);
  return "";
}

namespace {

// Kernels read one number for each column.
bool is_row(const Lowering& l, ValueId v, const Dim& width) {
  if (v == kAbsent) return true;
  const std::vector<Dim>& dims = l.graph.value(v).type().dims;
  return !dims.empty() && dims.back() == width && product(dims) == width;
}

// Whether rows lie side by side with their elements apart, enough of them for a kernel that takes
// neighbours together.
bool lies_in_columns(const PlanValue& v) {
  constexpr int64_t kFew = 16;
  const size_t rank = v.shape.size();
  return (rank == 2 || rank == 3) && v.strides.back() != Dim(1) && v.shape.back() != Dim(1) &&
         v.strides[rank - 2] == Dim(1) && v.shape[rank - 2].known().value_or(0) >= kFew;
}

// Memory for the result in the same order.
int32_t columns_output(Lowering& l, const Node& n) {
  std::vector<int64_t> order(l.graph.value(n.outputs[0]).type().dims.size());
  std::iota(order.begin(), order.end(), 0);
  std::swap(order[order.size() - 1], order[order.size() - 2]);
  l.make_permuted_output(n, 0, order);
  return l.value(n.outputs[0]);
}

std::string norm_step(Lowering& l, const Node& n, double epsilon, int64_t axis, ValueId residual,
                      ValueId gain, ValueId offset) {
  const TensorType& x = l.graph.value(n.inputs[0]).type();
  if (!all_f32(l, n)) return "only fp32 norms have kernels";
  if (checked_axis(axis, x.rank()) != x.rank() - 1) return "it spans more than the last axis";
  const Dim& width = x.dims.back();
  if (!is_row(l, gain, width) || !is_row(l, offset, width)) return "its gain is not one row";
  if (residual != kAbsent && l.graph.value(residual).type().dims != x.dims) {
    return "its sum broadcasts";
  }
  for (size_t i = 1; i < n.outputs.size(); ++i) {
    const bool sum = i == 1 && residual != kAbsent;
    if (n.outputs[i] != kAbsent && !sum) return "its mean or deviation is read";
  }
  const auto choice = choose_by_isa(norm_rows(), l.forced());
  NormParams params{.epsilon = epsilon, .bytes = {}};
  const bool one_output = n.outputs.size() == 1 || n.outputs[1] == kAbsent;
  const Node* quantize = one_output ? quantizing_reader(l.graph, n.outputs[0]) : nullptr;
  if (quantize != nullptr) params.bytes = own_program(l, *quantize);
  Step step{.op = "",
            .params = std::move(params),
            .inputs = {},
            .outputs = {},
            .kernel = std::string(choice.row->name),
            .nodes = {},
            .rejected = choice.rejected};
  const int32_t x_given = l.value(n.inputs[0]);
  const bool columns =
      residual == kAbsent && one_output && quantize == nullptr && lies_in_columns(l.at(x_given));
  step.inputs = {columns ? x_given : l.rows(x_given), l.rows(l.value(residual)),
                 l.dense(l.value(gain)), l.dense(l.value(offset))};
  step.outputs = {columns ? columns_output(l, n) : l.make_output(n, 0, true)};
  if (n.outputs.size() > 1 && n.outputs[1] != kAbsent) {
    step.outputs.push_back(l.make_output(n, 1, true));
  }
  if (quantize != nullptr) {
    merge_origin(step.nodes, quantize->origin);
    step.outputs.push_back(l.make_output(*quantize, 0, true));
  }
  l.add_step(n, std::move(step));
  return "";
}

}  // namespace

std::string lower_norm(Lowering& l, const Node& n) {
  const auto& norm = n.as<ops::LayerNormalization>();
  return norm_step(l, n, norm.epsilon, norm.axis, kAbsent, n.inputs[1], n.input(2));
}

std::string lower_add_norm(Lowering& l, const Node& n) {
  const auto& norm = n.as<ops::AddLayerNorm>();
  return norm_step(l, n, norm.epsilon, norm.axis, n.inputs[1], n.inputs[2], n.input(3));
}

// The axes in their order, but this one at the end.
std::vector<int64_t> axis_last(int64_t axis, int64_t rank) {
  std::vector<int64_t> order(static_cast<size_t>(rank));
  std::iota(order.begin(), order.end(), 0);
  std::rotate(order.begin() + axis, order.begin() + axis + 1, order.end());
  return order;
}

std::string lower_softmax(Lowering& l, const Node& n) {
  const TensorType& x = l.graph.value(n.inputs[0]).type();
  if (x.dtype != DType::f32) return "only fp32 softmax has kernels";
  if (x.rank() == 0) return "it has no axis";
  const bool log = n.is("LogSoftmax");
  const int64_t axis = log ? n.as<ops::LogSoftmax>().axis : n.as<ops::Softmax>().axis;
  const std::vector<int64_t> order = axis_last(checked_axis(axis, x.rank()), x.rank());
  const auto choice = choose_by_isa(softmax_rows(), l.forced());
  const int32_t source = l.rows(l.permuted(l.value(n.inputs[0]), order));
  l.add_step(n, {.op = "",
                 .params = SoftmaxParams{log},
                 .inputs = {source},
                 .outputs = {l.make_permuted_output(n, 0, order)},
                 .kernel = std::string(choice.row->name),
                 .nodes = {},
                 .rejected = choice.rejected});
  return "";
}

std::string lower_embedding(Lowering& l, const Node& n) {
  const auto& e = n.as<ops::Embedding>();
  if (e.tables > kEmbedTables) return cat("kernels take ", kEmbedTables, " tables at most");
  const auto choice = choose_by_isa(embed_rows(), l.forced());
  Step step{.op = "",
            .params = EmbedParams{e.tables, e.norm != 0, e.epsilon},
            .inputs = {},
            .outputs = {},
            .kernel = std::string(choice.row->name),
            .nodes = {},
            .rejected = choice.rejected};
  for (int64_t t = 0; t < e.tables; ++t) {
    const ValueId table = n.inputs[static_cast<size_t>(2 * t)];
    const ValueId ids = n.inputs[static_cast<size_t>(2 * t + 1)];
    if (l.graph.value(table).type().dtype != DType::f32) return "only fp32 tables have kernels";
    const DType id_type = l.graph.value(ids).type().dtype;
    if (id_type != DType::s64 && id_type != DType::s32) return cat("ids are ", id_type);
    if (l.graph.value(ids).type().rank() > 2) return "ids have more than two axes";
    step.inputs.push_back(l.rows(l.value(table)));
    step.inputs.push_back(l.value(ids));
  }
  for (size_t i = static_cast<size_t>(2 * e.tables); i < n.inputs.size(); ++i) {
    step.inputs.push_back(l.dense(l.value(n.inputs[i])));
  }
  step.outputs = {l.make_output(n, 0, true)};
  l.add_step(n, std::move(step));
  return "";
}

namespace {

void range_step(Lowering& l, const Node& n, RangeParams params, int32_t to) {
  const auto choice = choose_by_isa(range_rows(), l.forced());
  l.add_step(n, {.op = "",
                 .params = std::move(params),
                 .inputs = {},
                 .outputs = {to},
                 .kernel = std::string(choice.row->name),
                 .nodes = {},
                 .rejected = choice.rejected});
}

}  // namespace

std::string lower_count(Lowering& l, const Node& n) {
  const DType dtype = l.graph.value(n.outputs[0]).type().dtype;
  if (dtype != DType::s32 && dtype != DType::s64) return cat("no kernel counts in ", dtype);
  const auto& count = n.as<ops::Count>();
  range_step(l, n, {count.start, count.step}, l.make_output(n, 0));
  return "";
}

// The input is not looked at: any two extents are a range.
std::string lower_shape(Lowering& l, const Node& n) {
  const auto extents = l.graph.value(n.outputs[0]).fact.dims();
  if (!extents || extents->empty()) return "its extents are not known";
  const int32_t y = l.make_output(n, 0);
  const std::vector<Dim>& d = *extents;
  for (size_t i = 0; i < d.size(); i += 2) {
    const bool two = i + 1 < d.size();
    const int32_t part = l.window(y, 0, Dim(static_cast<int64_t>(i)), Dim(two ? 2 : 1));
    range_step(l, n, {d[i], two ? d[i + 1] - d[i] : Dim(0)}, part);
  }
  return "";
}

}  // namespace planck
