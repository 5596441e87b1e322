#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/checked.h"
#include "base/guard.h"
#include "builder/lowering.h"
#include "builder/quantized.h"
#include "builder/select.h"
#include "kernels/layout/rows.h"
#include "ops/needs_values.h"
#include "ops/softmax.h"

namespace planck {
namespace {

struct LowerRow {
  std::string_view op;
  Lower lower;
};

// What is not here runs by its reference. Element-wise ops are found by is_eltwise.
constexpr LowerRow kLower[] = {
    {"planck.View", lower_view},
    {"planck.Crop", lower_crop},
    {"planck.Broadcast", lower_broadcast},
    {"planck.Fill", lower_fill},
    {"Transpose", lower_transpose},
    {"Split", lower_split},
    {"Gather", lower_gather},
    {"Cast", lower_cast},
    {"planck.Linear", lower_linear},
    {"MatMul", lower_matmul},
    {"planck.Attention", lower_attention},
    {"LayerNormalization", lower_norm},
    {"planck.AddLayerNorm", lower_add_norm},
    {"Softmax", lower_softmax},
    {"LogSoftmax", lower_softmax},
    {"planck.Convolution", lower_convolution},
    {"ConvTranspose", lower_conv_transpose},
    {"MaxPool", lower_pool},
    {"AveragePool", lower_pool},
    {"GlobalAveragePool", lower_global_pool},
    {"GlobalMaxPool", lower_global_pool},
    {"Concat", lower_concat},
    {"Resize", lower_resize},
    {"GridSample", lower_grid_sample},
    {"RoiAlign", lower_roi_align},
    {"LRN", lower_lrn},
    {"planck.Embedding", lower_embedding},
    {"DynamicQuantizeLinear", lower_dynamic_quantize},
    {"ReduceSum", lower_reduce},
    {"ReduceMean", lower_reduce},
    {"ReduceMax", lower_reduce},
    {"ReduceMin", lower_reduce},
    {"ReduceL2", lower_reduce},
    {"planck.Count", lower_count},
    {"Shape", lower_shape},
    {"ReduceL1", lower_reduce},
    {"ReduceProd", lower_reduce},
    {"ReduceSumSquare", lower_reduce},
    // Where formulas do not take the types.
    {"Add", lower_integer},
    {"Sub", lower_integer},
    {"Mul", lower_integer},
    {"Min", lower_integer},
    {"Max", lower_integer},
    {"Equal", lower_integer},
    {"Less", lower_integer},
    {"LessOrEqual", lower_integer},
    {"Greater", lower_integer},
    {"GreaterOrEqual", lower_integer},
    {"Where", lower_integer},
    {"Neg", lower_integer_unary},
    {"Abs", lower_integer_unary},
    {"Sign", lower_integer_unary},
    {"Clip", lower_integer_unary},
    {"GatherElements", lower_index},
    {"GatherND", lower_index},
    {"ScatterElements", lower_index},
    {"ScatterND", lower_index},
    {"OneHot", lower_one_hot},
    {"CumSum", lower_cumsum},
    {"TopK", lower_topk},
    {"ArgMax", lower_arg},
    {"ArgMin", lower_arg},
    {"Pad", lower_pad},
    {"Tile", lower_tile},
    {"DepthToSpace", lower_depth},
    {"LSTM", lower_recurrent},
    {"GRU", lower_recurrent},
    {"RNN", lower_recurrent},
    {"SpaceToDepth", lower_depth},
};

}  // namespace

int32_t Lowering::new_value(const TensorType& type, std::string name, BufferKind kind,
                            int32_t index, std::vector<Dim> strides) {
  PlanBuffer buffer{kind, index, Dim(1), size_of(type.dtype)};
  if (!type.dims.empty()) {
    // Padded rows: the outermost stepped axis tells how far the window reaches.
    buffer.elements = type.dims[0] * strides[0];
  }
  plan.buffers.push_back(buffer);
  plan.values.push_back({std::move(name), type.dtype, type.dims,
                         static_cast<int32_t>(plan.buffers.size() - 1), Dim(0),
                         std::move(strides)});
  return static_cast<int32_t>(plan.values.size() - 1);
}

int32_t Lowering::value(ValueId id) {
  if (id == kAbsent) return -1;
  if (const auto repeats = repeated.extract(id)) {
    write_repeated(*this, *graph.producer(id), repeats.mapped());
  }
  if (const auto parts = joined.extract(id)) {
    write_joined(*this, *graph.producer(id), parts.mapped());
  }
  if (pending.contains(id)) flush(id);
  if (deferred_.contains(id)) emit_deferred(id, *graph.producer(id), {}, {});
  if (const auto it = values_.find(id); it != values_.end()) return it->second;
  const Value& v = graph.value(id);
  if (!v.is_constant()) throw InternalError(label(graph, id), " was not lowered");
  const int32_t made = make_constant({v.name, *v.fact.constant, {}});
  values_[id] = made;
  view_origin_[made] = v.origin;
  return made;
}

int32_t Lowering::make_constant(PlanConstant constant) {
  const TensorType type = constant.tensor.type();
  plan.constants.push_back(std::move(constant));
  return new_value(type, plan.constants.back().name, BufferKind::constant,
                   static_cast<int32_t>(plan.constants.size() - 1), dense_strides(type.dims));
}

int32_t Lowering::copy_into(int32_t id, BufferKind kind, int32_t index) {
  const PlanValue source = at(id);
  const int32_t made = new_value({source.dtype, source.shape}, source.name, kind, index,
                                 dense_strides(source.shape));
  const auto choice = choose_by_isa(copy_rows(), forced());
  Step step{.op = "copy",
            .params = CopyParams{},
            .inputs = {id},
            .outputs = {made},
            .kernel = std::string(choice.row->name),
            .nodes = {},
            .rejected = choice.rejected};
  step.nodes = origin_of_inputs(step);
  plan.steps.push_back(std::move(step));
  return made;
}

int32_t Lowering::copy_of(int32_t id) {
  if (const auto it = copies_.find(id); it != copies_.end()) return it->second;
  return copies_[id] = copy_into(id, BufferKind::arena, 0);
}

int32_t Lowering::dense(int32_t id) { return id < 0 || is_dense(at(id)) ? id : copy_of(id); }
int32_t Lowering::rows(int32_t id) { return id < 0 || has_rows(at(id)) ? id : copy_of(id); }

int32_t Lowering::unbroadcast(int32_t id) const {
  const auto it = broadcast_of_.find(id);
  return it == broadcast_of_.end() ? id : it->second;
}

int32_t Lowering::unbroadcast(ValueId v, Origin& origin) {
  const int32_t id = value(v);
  const int32_t source = unbroadcast(id);
  if (const auto it = view_origin_.find(id); source != id && it != view_origin_.end()) {
    merge_origin(origin, it->second);
  }
  merge_origin(origin, graph.value(v).origin);
  return source;
}

// Bytes that a QuantizeLinear makes stand for the tensor that its DequantizeLinear gives:
// comparisons and taps find it by that name.
void Lowering::note_grid(int32_t made, const Node& n) {
  if (!n.is("QuantizeLinear") || at(made).dtype != DType::u8) return;
  for (const NodeId reader : graph.value(n.outputs[0]).readers) {
    const Node& dq = graph.node(reader);
    if (!dq.is("DequantizeLinear")) continue;
    const ByteSource source = byte_source(graph, dq.outputs[0]);
    if (!source.readable() || source.scale <= 0) continue;
    at(made).name = graph.value(dq.outputs[0]).name;
    at(made).scale = source.scale;
    at(made).zero = source.zero;
    return;
  }
}

// A view of all elements in their order may be the output just as well: then the value is computed
// in the caller's array.
std::optional<size_t> Lowering::output_place(ValueId id) const {
  // Nobody can say how large the caller's array is before all is known that it depends on.
  const auto given = [&](const Dim& d) { return is_known(d, given_); };
  if (!std::ranges::all_of(graph.value(id).type().dims, given)) return std::nullopt;
  if (const auto at = std::ranges::find(graph.outputs, id); at != graph.outputs.end()) {
    return static_cast<size_t>(at - graph.outputs.begin());
  }
  const auto count = [&](ValueId v) { return product(graph.value(v).type().dims); };
  for (const NodeId reader : graph.value(id).readers) {
    const Node& view = graph.node(reader);
    if (!view.is("planck.View") || count(view.outputs[0]) != count(id)) continue;
    if (const auto place = output_place(view.outputs[0])) return place;
  }
  return std::nullopt;
}

// Whether nobody else reads the rows: others may want them without gaps.
bool Lowering::read_by_softmax(ValueId id) const {
  const std::vector<NodeId>& readers = graph.value(id).readers;
  const int64_t last = graph.value(id).type().rank() - 1;
  return !readers.empty() && std::ranges::all_of(readers, [&](NodeId reader) {
    const Node& n = graph.node(reader);
    if (n.is("Softmax")) return checked_axis(n.as<ops::Softmax>().axis, last + 1) == last;
    return n.is("LogSoftmax") && checked_axis(n.as<ops::LogSoftmax>().axis, last + 1) == last;
  });
}

int32_t Lowering::make_output(const Node& n, size_t i, bool padded) {
  const ValueId id = n.outputs[i];
  const Value& v = graph.value(id);
  std::vector<Dim> strides = dense_strides(v.type().dims);
  BufferKind kind = BufferKind::arena;
  int32_t index = 0;
  if (const auto place = output_place(id)) {
    kind = BufferKind::output;
    index = static_cast<int32_t>(*place);
  } else if (padded && v.type().rank() >= 2 && v.type().dims.back().known()) {
    // Rows whose pitch is a multiple of 1 KiB fall into few cache sets: the six rows of a register
    // tile then push each other out of L1.
    // And rows that begin in the middle of a line cost a product a few percent of its time.
    constexpr int64_t kSetBytes = 1024, kPad = 16;
    const int64_t width = *v.type().dims.back().known();
    const bool same_sets = width * size_of(v.type().dtype) % kSetBytes == 0;
    if (same_sets || (width > kPad && read_by_softmax(id))) {
      std::vector<Dim> padded_dims = v.type().dims;
      padded_dims.back() = Dim(same_sets ? width + kPad : round_up(width, kPad));
      strides = dense_strides(padded_dims);
    }
  }
  const int32_t made = new_value(v.type(), v.name, kind, index, std::move(strides));
  if (kind == BufferKind::arena) note_grid(made, n);
  values_[id] = made;
  return made;
}

int32_t Lowering::permuted(int32_t id, const std::vector<int64_t>& perm) {
  if (id < 0 || std::ranges::is_sorted(perm)) return id;
  const auto [it, fresh] = permuted_.emplace(std::pair(id, perm), -1);
  if (!fresh) return it->second;
  PlanValue view = permuted_view(at(id), perm);
  view.name.clear();
  plan.values.push_back(std::move(view));
  it->second = static_cast<int32_t>(plan.values.size() - 1);
  if (const auto origin = view_origin_.find(id); origin != view_origin_.end()) {
    view_origin_[it->second] = Origin(origin->second);
  }
  return it->second;
}

int32_t Lowering::restrided(int32_t id, std::vector<Dim> shape, std::vector<Dim> strides) {
  PlanValue view = at(id);
  view.name.clear();
  view.shape = std::move(shape);
  view.strides = std::move(strides);
  plan.values.push_back(std::move(view));
  const auto made = static_cast<int32_t>(plan.values.size() - 1);
  if (const auto origin = view_origin_.find(id); origin != view_origin_.end()) {
    view_origin_[made] = Origin(origin->second);
  }
  return made;
}

int32_t Lowering::make_scratch(const TensorType& type) {
  return new_value(type, "", BufferKind::arena, 0, dense_strides(type.dims));
}

int32_t Lowering::window(int32_t id, int64_t axis, const Dim& start, const Dim& extent) {
  const auto i = static_cast<size_t>(axis);
  if (id < 0 || at(id).shape[i] == extent) return id;
  PlanValue part = at(id);
  part.name.clear();
  part.shape[i] = extent;
  part.offset = part.offset + start * part.strides[i];
  plan.values.push_back(std::move(part));
  const auto made = static_cast<int32_t>(plan.values.size() - 1);
  if (const auto origin = view_origin_.find(id); origin != view_origin_.end()) {
    view_origin_[made] = Origin(origin->second);
  }
  return made;
}

int32_t Lowering::window(int32_t id, int64_t start, int64_t extent) {
  if (id < 0) return id;
  return window(id, static_cast<int64_t>(at(id).shape.size()) - 1, Dim(start), Dim(extent));
}

int32_t Lowering::with_rank(int32_t id, size_t rank) {
  if (at(id).shape.size() >= rank) return id;
  PlanValue view = at(id);
  view.name.clear();
  view.shape.insert(view.shape.begin(), rank - view.shape.size(), Dim(1));
  view.strides.insert(view.strides.begin(), rank - view.strides.size(), Dim(1));
  plan.values.push_back(std::move(view));
  return static_cast<int32_t>(plan.values.size() - 1);
}

int32_t Lowering::make_permuted_output(const Node& n, size_t i, const std::vector<int64_t>& perm) {
  const Value& v = graph.value(n.outputs[i]);
  std::vector<int64_t> stepped;  // axes of one element lie anywhere
  std::ranges::copy_if(perm, std::back_inserter(stepped), [&](int64_t axis) {
    return v.type().dims[static_cast<size_t>(axis)] != Dim(1);
  });
  if (std::ranges::is_sorted(stepped)) return permuted(make_output(n, i), perm);
  std::vector<Dim> dims;
  std::vector<int64_t> inverse(perm.size());
  for (size_t j = 0; j < perm.size(); ++j) {
    dims.push_back(v.type().dims[static_cast<size_t>(perm[j])]);
    inverse[static_cast<size_t>(perm[j])] = static_cast<int64_t>(j);
  }
  const std::vector<Dim> strides = dense_strides(dims);
  const int32_t made =
      new_value({v.type().dtype, std::move(dims)}, "", BufferKind::arena, 0, strides);
  const int32_t view = permuted(made, inverse);
  at(view).name = v.name;
  note_grid(view, n);
  values_[v.id] = view;
  return made;
}

void Lowering::make_view(const Node& n, size_t i, PlanValue window, int32_t source) {
  const Value& v = graph.value(n.outputs[i]);
  window.name = v.name;
  window.shape = v.type().dims;
  plan.values.push_back(std::move(window));
  const auto made = static_cast<int32_t>(plan.values.size() - 1);
  values_[n.outputs[i]] = made;
  Origin origin = n.origin;
  if (const auto it = view_origin_.find(source); it != view_origin_.end()) {
    merge_origin(origin, it->second);
  }
  view_origin_[made] = std::move(origin);
  if (n.is("planck.Broadcast") || n.is("planck.Fill")) broadcast_of_[made] = unbroadcast(source);
}

Origin Lowering::origin_of_inputs(const Step& step) const {
  Origin origin = step.nodes;
  for (const int32_t v : step.inputs) {
    if (const auto it = view_origin_.find(v); it != view_origin_.end()) {
      merge_origin(origin, it->second);
    }
  }
  return origin;
}

Step& Lowering::add_step(const Node& n, Step step) {
  step.op = n.op->text();
  if (options_.fast) step.asked = "fp32-fast";
  merge_origin(step.nodes, n.origin);
  step.nodes = origin_of_inputs(step);
  for (const ValueId v : n.inputs) {
    if (v != kAbsent) merge_origin(step.nodes, graph.value(v).origin);
  }
  plan.steps.push_back(std::move(step));
  return plan.steps.back();
}

void Lowering::defer(const Node& n, Emit emit, bool bytes) {
  const auto alone = [emit = std::move(emit)](const Node& last, const TileProgram& tail,
                                              const std::vector<ValueId>&, Origin origin) {
    emit(last, tail, std::move(origin));
  };
  deferred_[n.outputs[0]] = {alone, bytes, false};
  if (!chain_goes_on(graph, n.outputs[0])) emit_deferred(n.outputs[0], n, {}, {});
}

void Lowering::defer_reading(const Node& n, EmitReading emit) {
  const ValueId out = n.outputs[0];
  deferred_[out] = {std::move(emit), true, true};
  if (!chain_goes_on(graph, out) && !chain_joins(graph, out)) emit_deferred(out, n, {}, {});
}

bool Lowering::ends_product(ValueId id) const {
  const Pending& chain = pending.at(id);
  return chain.operands.size() == 1 && deferred_.contains(chain.operands[0]);
}

bool Lowering::ends_deferred(ValueId id, ValueId last) const {
  const auto it = deferred_.find(id);
  if (it == deferred_.end()) return false;
  const DType dtype = graph.value(last).type().dtype;
  return dtype == DType::f32 || (it->second.bytes && (dtype == DType::u8 || dtype == DType::s8));
}

void Lowering::emit_deferred(ValueId id, const Node& last, const TileProgram& tail, Origin origin) {
  const EmitReading emit = std::move(deferred_.at(id).emit);
  deferred_.erase(id);
  emit(last, tail, {}, std::move(origin));
}

std::optional<size_t> Lowering::reading_product(ValueId id, const Pending& chain) const {
  const TensorType& type = graph.value(id).type();
  const auto agrees = [&](ValueId v) {
    if (graph.value(v).type().dtype != DType::f32) return false;
    const auto factors = repeated.find(v);
    return factors == repeated.end() ? surely_broadcasts(*this, v, type.dims)
                                     : factors->second[1] == 1;
  };
  const auto repeats = [&](ValueId v) { return repeated.contains(v); };
  if (type.dtype != DType::f32 || chain.operands.size() < 2 ||
      !std::ranges::all_of(chain.operands, agrees) ||
      std::ranges::count_if(chain.operands, repeats) > 1) {
    return std::nullopt;
  }
  const auto inside = [&](NodeId reader) { return std::ranges::count(chain.nodes, reader) > 0; };
  for (size_t i = 0; i < chain.operands.size(); ++i) {
    const Value& v = graph.value(chain.operands[i]);
    const auto it = deferred_.find(v.id);
    if (it == deferred_.end() || !it->second.reads) continue;
    if (v.type().dims == type.dims && std::ranges::all_of(v.readers, inside)) return i;
  }
  return std::nullopt;
}

namespace {

// The program with that operand in front of the others.
TileProgram led_by(TileProgram program, size_t operand) {
  const auto first = static_cast<int16_t>(operand);
  for (TileInstr& i : program.body) {
    if (i.op != TileOp::operand) continue;
    i.a = i.a == first ? int16_t{0} : static_cast<int16_t>(i.a + (i.a < first ? 1 : 0));
  }
  return program;
}

}  // namespace

void Lowering::emit_reading(ValueId id, const Pending& chain, size_t product) {
  std::vector<ValueId> operands = chain.operands;
  const auto at = operands.begin() + static_cast<std::ptrdiff_t>(product);
  const EmitReading emit = std::move(deferred_.at(*at).emit);
  deferred_.erase(*at);
  operands.erase(at);
  emit(*graph.producer(id), led_by(chain.program, product), operands, chain.origin);
}

void Lowering::refuse(std::string_view what, const Node& n, const std::string& reason) {
  plan.report.refusals.push_back({std::string(what), origin_text(graph, n.origin), reason});
}

void Lowering::by_reference(const Node& n, std::string_view reason) {
  if (!options_.allow_reference) {
    throw with(UnsupportedError("no kernel for ", n.op->text(), " (", origin_text(graph, n.origin),
                                "): ", reason, "; fallback=\"reference\" would run it slowly"),
               {.node = origin_text(graph, n.origin),
                .op_type = std::string(n.op->name),
                .domain = std::string(n.op->domain),
                .hint = "fallback=\"reference\" runs it slowly",
                .items = {cat(n.op->text(), ": ", reason)}});
  }
  if (!n.subgraphs.empty()) {
    throw with(UnsupportedError("control flow is not supported yet: ", n.op->text(), " (",
                                origin_text(graph, n.origin), ")"),
               {.node = origin_text(graph, n.origin),
                .op_type = std::string(n.op->name),
                .items = {n.op->text()}});
  }
  Step step{.op = "",
            .params = ReferenceParams{n.op->text(), n.op->print(n.attrs.get()).dump()},
            .inputs = {},
            .outputs = {},
            .kernel = "reference",
            .nodes = {},
            .rejected = {{"any kernel", std::string(reason)}}};
  for (const ValueId v : n.inputs) step.inputs.push_back(dense(value(v)));
  for (size_t i = 0; i < n.outputs.size(); ++i) {
    step.outputs.push_back(n.outputs[i] == kAbsent ? -1 : make_output(n, i));
  }
  add_step(n, std::move(step));
}

// Symbols in the shapes of its outputs that no step before it makes known.
std::vector<std::string> Lowering::unknown_extents(const Node& n) const {
  std::vector<std::string> unknown;
  for (const ValueId v : n.outputs) {
    if (v == kAbsent) continue;
    for (const Dim& d : graph.value(v).type().dims) {
      for (const std::string& symbol : d.symbols()) {
        if (!symbols_.contains(symbol)) unknown.push_back(symbol);
      }
    }
  }
  return unknown;
}

// A node whose run says how large its outputs are. Where an input of the model decides that, a plan
// for each of its values is faster: callers know that way out by its hint.
void Lowering::lower_late(const Node& n, const std::vector<std::string>& found) {
  Symbols bare;
  for (const ValueId v : n.outputs) {
    if (v == kAbsent) continue;
    for (const Dim& d : graph.value(v).type().dims) bare.emplace(d.as_symbol());
  }
  const bool finds_all =
      std::ranges::all_of(found, [&](const std::string& symbol) { return bare.contains(symbol); });
  const auto is_input = [&](ValueId v) { return std::ranges::count(graph.inputs, v) > 0; };
  const bool of_data = n.is("NonMaxSuppression") || n.is("Compress");
  const bool decided = !of_data && n.inputs.size() > 1 &&
                       std::any_of(n.inputs.begin() + 1, n.inputs.end(), is_input);
  if (!finds_all || decided || !n.op->domain.empty()) {
    const ValueId v = n.outputs[0];
    throw with(UnsupportedError("the shape of ", label(graph, v), ' ', graph.value(v).type(),
                                " depends on data, which is not supported here"),
               {.got = cat(graph.value(v).type()), .hint = kNeedsValues, .items = {n.op->text()}});
  }
  by_reference(n, "its shape depends on data");
  symbols_.insert(found.begin(), found.end());
}

void Lowering::lower_node(const Node& n) {
  if (const auto unknown = unknown_extents(n); !unknown.empty()) return lower_late(n, unknown);
  if (is_eltwise(graph, n)) {
    if (const std::string why = lower_eltwise(*this, n); !why.empty()) by_reference(n, why);
    return;
  }
  const std::string op = n.op->text();
  const auto* row = std::ranges::find(kLower, op, &LowerRow::op);
  if (row == std::end(kLower)) return by_reference(n, "no kernel family has this op");
  if (const std::string why = row->lower(*this, n); !why.empty()) by_reference(n, why);
}

void Lowering::add_inputs() {
  for (size_t i = 0; i < graph.inputs.size(); ++i) {
    const Value& v = graph.value(graph.inputs[i]);
    const int32_t made = new_value(v.type(), v.name, BufferKind::input, static_cast<int32_t>(i),
                                   dense_strides(v.type().dims));
    values_[v.id] = made;
    view_origin_[made] = v.origin;
    plan.inputs.push_back({v.name, v.type().dtype, v.type().dims, made});
    for (const Dim& d : v.type().dims) {
      if (!d.is_constant()) symbols_.emplace(d.as_symbol());
    }
  }
  given_ = symbols_;
}

// No step reads an output: the nodes of a view that is one belong to who writes what it shows.
void Lowering::credit_writer(int32_t v) {
  const auto it = view_origin_.find(v);
  if (it == view_origin_.end()) return;
  const auto writes = [&](const Step& step) {
    return std::ranges::any_of(step.outputs, [&](int32_t out) {
      return out != kAbsent && at(out).buffer == at(v).buffer;
    });
  };
  const auto writer = std::find_if(plan.steps.rbegin(), plan.steps.rend(), writes);
  if (writer != plan.steps.rend()) merge_origin(writer->nodes, it->second);
}

// A graph output that is an input, a constant, a part of something, or somebody else's output
// already is copied.
void Lowering::add_outputs() {
  for (size_t i = 0; i < graph.outputs.size(); ++i) {
    const ValueId id = graph.outputs[i];
    const auto index = static_cast<int32_t>(i);
    int32_t v = value(id);
    const PlanBuffer& buffer = plan.buffers[static_cast<size_t>(at(v).buffer)];
    const bool own = buffer.kind == BufferKind::output && buffer.index == index &&
                     at(v).offset == Dim(0) && is_dense(at(v));
    if (own) {
      credit_writer(v);
    } else {
      v = copy_into(v, BufferKind::output, index);
    }
    plan.outputs.push_back({graph.output_names[i], at(v).dtype, at(v).shape, v});
  }
}

void Lowering::run() {
  for (const SourceNode& s : *graph.sources) plan.nodes.push_back({s.name, s.op_type});
  plan.unused.assign(graph.unused.begin(), graph.unused.end());
  add_inputs();
  for (const Node& n : graph.nodes()) {
    check_guard();
    at_node("lowering of", graph, n, [&] { lower_node(n); });
  }
  add_outputs();
}

void lower(const Graph& g, const LowerOptions& options, Plan& plan) {
  Lowering(g, options, plan).run();
}

}  // namespace planck
