// Integers element by element, and choices between branches of any type.
#include <algorithm>

#include "builder/lowering.h"
#include "builder/select.h"
#include "kernels/integer/rows.h"
#include "passes/tools.h"

namespace planck {
namespace {

struct IntegerOpRow {
  std::string_view op;
  IntegerKind kind;
  bool swapped = false;
};
constexpr IntegerOpRow kIntegerOps[] = {
    {"Add", IntegerKind::add},
    {"Sub", IntegerKind::sub},
    {"Mul", IntegerKind::mul},
    {"Min", IntegerKind::min},
    {"Max", IntegerKind::max},
    {"Equal", IntegerKind::equal},
    {"Less", IntegerKind::less},
    {"LessOrEqual", IntegerKind::less_equal},
    {"Greater", IntegerKind::less, true},
    {"GreaterOrEqual", IntegerKind::less_equal, true},
    {"Where", IntegerKind::select},
};

const IntegerOpRow* row_of(const Node& n) {
  if (!n.op->domain.empty()) return nullptr;
  const auto* row = std::ranges::find(kIntegerOps, n.op->name, &IntegerOpRow::op);
  return row == std::end(kIntegerOps) ? nullptr : row;
}

bool is_counted(DType dtype) { return dtype == DType::s32 || dtype == DType::s64; }

// The node's step; it writes output 0 of `last`.
void add_integer_step(Lowering& l, const Node& n, const Node& last) {
  const IntegerOpRow& row = *row_of(n);
  const auto choice = choose_by_isa(integer_rows(), l.forced());
  Step step{.op = "",
            .params = IntegerParams{row.kind},
            .inputs = {},
            .outputs = {},
            .kernel = std::string(choice.row->name),
            .nodes = n.origin,
            .rejected = choice.rejected};
  for (const ValueId v : n.inputs) step.inputs.push_back(l.dense(l.unbroadcast(v, step.nodes)));
  if (row.swapped) std::swap(step.inputs[0], step.inputs[1]);
  step.outputs = {l.make_output(last, 0)};
  l.add_step(last, std::move(step));
}

}  // namespace

bool ends_in_cast(const Graph& g, const Node& n) {
  const IntegerOpRow* row = row_of(n);
  if (row == nullptr || row->kind < IntegerKind::equal || row->kind > IntegerKind::less_equal) {
    return false;
  }
  const Value& out = g.value(n.outputs[0]);
  if (!is_counted(g.value(n.inputs[0]).type().dtype) || g.uses(out.id) != 1 ||
      out.readers.size() != 1) {
    return false;
  }
  const Node& reader = g.node(out.readers[0]);
  return reader.is("Cast") && g.value(reader.outputs[0]).type().dtype == DType::f32;
}

void lower_compared(Lowering& l, const Node& compare, const Node& cast) {
  add_integer_step(l, compare, cast);
}

std::string lower_integer(Lowering& l, const Node& n) {
  const IntegerKind kind = row_of(n)->kind;
  const DType dtype = l.graph.value(n.inputs.back()).type().dtype;
  if (kind != IntegerKind::select) {
    if (!is_counted(dtype)) return cat("no kernel for this op on ", dtype);
    if (n.inputs.size() != 2) return cat("it joins ", n.inputs.size(), " operands");
  }
  if (!ends_in_cast(l.graph, n)) add_integer_step(l, n, n);
  return "";
}

namespace {

void join_step(Lowering& l, const Node& n, IntegerKind kind, int32_t a, int32_t b, int32_t to) {
  const auto choice = choose_by_isa(integer_rows(), l.forced());
  l.add_step(n, {.op = "",
                 .params = IntegerParams{kind},
                 .inputs = {a, b},
                 .outputs = {to},
                 .kernel = std::string(choice.row->name),
                 .nodes = {},
                 .rejected = choice.rejected});
}

}  // namespace

// Neg, Abs, Sign and Clip, by the joins of two operands.
std::string lower_integer_unary(Lowering& l, const Node& n) {
  const TensorType& type = l.graph.value(n.outputs[0]).type();
  if (!is_counted(type.dtype)) return cat("no kernel for this op on ", type.dtype);
  const auto number = [&](double v) {
    return l.make_constant({"", filled(type.dtype, {}, v), {}});
  };
  const int32_t x = l.dense(l.value(n.inputs[0]));
  if (n.is("Neg")) {
    join_step(l, n, IntegerKind::sub, number(0), x, l.make_output(n, 0));
    return "";
  }
  if (n.is("Abs")) {
    const int32_t negated = l.make_scratch(type);
    join_step(l, n, IntegerKind::sub, number(0), x, negated);
    join_step(l, n, IntegerKind::max, x, negated, l.make_output(n, 0));
    return "";
  }
  const bool sign = n.is("Sign");
  const int32_t low = sign ? number(-1) : l.dense(l.value(n.input(1)));
  const int32_t high = sign ? number(1) : l.dense(l.value(n.input(2)));
  if (low < 0 && high < 0) return "it has no bounds";
  const int32_t raised = low < 0 ? x : high < 0 ? l.make_output(n, 0) : l.make_scratch(type);
  if (low >= 0) join_step(l, n, IntegerKind::max, x, low, raised);
  if (high >= 0) join_step(l, n, IntegerKind::min, raised, high, l.make_output(n, 0));
  return "";
}

}  // namespace planck
