// Element-wise ops become tile programs; a chain whose links are read once becomes one program.
#include <algorithm>
#include <numeric>
#include <optional>

#include "builder/lowering.h"
#include "builder/select.h"
#include "kernels/eltwise/rows.h"
#include "kernels/reduce/rows.h"
#include "ops/reduce.h"
#include "ops/unary.h"

namespace planck {
namespace {

struct EltRow {
  std::string_view op;
  TileOp tile;
};
constexpr EltRow kEltRows[] = {
    {"Add", TileOp::add},
    {"Sub", TileOp::sub},
    {"Mul", TileOp::mul},
    {"Div", TileOp::div},
    {"Pow", TileOp::pow},
    {"Neg", TileOp::neg},
    {"Abs", TileOp::abs},
    {"Sqrt", TileOp::sqrt},
    {"Reciprocal", TileOp::reciprocal},
    {"Exp", TileOp::exp},
    {"Log", TileOp::log},
    {"Erf", TileOp::erf},
    {"Tanh", TileOp::tanh},
    {"Relu", TileOp::relu},
    {"Sigmoid", TileOp::sigmoid},
    {"Gelu", TileOp::gelu_erf},
    {"Min", TileOp::min},
    {"Max", TileOp::max},
    {"Clip", TileOp::min},
    {"PRelu", TileOp::relu},
    {"HardSigmoid", TileOp::min},
    {"HardSwish", TileOp::hard_swish},
};

const EltRow* elt_row(const Node& n) {
  static constexpr EltRow kSwish{"planck.Swish", TileOp::swish};
  if (n.is(kSwish.op)) return &kSwish;
  if (!n.op->domain.empty()) return nullptr;
  const auto* row = std::ranges::find(kEltRows, n.op->name, &EltRow::op);
  return row == std::end(kEltRows) ? nullptr : row;
}

// Keeps programs well inside what the kernels hold, so that a chain never fails to compile.
constexpr size_t kMostInstrs = 24, kMostOperands = 6;

// A scalar constant becomes an instruction, so that it needs no memory.
std::optional<float> scalar_constant(const Graph& g, ValueId id) {
  const Value& v = g.value(id);
  if (!v.is_constant() || v.fact.constant->count() != 1) return std::nullopt;
  return v.fact.constant->as<float>()[0];
}

class ChainBuilder {
 public:
  ChainBuilder(Lowering& l, const Node& n) : lowering_(l), node_(n) {}

  Lowering::Pending build(TileOp op) {
    std::vector<int16_t> in;
    for (const ValueId v : node_.inputs) in.push_back(v == kAbsent ? int16_t{-1} : source(v));
    TileProgram& p = out_.program;
    if (node_.op->name == "Clip") {
      int16_t x = in[0];
      if (in.size() > 1 && in[1] >= 0) x = p.apply(TileOp::max, x, in[1]);
      if (in.size() > 2 && in[2] >= 0) x = p.apply(TileOp::min, x, in[2]);
    } else if (node_.op->name == "PRelu") {  // one of the two terms is 0
      const int16_t below = p.apply(TileOp::min, in[0], p.constant(0));
      const int16_t above = p.apply(TileOp::max, in[0], p.constant(0));
      p.apply(TileOp::add, above, p.apply(TileOp::mul, below, in[1]));
    } else if (node_.op->name == "HardSigmoid") {
      const auto& gate = node_.as<ops::HardSigmoid>();
      const int16_t slope = p.constant(static_cast<float>(gate.alpha));
      const int16_t start = p.constant(static_cast<float>(gate.beta));
      const int16_t ramp = p.apply(TileOp::add, p.apply(TileOp::mul, in[0], slope), start);
      p.apply(TileOp::max, p.apply(TileOp::min, ramp, p.constant(1)), p.constant(0));
    } else if (info(op).arity == 1) {
      p.apply(op, in[0]);
    } else {
      int16_t x = in[0];
      for (size_t i = 1; i < in.size(); ++i) x = p.apply(op, x, in[i]);
    }
    merge_origin(out_.origin, node_.origin);
    return std::move(out_);
  }

 private:
  int16_t source(ValueId v) {
    if (const auto c = scalar_constant(lowering_.graph, v)) {
      merge_origin(out_.origin, lowering_.graph.value(v).origin);
      return out_.program.constant(*c);
    }
    const auto it = lowering_.pending.find(v);
    const bool same = it != lowering_.pending.end() &&
                      lowering_.graph.value(v).type().dims ==
                          lowering_.graph.value(node_.outputs[0]).type().dims &&
                      fits(it->second);
    return same ? inlined(v) : operand(v);
  }

