// Element-wise ops become tile programs; a chain whose links are read once becomes one program.
#include <algorithm>
#include <array>
#include <numeric>
#include <optional>

#include "builder/formulas.h"
#include "builder/lowering.h"
#include "builder/select.h"
#include "kernels/dynamic_quantize/rows.h"
#include "kernels/eltwise/rows.h"
#include "kernels/lut/rows.h"
#include "kernels/reduce/rows.h"
#include "ops/quantize.h"
#include "ops/reduce.h"
#include "ops/unary.h"
#include "passes/tools.h"

namespace planck {
namespace {

// Keeps programs well inside what the kernels hold, so that a chain never fails to compile.
constexpr size_t kMostInstrs = 24, kMostOperands = 6;

// A scalar constant becomes an instruction, so that it needs no memory.
std::optional<float> scalar_constant(const Graph& g, ValueId id) {
  const Value& v = g.value(id);
  if (!v.is_constant() || v.fact.constant->count() != 1) return std::nullopt;
  const Tensor& t = *v.fact.constant;
  if (t.dtype() == DType::f32) return t.as<float>()[0];
  return elt_type(t.dtype()) ? std::optional(static_cast<float>(widen(t).at(0))) : std::nullopt;
}

bool is_dequantize(const Graph& g, ValueId v) {
  const Node* n = g.producer(v);
  return n != nullptr && n->is("DequantizeLinear") && is_eltwise(g, *n);
}

class ChainBuilder {
 public:
  ChainBuilder(Lowering& l, const Node& n) : lowering_(l), node_(n) {}

  Lowering::Pending build() {
    out_ = written(true);
    if (!compiles()) out_ = written(false);
    for (const ValueId v : taken_) {
      if (lowering_.graph.uses(v) == 1) lowering_.pending.erase(v);  // else others copy it too
    }
    finish();
    return std::move(out_);
  }
  // The node alone, behind whatever its operands are in memory.
  Lowering::Pending alone() {
    out_ = written(false);
    finish();
    return std::move(out_);
  }

 private:
  void finish() {
    merge_origin(out_.origin, node_.origin);
    out_.nodes.push_back(node_.id);
  }

  // The node's formula, behind those of pending operands where it may take them in.
  Lowering::Pending written(bool takes) {
    out_ = {};
    taken_.clear();
    takes_ = takes;
    std::vector<int16_t> in;
    for (const ValueId v : node_.inputs) in.push_back(v == kAbsent ? int16_t{-1} : source(v));
    formula_of(lowering_.graph, node_)(out_.program, node_, in);
    return std::move(out_);
  }

  // Kernels hold only so many constants and results at a time; a product may add an activation.
  bool compiles() const {
    try {
      compile(out_.operands.size() == 1 ? composed(activation_program("gelu"), out_.program)
                                        : out_.program);
      return true;
    } catch (const UnsupportedError&) {
      return false;
    }
  }

  int16_t source(ValueId v) {
    if (const auto c = scalar_constant(lowering_.graph, v)) {
      merge_origin(out_.origin, lowering_.graph.value(v).origin);
      return out_.program.constant(*c);
    }
    const auto it = lowering_.pending.find(v);
    const bool same = takes_ && it != lowering_.pending.end() &&
                      lowering_.graph.value(v).type().dims ==
                          lowering_.graph.value(node_.outputs[0]).type().dims &&
                      fits(it->second);
    return same ? inlined(v) : operand(v);
  }

  bool fits(const Lowering::Pending& other) const {
    const auto in_memory = std::ranges::count_if(node_.inputs, [&](ValueId v) {
      return v != kAbsent && !scalar_constant(lowering_.graph, v);
    });
    return out_.program.body.size() + other.program.body.size() < kMostInstrs &&
           out_.operands.size() + other.operands.size() + static_cast<size_t>(in_memory) <
               kMostOperands;
  }

