// Einsum as what it is made of: sums over axes, transposes, and one product for each further input,
// which is a MatMul where labels are summed and a Mul where none is.
#include <algorithm>

#include "importer/recipes.h"

namespace planck::importer {
namespace {

// A tensor with a label for each axis. The axes of an ellipsis have the labels 1, 2, ..
struct Term {
  ValueId value;
  std::string labels;
};

struct Equation {
  std::vector<std::string> inputs;
  std::string output;
};

bool has(std::string_view labels, char label) { return labels.find(label) != std::string::npos; }

// Labels of `all` that are in `wanted`, or those that are not.
std::string those_in(std::string_view all, std::string_view wanted, bool in = true) {
  std::string out;
  for (const char label : all) {
    if (has(wanted, label) == in) out += label;
  }
  return out;
}

// --- the equation ---------------------------------------------------------------------------

constexpr std::string_view kEllipsis = "...";

struct Parser {
  std::string text;

  [[noreturn]] void fail(const auto&... why) const {
    throw GraphError("Einsum '", text, "': ", why...);
  }

  // The letters of a side, with the labels that the ellipsis stands for in its place.
  std::string labels(std::string_view side, std::string_view ellipsis) const {
    std::string out;
    for (size_t i = 0; i < side.size(); ++i) {
      const char c = side[i];
      if (side.substr(i, kEllipsis.size()) == kEllipsis) {
        out += ellipsis;
        i += kEllipsis.size() - 1;
      } else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
        out += c;
      } else {
        fail("there is no label '", c, "'");
      }
    }
    return out;
  }

  // How many axes the ellipsis of a term stands for.
  int64_t open_axes(std::string_view side, int64_t rank) const {
    const int64_t open = rank - std::ssize(labels(side, ""));
    if (open < 0 || (open > 0 && side.find(kEllipsis) == std::string_view::npos)) {
      fail("the term '", side, "' is for a tensor of rank ", rank);
    }
    return open;
  }

  Equation equation(const std::vector<int64_t>& ranks) const {
    std::string plain = text;
    std::erase(plain, ' ');
    const size_t arrow = plain.find("->");
    std::vector<std::string> sides(1);
    for (const char c : plain.substr(0, arrow)) {
      if (c == ',') {
        sides.emplace_back();
      } else {
        sides.back() += c;
      }
    }
    if (sides.size() != ranks.size()) {
      fail("it has ", sides.size(), " terms for ", ranks.size(), " inputs");
    }
    int64_t most = 0;
    for (size_t i = 0; i < sides.size(); ++i) most = std::max(most, open_axes(sides[i], ranks[i]));
    std::string ellipsis;
    for (int64_t i = 0; i < most; ++i) ellipsis += static_cast<char>(i + 1);
    Equation out;
    std::string all;
    for (size_t i = 0; i < sides.size(); ++i) {
      const auto open = static_cast<size_t>(open_axes(sides[i], ranks[i]));
      out.inputs.push_back(
          labels(sides[i], std::string_view(ellipsis).substr(ellipsis.size() - open)));
      all += out.inputs.back();
    }
    out.output = arrow == std::string::npos ? implied(all, ellipsis)
                                            : labels(plain.substr(arrow + 2), ellipsis);
    for (const char label : out.output) {
      if (!has(all, label) || std::ranges::count(out.output, label) > 1) {
        fail("the output's label '", label, "' must be that of an input, and come once");
      }
    }
    return out;
  }

