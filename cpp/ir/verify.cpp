#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "base/guard.h"
#include "ir/graph.h"

namespace planck {
namespace {

void verify_links(const Graph& g, const Node& n) {
  const auto check = [&](bool good, const auto&... text) {
    if (!good) throw InternalError(n.op->text(), " node ", n.id, ": ", text...);
  };
  check(n.alive, "is dead but linked");
  check(n.previous == kNoNode ? g.first() == n.id : g.node(n.previous).next == n.id, "bad link");
  for (const ValueId v : n.inputs) {
    if (v == kAbsent) continue;
    const auto& readers = g.value(v).readers;
    check(std::ranges::count(readers, n.id) == std::ranges::count(n.inputs, v), label(g, v),
          " does not list this reader");
  }
  for (const ValueId v : n.outputs) {
    if (v != kAbsent) check(g.value(v).producer == n.id, label(g, v), " has another producer");
  }
}

void verify_order(const Graph& g) {
  std::vector<bool> defined(g.value_count());
  for (size_t i = 0; i < defined.size(); ++i) {
    defined[i] = g.value(static_cast<ValueId>(i)).is_constant();
  }
  for (const ValueId v : g.inputs) defined[static_cast<size_t>(v)] = true;
  int64_t count = 0;
  for (const Node& n : g.nodes()) {
    ++count;
    for (const ValueId v : n.inputs) {
      if (v != kAbsent && !defined[static_cast<size_t>(v)]) {
        throw InternalError(n.op->text(), " reads ", label(g, v), " before it is defined");
      }
    }
    for (const ValueId v : n.outputs) {
      if (v != kAbsent) defined[static_cast<size_t>(v)] = true;
    }
  }
  if (count != g.node_count()) throw InternalError("the node list has lost nodes");
  for (const ValueId v : g.outputs) {
    if (!defined[static_cast<size_t>(v)]) {
      throw InternalError("graph output ", label(g, v), " is not defined");
    }
  }
}

// The grid of a constant has as many scales and zero points as it says, and every scale is one.
void verify_quant(const Value& v) {
  const QParams& q = *v.quant;
  const auto fail = [&](const auto&... text) {
    throw InternalError("the grid of ", v.type(), ": ", text...);
  };
  if (!is_float(v.type().dtype)) fail("it belongs to floats");
  const int64_t count = count_of_scales(q, v.fact.constant->shape());
  const auto scales = static_cast<int64_t>(q.scale.size());
  if (scales != count || q.zero_point.size() != q.scale.size()) {
    fail(scales, " scales and ", q.zero_point.size(), " zero points, expected ", count);
  }
  for (const float s : q.scale) {
    if (!std::isfinite(s) || s <= 0) fail("a scale is ", s);
  }
}

}  // namespace

void verify_node(const Graph& g, NodeId id) {
  const Node& n = g.node(id);
  verify_links(g, n);
  const std::vector<Fact> inferred = infer_node(g, n);
  for (size_t i = 0; i < inferred.size(); ++i) {
    if (n.outputs[i] == kAbsent) continue;
    const TensorType& have = g.value(n.outputs[i]).type();
    // A refined fact may say more than the node alone infers, never another type or rank.
    if (inferred[i].type.dtype != have.dtype || inferred[i].type.rank() != have.rank()) {
      throw InternalError(n.op->text(), " infers ", inferred[i].type, ", the graph says ", have);
    }
  }
}

void verify(const Graph& g) {
  if (g.outputs.size() != g.output_names.size()) throw InternalError("outputs without names");
  verify_order(g);
  for (size_t i = 0; i < g.value_count(); ++i) {
    const Value& v = g.value(static_cast<ValueId>(i));
    if (v.quant != nullptr && v.is_constant()) verify_quant(v);
  }
  for (const Node& n : g.nodes()) {
    check_guard();
    verify_node(g, n.id);
  }
}

}  // namespace planck