  int16_t operand(ValueId v) {
    const auto at = std::ranges::find(out_.operands, v);
    const auto index = static_cast<int16_t>(at - out_.operands.begin());
    if (at == out_.operands.end()) {
      out_.operands.push_back(v);
      out_.program.operands.push_back(Broadcast::none);
    }
    return out_.program.operand(index);
  }

  int16_t inlined(ValueId v) {
    const Lowering::Pending other = lowering_.pending.at(v);
    taken_.push_back(v);
    // What is read through its bytes alone has been rounded to them, but need not lie in memory.
    const bool through = is_dequantize(lowering_.graph, v) && lowering_.graph.uses(v) == 1;
    merge_origin(out_.origin, other.origin);
    out_.nodes.insert(out_.nodes.end(), other.nodes.begin(), other.nodes.end());
    std::vector<int16_t> renamed;
    for (const TileInstr& i : other.program.body) {
      if (i.op == TileOp::operand) {
        const ValueId read = other.operands[static_cast<size_t>(i.a)];
        renamed.push_back(through ? source(read) : operand(read));
      } else if (i.op == TileOp::constant) {
        renamed.push_back(out_.program.constant(i.imm));
      } else {
        const auto at = [&](int16_t k) { return renamed[static_cast<size_t>(k)]; };
        const int arity = info(i.op).arity;
        renamed.push_back(out_.program.apply(i.op, at(i.a), arity > 1 ? at(i.b) : int16_t{0},
                                             arity > 2 ? at(i.c) : int16_t{0}));
      }
    }
    return renamed.back();
  }

