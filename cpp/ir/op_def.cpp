#include "ir/op_def.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/checked.h"
#include "base/guard.h"

namespace planck {

std::optional<std::vector<Dim>> Fact::dims() const {
  if (contents) return contents;
  constexpr int64_t kMost = 4096;  // shape tensors are short; data are not worth copying
  if (constant == nullptr || is_float(constant->dtype()) || constant->count() > kMost) {
    return std::nullopt;
  }
  const Wide wide = widen(*constant);
  return std::vector<Dim>(wide.integer.begin(), wide.integer.end());
}

const Fact& Inference::at(size_t i) const {
  if (!has(i)) throw InternalError("inference reads the absent input ", i);
  return *in[i];
}

Json OpDef::print(const void* attrs) const {
  Json json = Json::object();
  FieldWriter writer(json);
  write(attrs, writer);
  return json;
}

namespace {

void check_count(const OpDef& op, std::string_view what, size_t got, int low, int high) {
  const auto count = static_cast<int64_t>(got);
  if (count >= low && (high < 0 || count <= high)) return;
  GraphError error(op.text(), ' ', what == "inputs" ? "takes " : "gives ", low,
                   high < 0 ? " or more" : (high == low ? "" : cat(" to ", high)), ' ', what,
                   ", got ", got);
  error.fields.op_type = op.name;
  throw error;
}

}  // namespace

void check_arity(const OpDef& op, size_t inputs, size_t outputs) {
  check_count(op, "inputs", inputs, op.min_inputs, op.max_inputs);
  check_count(op, "outputs", outputs, op.min_outputs, op.max_outputs);
}

const OpDef* OpTable::find(std::string_view text) const {
  const auto it = defs_.find(text);
  return it == defs_.end() ? nullptr : it->second;
}

const OpDef& OpTable::at(std::string_view text) const {
  const OpDef* def = find(text);
  if (def == nullptr) throw UnsupportedError("op '", text, "' is not supported");
  return *def;
}

int64_t checked_axis(int64_t axis, int64_t rank) {
  if (axis < -rank || axis >= rank) {
    throw GraphError("axis ", axis, " is outside [", -rank, ", ", rank, ")");
  }
  return axis < 0 ? axis + rank : axis;
}

std::vector<Dim> broadcast(std::span<const Dim> a, std::span<const Dim> b) {
  std::vector<Dim> out(std::max(a.size(), b.size()), Dim(1));
  const auto put = [&](std::span<const Dim> dims) {
    for (size_t i = 0; i < dims.size(); ++i) {
      Dim& d = out[out.size() - dims.size() + i];
      const Dim& mine = dims[i];
      if (d == Dim(1)) {
        d = mine;
      } else if (mine.is_constant() && mine != Dim(1)) {
        if (d.is_constant() && d != mine) {
          throw GraphError("shapes [", joined(a, ","), "] and [", joined(b, ","),
                           "] do not broadcast: ", d, " against ", mine);
        }
        d = mine;  // a number says more than a symbol
      }
    }
  };
  put(a);
  put(b);
  return out;
}

Shape broadcast_shapes(std::span<const int64_t> a, std::span<const int64_t> b) {
  Shape out(std::max(a.size(), b.size()), 1);
  for (const auto dims : {a, b}) {
    for (size_t i = 0; i < dims.size(); ++i) {
      int64_t& d = out[out.size() - dims.size() + i];
      if (d == 1) {
        d = dims[i];
      } else if (dims[i] != 1 && dims[i] != d) {
        throw RunError("shapes ", shape_text(a), " and ", shape_text(b), " do not broadcast");
      }
    }
  }
  return out;
}

std::vector<int64_t> broadcast_index(std::span<const int64_t> from,
                                     std::span<const int64_t> shape) {
  if (from.size() > shape.size()) {
    throw RunError(shape_text(from), " does not broadcast to ", shape_text(shape));
  }
  const size_t skip = shape.size() - from.size();
  const std::vector<int64_t> dense = row_major_strides(from);
  std::vector<int64_t> strides(shape.size(), 0);
  for (size_t i = 0; i < from.size(); ++i) {
    if (from[i] != 1 && from[i] != shape[skip + i]) {
      throw RunError(shape_text(from), " does not broadcast to ", shape_text(shape));
    }
    strides[skip + i] = from[i] == 1 ? 0 : dense[i];
  }
  std::vector<int64_t> out(static_cast<size_t>(checked_count(shape)));
  std::vector<int64_t> digits(shape.size(), 0);
  int64_t at = 0;
  for (int64_t& index : out) {
    check_guard_at(static_cast<size_t>(&index - out.data()));
    index = at;
    for (size_t d = shape.size(); d-- > 0;) {
      at += strides[d];
      if (++digits[d] < shape[d]) break;
      at -= strides[d] * shape[d];
      digits[d] = 0;
    }
  }
  return out;
}

std::vector<Lane> lanes(std::span<const int64_t> shape, int64_t axis) {
  int64_t outer = 1, inner = 1;
  const int64_t count = shape[static_cast<size_t>(axis)];
  for (int64_t i = 0; i < axis; ++i) outer *= shape[static_cast<size_t>(i)];
  for (size_t i = static_cast<size_t>(axis) + 1; i < shape.size(); ++i) inner *= shape[i];
  std::vector<Lane> out;
  for (int64_t o = 0; o < outer; ++o) {
    check_guard();
    for (int64_t i = 0; i < inner; ++i) out.push_back({o * count * inner + i, inner, count});
  }
  return out;
}

std::vector<int64_t> row_major_strides(std::span<const int64_t> shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
  return strides;
}

}  // namespace planck