  bool fits(const Lowering::Pending& other) const {
    return out_.program.body.size() + other.program.body.size() < kMostInstrs &&
           out_.operands.size() + other.operands.size() + node_.inputs.size() < kMostOperands;
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
    const Lowering::Pending other = std::move(lowering_.pending.at(v));
    lowering_.pending.erase(v);
    merge_origin(out_.origin, other.origin);
    std::vector<int16_t> renamed;
    for (const TileInstr& i : other.program.body) {
      if (i.op == TileOp::operand) {
        renamed.push_back(operand(other.operands[static_cast<size_t>(i.a)]));
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
};

}  // namespace

bool is_eltwise(const Graph& g, const Node& n) {
  if (elt_row(n) == nullptr || n.outputs.size() != 1) return false;
  if (n.op->name == "Clip" && n.input(1) == kAbsent && n.input(2) == kAbsent) return false;
  if (n.op->name == "Gelu" && n.as<ops::Gelu>().approximate != "none" &&
      n.as<ops::Gelu>().approximate != "tanh") {
    return false;
  }
  if (n.inputs.size() > 3) return false;
  return std::ranges::all_of(
      n.inputs, [&](ValueId v) { return v == kAbsent || g.value(v).type().dtype == DType::f32; });
}

std::string lower_eltwise(Lowering& l, const Node& n) {
  TileOp op = elt_row(n)->tile;
  if (n.op->name == "Gelu" && n.as<ops::Gelu>().approximate == "tanh") op = TileOp::gelu_tanh;
  const ValueId out = n.outputs[0];
  l.pending[out] = ChainBuilder(l, n).build(op);
  if (!chain_goes_on(l.graph, out)) l.flush(out);
  return "";
}

bool chain_goes_on(const Graph& g, ValueId id) {
  const Value& v = g.value(id);
  const bool once = g.uses(id) == 1 && v.readers.size() == 1;
  const Node* reader = once ? &g.node(v.readers[0]) : nullptr;
  return reader != nullptr && is_eltwise(g, *reader) &&
         g.value(reader->outputs[0]).type().dims == v.type().dims;
}

TileProgram composed(TileProgram first, const TileProgram& then) {
  if (then.body.empty()) return first;
  if (first.body.empty()) return then;
  const auto result = static_cast<int16_t>(first.body.size() - 1);
  std::vector<int16_t> renamed;
  for (const TileInstr& i : then.body) {
    const auto at = [&](int16_t k) { return renamed[static_cast<size_t>(k)]; };
    if (i.op == TileOp::operand) {
      renamed.push_back(result);
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
    const auto order = memory_order(v);
    if (!order || (common && *common != *order)) return plain;
    common = order;
  }
  return common.value_or(plain);
}

}  // namespace

void Lowering::flush(ValueId id) {
  const Pending chain = std::move(pending.at(id));
  pending.erase(id);
  const Node& n = *graph.producer(id);
  if (chain.operands.size() == 1 && deferred_.contains(chain.operands[0])) {
    return emit_deferred(chain.operands[0], n, chain.program, chain.origin);
  }
  const auto choice = choose_by_isa(eltwise_rows(), forced());
  Step step{.op = "",
            .params = EltwiseParams{chain.program},
            .inputs = {},
            .outputs = {},
            .kernel = std::string(choice.row->name),
            .nodes = chain.origin,
            .rejected = choice.rejected};
  std::vector<int32_t> sources;
  for (const ValueId v : chain.operands) {
    const int32_t operand = value(v);
    sources.push_back(unbroadcast(operand));
    if (sources.back() != operand) merge_origin(step.nodes, view_origin_[operand]);
    merge_origin(step.nodes, graph.value(v).origin);
  }
  const std::vector<int64_t> order = common_order(*this, sources, graph.value(id).type().dims);
  const bool plain = std::ranges::is_sorted(order);
  for (const int32_t source : sources) {
    step.inputs.push_back(dense(plain ? source : permuted(with_rank(source, order.size()), order)));
  }
  step.outputs = {make_permuted_output(n, 0, order)};
  add_step(n, std::move(step));
}

std::string lower_reduce(Lowering& l, const Node& n) {
  const TensorType& x = l.graph.value(n.inputs[0]).type();
  if (x.dtype != DType::f32) return "only fp32 reductions have kernels";
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
  constexpr std::pair<std::string_view, ReduceKind> kKinds[] = {{"ReduceSum", ReduceKind::sum},
                                                                {"ReduceMean", ReduceKind::mean},
                                                                {"ReduceMax", ReduceKind::max},
                                                                {"ReduceMin", ReduceKind::min},
                                                                {"ReduceL2", ReduceKind::l2}};
  const auto* kind = std::ranges::find(kKinds, n.op->name, [](const auto& k) { return k.first; });
  return reduce_step(l, n, kind->second, axes);
}

std::string reduce_step(Lowering& l, const Node& n, ReduceKind kind,
                        const std::vector<int64_t>& axes) {
  const int32_t given = l.value(n.inputs[0]);
  const size_t rank = l.at(given).shape.size();
  const auto reduced = [&](int64_t axis) { return std::ranges::binary_search(axes, axis); };
  // In the order of memory nothing has to move, if the reduced axes are neighbours there too.
  std::vector<int64_t> order(rank), places, kept;
  std::iota(order.begin(), order.end(), 0);
  if (const auto memory = memory_order(l.at(given))) {
    std::vector<int64_t> at;
    for (size_t i = 0; i < rank; ++i) {
      if (reduced((*memory)[i])) at.push_back(static_cast<int64_t>(i));
    }
    if (at.back() - at.front() + 1 == static_cast<int64_t>(at.size())) order = *memory;
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
  if (places.back() - places.front() + 1 != static_cast<int64_t>(places.size())) {
    return "the reduced axes are not neighbours";
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