  Lowering& lowering_;
  const Node& node_;
  Lowering::Pending out_;
  std::vector<ValueId> taken_;  // pending values that became part of the program
  bool takes_ = true;
};

// One number, or one for each place along the last axis: what broadcasts by itself.
bool is_parameter(const Graph& g, ValueId v, const TensorType& x, int64_t axis) {
  const Value& p = g.value(v);
  const std::vector<Dim>& dims = p.type().dims;
  if (dims.empty() || (p.is_constant() && p.fact.constant->count() == 1)) return true;
  if (dims.size() != 1 || x.rank() == 0) return false;
  if (dims[0] == Dim(1)) return true;
  return dims[0] == x.dims.back() && (axis == x.rank() - 1 || axis == -1);
}

// Between fp32 and bytes, by parameters that broadcast.
bool takes_quantization(const Graph& g, const Node& n) {
  const bool quantizes = n.is("QuantizeLinear");
  const TensorType &x = g.value(n.inputs[0]).type(), &y = g.value(n.outputs[0]).type();
  const DType bytes = (quantizes ? y : x).dtype;
  const bool known =
      bytes == DType::u8 || bytes == DType::s8 || (!quantizes && bytes == DType::s32);
  if (!known || (quantizes ? x : y).dtype != DType::f32) return false;
  if (g.value(n.inputs[1]).type().dtype != DType::f32) return false;
  const int64_t axis =
      quantizes ? n.as<ops::QuantizeLinear>().axis : n.as<ops::DequantizeLinear>().axis;
  const int64_t block =
      quantizes ? n.as<ops::QuantizeLinear>().block_size : n.as<ops::DequantizeLinear>().block_size;
  return block == 0 && is_parameter(g, n.inputs[1], x, axis) &&
         (n.input(2) == kAbsent || is_parameter(g, n.inputs[2], x, axis));
}

// Which types the formulas stand for: floats, truths, truths that choose between floats, or bytes
// at the ends of a chain of floats.
bool takes_types(const Graph& g, const Node& n) {
  const auto type = [&](ValueId v) { return g.value(v).type().dtype; };
  const auto all = [&](size_t from, DType dtype) {
    return std::all_of(n.inputs.begin() + static_cast<std::ptrdiff_t>(from), n.inputs.end(),
                       [&](ValueId v) { return v == kAbsent || type(v) == dtype; });
  };
  if (n.is("QuantizeLinear") || n.is("DequantizeLinear")) return takes_quantization(g, n);
  if (n.is("planck.FlipSign")) return true;
  if (n.is("And") || n.is("Or") || n.is("Xor") || n.is("Not")) return all(0, DType::b8);
  if (n.is("Where")) return all(1, DType::f32) || all(1, DType::b8);
  if (n.is("Equal")) return all(0, DType::f32) || all(0, DType::b8);
  if (!n.is("Cast")) return all(0, DType::f32);
  const DType from = type(n.inputs[0]), to = type(n.outputs[0]);
  if (from == DType::f32) return to == DType::b8;
  if (from == DType::u8 || from == DType::s8 || from == DType::s32) return to == DType::f32;
  const Node* truth = g.producer(n.inputs[0]);
  return from == DType::b8 && to == DType::f32 && (truth == nullptr || !ends_in_cast(g, *truth));
}

}  // namespace

bool is_eltwise(const Graph& g, const Node& n) {
  if (formula_of(g, n) == nullptr || n.outputs.size() != 1) return false;
  if (n.op->name == "Clip" && n.input(1) == kAbsent && n.input(2) == kAbsent) return false;
  return n.inputs.size() <= 3 && takes_types(g, n);
}

const Node* quantizing_reader(const Graph& g, ValueId id) {
  for (const NodeId reader : g.value(id).readers) {
    const Node& n = g.node(reader);
    if (!n.is("QuantizeLinear") || !is_eltwise(g, n) || n.inputs[0] != id) continue;
    const bool by_constants = scalar_constant(g, n.inputs[1]) &&
                              (n.input(2) == kAbsent || scalar_constant(g, n.inputs[2]));
    if (by_constants && g.value(n.outputs[0]).type().dtype == DType::u8) return &n;
  }
  return nullptr;
}

TileProgram own_program(Lowering& l, const Node& n) {
  return std::move(ChainBuilder(l, n).alone().program);
}

std::string lower_eltwise(Lowering& l, const Node& n) {
  const ValueId out = n.outputs[0];
  if (l.is_written(out)) return "";
  if (n.is("DequantizeLinear")) {
    // Who reads bytes takes the operand; chains copy the arithmetic; others ask for the floats.
    l.pending[out] = ChainBuilder(l, n).alone();
    return "";
  }
  l.pending[out] = ChainBuilder(l, n).build();
  // Products write bytes without sign; their other form is a step of its own.
  const Node* reader = only_reader(l.graph, out);
  const bool flips = reader != nullptr && reader->is("planck.FlipSign") && l.ends_product(out);
  if (flips || !chain_goes_on(l.graph, out)) l.flush(out);
  return "";
}

bool chain_goes_on(const Graph& g, ValueId id) {
  const Value& v = g.value(id);
  const bool once = g.uses(id) == 1 && v.readers.size() == 1;
  const Node* reader = once ? &g.node(v.readers[0]) : nullptr;
  return reader != nullptr && is_eltwise(g, *reader) &&
         g.value(reader->outputs[0]).type().dims == v.type().dims;
}

bool chain_joins(const Graph& g, ValueId id) {
  const Value& v = g.value(id);
  if (g.uses(id) != 2 || v.readers.size() != 2) return false;
  const auto leads = [&](NodeId first, NodeId second) {
    const Node& n = g.node(first);
    if (!is_eltwise(g, n) || g.value(n.outputs[0]).type().dims != v.type().dims) return false;
    return chain_goes_on(g, n.outputs[0]) && g.value(n.outputs[0]).readers[0] == second;
  };
  return leads(v.readers[0], v.readers[1]) || leads(v.readers[1], v.readers[0]);
}

TileProgram composed(TileProgram first, const TileProgram& then) {
  if (then.body.empty()) return first;
  if (first.body.empty()) return then;
  const auto before = static_cast<int16_t>(first.operands.size() - 1);
  for (size_t i = 1; i < then.operands.size(); ++i) first.operands.push_back(then.operands[i]);
  const auto result = static_cast<int16_t>(first.body.size() - 1);
  std::vector<int16_t> renamed;
  for (const TileInstr& i : then.body) {
    const auto at = [&](int16_t k) { return renamed[static_cast<size_t>(k)]; };
    if (i.op == TileOp::operand) {
      const bool own = i.a > 0;
      renamed.push_back(own ? first.operand(static_cast<int16_t>(before + i.a)) : result);
    } else if (i.op == TileOp::constant) {
      renamed.push_back(first.constant(i.imm));
    } else {
      const int arity = info(i.op).arity;
      renamed.push_back(first.apply(i.op, at(i.a), arity > 1 ? at(i.b) : int16_t{0},
                                    arity > 2 ? at(i.c) : int16_t{0}));
    }
  }
  return first;
}

namespace {

// The order in which a window is walked: that of memory, or with the axis of neighbours last where
// the window leaves gaps. Nothing where no elements are neighbours.
std::optional<std::vector<int64_t>> walking_order(const PlanValue& v) {
  if (auto order = memory_order(v)) return order;
  std::vector<int64_t> order(v.shape.size());
  std::iota(order.begin(), order.end(), 0);
  const auto at = std::ranges::find_if(order, [&](int64_t axis) {
    const auto i = static_cast<size_t>(axis);
    return v.strides[i] == Dim(1) && v.shape[i] != Dim(1);
  });
  if (at == order.end()) return std::nullopt;
  std::rotate(at, at + 1, order.end());
  return order;
}

// Whether kernels may read the window as it is: the elements of its innermost axis are neighbours.
bool has_neighbours(const PlanValue& v) {
  for (size_t i = v.shape.size(); i-- > 0;) {
    if (v.shape[i] != Dim(1)) return v.strides[i] == Dim(1);
  }
  return true;
}

// The order in which the operands of full shape lie in memory, so that none is copied; the plain
// one where they differ.
std::vector<int64_t> common_order(const Lowering& l, const std::vector<int32_t>& operands,
                                  const std::vector<Dim>& dims) {
  std::vector<int64_t> plain(dims.size());
  std::iota(plain.begin(), plain.end(), 0);
  std::optional<std::vector<int64_t>> common;
  for (const int32_t id : operands) {
    const PlanValue& v = l.plan.values[static_cast<size_t>(id)];
    if (v.shape != dims) continue;
    const auto order = walking_order(v);
    if (!order || (common && *common != *order)) return plain;
    common = order;
  }
  return common.value_or(plain);
}

bool is_byte(DType dtype) { return dtype == DType::u8 || dtype == DType::s8; }

// What a program gives for each byte, by its own arithmetic.
Tensor byte_table(const TileProgram& program, DType from, DType to) {
  std::array<uint8_t, 256> bytes{};
  std::iota(bytes.begin(), bytes.end(), uint8_t{0});
  const EltOperand operand{bytes.data(), 256, 1, *elt_type(from)};
  std::byte* results = nullptr;
  Tensor table = Tensor::make(to, {256}, &results);
  eltwise_strip(Isa::portable)(compile(program), {&operand, results, 256, 1, 256, *elt_type(to)});
  return table;
}

}  // namespace

// A program from bytes to bytes is a table of its results.
bool Lowering::becomes_table(ValueId id, const Pending& chain) {
  const TensorType& type = graph.value(id).type();
  if (chain.operands.size() != 1 || !is_byte(type.dtype)) return false;
  const TensorType& x = graph.value(chain.operands[0]).type();
  return is_byte(x.dtype) && x.dims == type.dims;
}

void Lowering::table_step(ValueId id, const Pending& chain) {
  const Node& n = *graph.producer(id);
  const auto choice = choose_by_isa(lut_rows(), forced());
  const int32_t x = value(chain.operands[0]);
  const std::vector<int64_t> order = common_order(*this, {x}, graph.value(id).type().dims);
  const Tensor table = byte_table(chain.program, at(x).dtype, graph.value(id).type().dtype);
  Step step{.op = "",
            .params = LutParams{},
            .inputs = {rows(permuted(x, order)), make_constant({"", table, {}})},
            .outputs = {make_permuted_output(n, 0, order)},
            .kernel = std::string(choice.row->name),
            .nodes = chain.origin,
            .rejected = choice.rejected};
  add_step(n, std::move(step));
}

bool surely_broadcasts(const Lowering& l, ValueId v, const std::vector<Dim>& dims) {
  const std::vector<Dim>& own = l.graph.value(v).type().dims;
  const size_t lead = dims.size() - own.size();
  for (size_t axis = 0; axis < own.size(); ++axis) {
    if (own[axis] != Dim(1) && own[axis] != dims[lead + axis]) return false;
  }
  return true;
}

namespace {

// The operand that a Resize repeats, if there is one and no other's extents are open.
std::optional<size_t> repeated_operand(const Lowering& l, ValueId id,
                                       const Lowering::Pending& chain) {
  const std::vector<Dim>& dims = l.graph.value(id).type().dims;
  std::optional<size_t> found;
  for (size_t i = 0; i < chain.operands.size(); ++i) {
    const ValueId v = chain.operands[i];
    if (l.repeated.contains(v)) {
      if (found) return std::nullopt;
      found = i;
      continue;
    }
    if (!surely_broadcasts(l, v, dims)) return std::nullopt;
  }
  return found;
}

// The step of a chain that reads the input of a Resize; false where none does.
bool repeated_step(Lowering& l, ValueId id, const Lowering::Pending& chain, Step& step) {
  const auto which = repeated_operand(l, id, chain);
  if (!which) return false;
  const ValueId resized = chain.operands[*which];
  const std::vector<int64_t> factors = l.repeated.extract(resized).mapped();
  const Node& resize = *l.graph.producer(resized);
  merge_origin(step.nodes, origin_of_repeated(l, resize));
  std::vector<int32_t> sources, full;
  for (const ValueId v : chain.operands) {
    const bool repeats = v == resized;
    sources.push_back(repeats ? l.value(resize.inputs[0]) : l.unbroadcast(v, step.nodes));
    if (!repeats) full.push_back(sources.back());
  }
  const Node& n = *l.graph.producer(id);
  std::vector<int64_t> order = common_order(l, full, l.graph.value(id).type().dims);
  if (full.empty()) order = memory_order(l.at(sources[*which])).value_or(order);
  const std::vector<int64_t> each = in_order(factors, order);
  const auto ordered = [&](int32_t source) {
    const int32_t x = l.permuted(l.with_rank(source, order.size()), order);
    return has_neighbours(l.at(x)) ? x : l.dense(x);
  };
  const int32_t from = ordered(sources[*which]);
  const std::vector<Dim> slow = l.at(from).shape;
  for (size_t i = 0; i < sources.size(); ++i) {
    step.inputs.push_back(i == *which ? repeating(l, from, each)
                                      : divided(l, ordered(sources[i]), slow, each));
  }
  step.outputs = {divided(l, l.make_permuted_output(n, 0, order), slow, each)};
  l.add_step(n, std::move(step));
  return true;
}

// What repeats in memory, by so many places of each axis in order.
struct RepeatedValue {
  int32_t from;
  std::vector<int64_t> factors;
};

}  // namespace

RowsBeside rows_beside(Lowering& l, int32_t x, const Node& last,
                       const std::vector<ValueId>& operands, const std::vector<int64_t>& order,
                       Origin& origin) {
  const auto ordered = [&](int32_t source) {
    const int32_t v = l.permuted(l.with_rank(source, order.size()), order);
    return has_neighbours(l.at(v)) ? v : l.dense(v);
  };
  RowsBeside rows{x, -1, {}};
  std::optional<RepeatedValue> repeated;
  size_t which = operands.size();
  for (const ValueId v : operands) {
    if (const auto factors = l.repeated.extract(v)) {
      const Node& resize = *l.graph.producer(v);
      merge_origin(origin, origin_of_repeated(l, resize));
      which = rows.operands.size();
      repeated = {ordered(l.value(resize.inputs[0])), in_order(factors.mapped(), order)};
      rows.operands.push_back(repeated->from);
    } else {
      rows.operands.push_back(ordered(l.unbroadcast(v, origin)));
    }
  }
  rows.y = l.make_permuted_output(last, 0, order);
  if (!repeated) return rows;
  // Along the innermost axis of places the repeated ones become an axis outside of it.
  const std::vector<Dim> slow = l.at(repeated->from).shape;
  const int32_t repeats = repeating(l, repeated->from, repeated->factors);
  std::vector<int64_t> walk(l.at(repeats).shape.size());
  std::iota(walk.begin(), walk.end(), 0);
  const size_t end = walk.size() - 1;
  if (repeated->factors[order.size() - 2] > 1) std::swap(walk[end - 2], walk[end - 1]);
  const auto cut = [&](int32_t v) {
    return l.permuted(divided(l, v, slow, repeated->factors), walk);
  };
  for (size_t i = 0; i < rows.operands.size(); ++i) {
    rows.operands[i] = i == which ? l.permuted(repeats, walk) : cut(rows.operands[i]);
  }
  rows.x = cut(rows.x);
  rows.y = cut(rows.y);
  return rows;
}

void Lowering::flush(ValueId id) {
  const Node& n = *graph.producer(id);
  const bool through = n.is("DequantizeLinear") && graph.uses(id) == 1;
  const Pending chain = through ? ChainBuilder(*this, n).build() : std::move(pending.at(id));
  pending.erase(id);
  if (chain.operands.size() == 1 && ends_deferred(chain.operands[0], id)) {
    return emit_deferred(chain.operands[0], n, chain.program, chain.origin);
  }
  if (const auto at = reading_product(id, chain)) return emit_reading(id, chain, *at);
  if (becomes_table(id, chain)) return table_step(id, chain);
  const auto choice = choose_by_isa(eltwise_rows(), forced());
  Step step{.op = "",
            .params = EltwiseParams{chain.program},
            .inputs = {},
            .outputs = {},
            .kernel = std::string(choice.row->name),
            .nodes = chain.origin,
            .rejected = choice.rejected};
  if (repeated_step(*this, id, chain, step)) return;
  std::vector<int32_t> sources;
  for (const ValueId v : chain.operands) sources.push_back(unbroadcast(v, step.nodes));
  const std::vector<int64_t> order = common_order(*this, sources, graph.value(id).type().dims);
  const bool plain = std::ranges::is_sorted(order);
  for (const int32_t source : sources) {
    const int32_t x = plain ? source : permuted(with_rank(source, order.size()), order);
    step.inputs.push_back(has_neighbours(at(x)) ? x : dense(x));
  }
  step.outputs = {make_permuted_output(n, 0, order)};
  add_step(n, std::move(step));
}

std::string lower_dynamic_quantize(Lowering& l, const Node& n) {
  if (!all_f32(l, n)) return "only fp32 is quantized by kernels";
  const auto choice = choose_by_isa(dynamic_quantize_rows(), l.forced());
  Step step{.op = "",
            .params = DynamicQuantizeParams{},
            .inputs = {l.dense(l.value(n.inputs[0]))},
            .outputs = {},
            .kernel = std::string(choice.row->name),
            .nodes = {},
            .rejected = choice.rejected};
  constexpr DType kTypes[] = {DType::u8, DType::f32, DType::u8};
  for (size_t i = 0; i < 3; ++i) {
    const std::vector<Dim> dims =
        i == 0 ? l.graph.value(n.inputs[0]).type().dims : std::vector<Dim>{};
    const bool wanted = i < n.outputs.size() && n.outputs[i] != kAbsent;
    step.outputs.push_back(wanted ? l.make_output(n, i) : l.make_scratch({kTypes[i], dims}));
  }
  l.add_step(n, std::move(step));
  return "";
}

std::string lower_reduce(Lowering& l, const Node& n) {
  const TensorType& x = l.graph.value(n.inputs[0]).type();
  std::vector<int64_t> axes;
  if (n.input(1) == kAbsent) {
    for (int64_t i = 0; i < x.rank(); ++i) axes.push_back(i);
  } else {
    const auto given = l.graph.value(n.inputs[1]).fact.dims();
    if (!given) return "its axes are known at run time only";
    for (const Dim& d : *given) axes.push_back(checked_axis(d.eval({}), x.rank()));
    std::ranges::sort(axes);
  }
  if (axes.empty()) return "it reduces no axis";
  constexpr std::pair<std::string_view, ReduceKind> kKinds[] = {
      {"ReduceSum", ReduceKind::sum},      {"ReduceMean", ReduceKind::mean},
      {"ReduceMax", ReduceKind::max},      {"ReduceMin", ReduceKind::min},
      {"ReduceL1", ReduceKind::l1},        {"ReduceL2", ReduceKind::l2},
      {"ReduceProd", ReduceKind::product}, {"ReduceSumSquare", ReduceKind::sum_square}};
  const auto* kind = std::ranges::find(kKinds, n.op->name, [](const auto& k) { return k.first; });
  constexpr ReduceKind kExact[] = {ReduceKind::sum, ReduceKind::max, ReduceKind::min,
                                   ReduceKind::product};
  const bool counted = x.dtype == DType::s32 || x.dtype == DType::s64;
  if (x.dtype != DType::f32 && !(counted && std::ranges::count(kExact, kind->second) > 0)) {
    return cat("no kernel for this reduction of ", x.dtype);
  }
  return reduce_step(l, n, kind->second, axes);
}

std::string reduce_step(Lowering& l, const Node& n, ReduceKind kind,
                        const std::vector<int64_t>& axes) {
  const int32_t given = l.value(n.inputs[0]);
  const size_t rank = l.at(given).shape.size();
  const auto reduced = [&](int64_t axis) { return std::ranges::binary_search(axes, axis); };
  // In the order of memory nothing has to move, if the reduced axes are neighbours there too; where
  // they are no neighbours as they stand either, they are moved to the end.
  std::vector<int64_t> order(rank), places, kept;
  std::iota(order.begin(), order.end(), 0);
  const auto neighbours = [&](const std::vector<int64_t>& axes_in_order) {
    const auto first = std::ranges::find_if(axes_in_order, reduced);
    return std::all_of(first, first + static_cast<std::ptrdiff_t>(axes.size()), reduced);
  };
  const auto memory = memory_order(l.at(given));
  if (memory && neighbours(*memory)) {
    order = *memory;
  } else if (!neighbours(order)) {
    std::stable_partition(order.begin(), order.end(), [&](int64_t axis) { return !reduced(axis); });
  }
  const bool keeps = l.graph.value(n.outputs[0]).type().dims.size() == rank;
  for (size_t i = 0; i < rank; ++i) {
    if (reduced(order[i])) places.push_back(static_cast<int64_t>(i));
    if (keeps) {
      kept.push_back(order[i]);
    } else if (!reduced(order[i])) {
      const auto before = std::ranges::count_if(axes, [&](int64_t a) { return a < order[i]; });
      kept.push_back(order[i] - before);
    }
  }
  const auto choice = choose_by_isa(reduce_rows(), l.forced());
  const int32_t source = l.dense(l.permuted(given, order));
  l.add_step(n, {.op = "",
                 .params = ReduceParams{kind, places},
                 .inputs = {source},
                 .outputs = {l.make_permuted_output(n, 0, kept)},
                 .kernel = std::string(choice.row->name),
                 .nodes = {},
                 .rejected = choice.rejected});
  return "";
}

}  // namespace planck