  // What comes once, in alphabetical order, behind the ellipsis.
  static std::string implied(const std::string& all, const std::string& ellipsis) {
    std::string out;
    for (const char label : all) {
      if (!has(ellipsis, label) && std::ranges::count(all, label) == 1) out += label;
    }
    std::ranges::sort(out);
    return ellipsis + out;
  }
};

// --- its pieces -----------------------------------------------------------------------------

int64_t place_of(const Term& term, char label) {
  return static_cast<int64_t>(term.labels.find(label));
}

Term transposed(Emitter& e, const Term& term, const std::string& order) {
  if (term.labels == order) return term;
  Ints perm;
  for (const char label : order) perm.push_back(place_of(term, label));
  return {e.node("Transpose", {term.value}, {{"perm", perm}}), order};
}

Term summed(Emitter& e, const Term& term, std::string_view kept) {
  Ints axes;
  for (const char label : those_in(term.labels, kept, false)) axes.push_back(place_of(term, label));
  if (axes.empty()) return term;
  return {e.node("ReduceSum", {term.value, e.ints(axes)}, {{"keepdims", 0}}),
          those_in(term.labels, kept)};
}

// Extents of the labels as s64 [count].
ValueId extents(Emitter& e, const Term& term, std::string_view labels) {
  Ints places;
  for (const char label : labels) places.push_back(place_of(term, label));
  return e.node("Gather", {e.node("Shape", {term.value}), e.ints(places)}, {{"axis", 0}});
}

ValueId joined_lists(Emitter& e, const Values& lists) {
  return lists.size() == 1 ? lists[0] : e.node("Concat", lists, {{"axis", 0}});
}

// One label for two axes: every (n + 1)-th element of both axes in a row.
Term diagonal(Emitter& e, Term term, const Parser& parser) {
  for (size_t i = 0; i < term.labels.size(); ++i) {
    const char label = term.labels[i];
    const size_t other = term.labels.find(label, i + 1);
    if (other == std::string::npos) continue;
    const auto extent = e.fact(term.value).type.dims[i].known();
    if (!extent || e.fact(term.value).type.dims[other].known() != extent) {
      throw UnsupportedError("Einsum '", parser.text, "' takes the diagonal of ",
                             e.fact(term.value).type, ", whose extents must be known and equal");
    }
    Ints perm;
    std::string rest;
    for (size_t k = 0; k < term.labels.size(); ++k) {
      if (k == i || k == other) continue;
      perm.push_back(static_cast<int64_t>(k));
      rest += term.labels[k];
    }
    perm.push_back(static_cast<int64_t>(i));
    perm.push_back(static_cast<int64_t>(other));
    const ValueId last = e.node("Transpose", {term.value}, {{"perm", perm}});
    Ints shape(rest.size(), 0);  // 0: as it is
    shape.push_back(*extent * *extent);
    const ValueId flat = e.node("Reshape", {last, e.ints(shape)});
    term.value = e.node("Slice", {flat, e.ints({0}), e.ints({*extent * *extent}), e.ints({-1}),
                                  e.ints({*extent + 1})});
    term.labels = rest + label;
    i = static_cast<size_t>(-1);  // from the start: more axes may share a label
  }
  return term;
}

// Axes of 1 where the term lacks a label of `order`, else its own.
ValueId spread(Emitter& e, const Term& term, const std::string& order) {
  const Term own = transposed(e, term, those_in(order, term.labels));
  Ints axes;
  for (size_t i = 0; i < order.size(); ++i) {
    if (!has(term.labels, order[i])) axes.push_back(static_cast<int64_t>(i));
  }
  return axes.empty() ? own.value : unsqueezed(e, own.value, axes);
}

// The labels of `first`, those of `rows` as one axis, those of `columns` as another.
ValueId matrices(Emitter& e, const Term& term, const std::string& first, const std::string& rows,
                 const std::string& columns) {
  const Term own = transposed(e, term, first + rows + columns);
  if (rows.size() == 1 && columns.size() == 1) return own.value;
  // Not ReduceProd: what a list of extents holds is followed through products alone.
  const auto one = [&](const std::string& labels) {
    ValueId count = e.ints({1});
    for (const char label : labels) {
      count = binary(e, "Mul", count, extents(e, own, std::string_view(&label, 1)));
    }
    return count;
  };
  Values shape;
  if (!first.empty()) shape.push_back(extents(e, own, first));
  shape.push_back(one(rows));
  shape.push_back(one(columns));
  return e.node("Reshape", {own.value, joined_lists(e, shape)}, {{"allowzero", 1}});
}

// Whether the other side decides the extent: an axis of an ellipsis may be 1 on one of them.
bool is_one(const Emitter& e, const Term& term, char label) {
  return e.fact(term.value).type.dims[term.labels.find(label)] == Dim(1);
}

Term multiplied(Emitter& e, const Term& a, const Term& b, std::string_view kept) {
  const std::string both = those_in(a.labels, b.labels);
  const std::string batch = those_in(both, kept), inner = those_in(both, kept, false);
  const std::string rows = those_in(a.labels, both, false);
  const std::string columns = those_in(b.labels, both, false);
  const std::string order = batch + rows + columns;
  if (inner.empty()) {
    return {binary(e, "Mul", spread(e, a, order), spread(e, b, order)), order};
  }
  const ValueId product =
      e.node("MatMul", {matrices(e, a, batch, rows, inner), matrices(e, b, batch, inner, columns)});
  if (rows.size() == 1 && columns.size() == 1) return {product, order};
  Values shape;
  for (const char label : batch) {
    shape.push_back(extents(e, is_one(e, a, label) ? b : a, std::string_view(&label, 1)));
  }
  if (!rows.empty()) shape.push_back(extents(e, a, rows));
  if (!columns.empty()) shape.push_back(extents(e, b, columns));
  const ValueId target = shape.empty() ? e.ints({}) : joined_lists(e, shape);
  return {e.node("Reshape", {product, target}, {{"allowzero", 1}}), order};
}

}  // namespace

Values expand_einsum(Draft& draft, Emitter& e) {
  const Parser parser{needed<std::string>(draft, "equation")};
  std::vector<int64_t> ranks;
  for (size_t i = 0; i < draft.inputs.size(); ++i) {
    ranks.push_back(e.fact(needed_input(draft, i)).type.rank());
  }
  const Equation equation = parser.equation(ranks);
  std::vector<Term> terms;
  for (size_t i = 0; i < draft.inputs.size(); ++i) {
    terms.push_back(diagonal(e, {draft.inputs[i], equation.inputs[i]}, parser));
  }
  Term out = terms[0];
  for (size_t i = 1; i < terms.size(); ++i) {
    std::string kept = equation.output;
    for (size_t k = i + 1; k < terms.size(); ++k) kept += terms[k].labels;
    out = multiplied(e, summed(e, out, kept + terms[i].labels),
                     summed(e, terms[i], kept + out.labels), kept);
  }
  return {transposed(e, summed(e, out, equation.output), equation.output).value};
}

}  // namespace planck::importer
