#pragma once
// What an op is: typed attributes, inference, reference. Which ops there are: ops/ops.inc.
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/fields.h"
#include "base/tensor.h"

namespace planck {

// The tolerance class of every test of the op.
enum class Accuracy : uint8_t {
  exact,      // moves or compares values; bit for bit
  rounding,   // a few roundings for each element
  reduction,  // sums: error bound grows with their length
};

// What is known of a value at build time.
struct Fact {
  TensorType type;
  std::shared_ptr<const Tensor> constant;    // contents, if known
  std::optional<std::vector<Dim>> contents;  // of a small integer tensor, row-major, symbolic

  // Contents as Dims, from either source; nothing if they are not known.
  std::optional<std::vector<Dim>> dims() const;
};

// One call of infer: reads in[i] (null: absent optional input), sets out[i].
struct Inference {
  std::span<const Fact* const> in;
  std::span<Fact> out;  // as many as the node has outputs
  // A dimension that only the run knows (NonZero): a fresh symbol, the same one on every call for
  // the same node and index.
  std::function<Dim(int index)> fresh;

  const Fact& at(size_t i) const;  // InternalError when absent: arity was checked before
  bool has(size_t i) const { return i < in.size() && in[i] != nullptr; }
};

// One call of reference: in[i] may be null; sets out[i] with its actual shape.
struct Evaluation {
  std::span<const Wide* const> in;
  std::span<Wide> out;
  const Bindings* bindings = nullptr;  // values of the symbols in attributes such as View's shape

  const Wide& at(size_t i) const { return *in[i]; }
  bool has(size_t i) const { return i < in.size() && in[i] != nullptr; }
};

// Attributes of one node: a typed struct behind a pointer to const.
using Attrs = std::shared_ptr<const void>;

struct OpDef {
  std::string_view name;    // ONNX name, or ours in domain "planck"
  std::string_view domain;  // "" is ONNX
  int version = 0;          // ONNX version whose meaning it has; 0: ours
  Accuracy accuracy = Accuracy::exact;
  int min_inputs = 0, max_inputs = 0;  // max -1: any number
  int min_outputs = 1, max_outputs = 1;
  Attrs (*parse)(const Json& attrs) = nullptr;  // strict; GraphError names the attribute
  void (*write)(const void* attrs, FieldWriter& writer) = nullptr;
  void (*infer)(const void* attrs, Inference& call) = nullptr;
  void (*reference)(const void* attrs, Evaluation& call) = nullptr;

  // All attributes as JSON, defaults included.
  Json print(const void* attrs) const;

  // "Softmax" or "planck.Linear": how the text IR and reports spell it.
  std::string text() const {
    return domain.empty() ? std::string(name) : std::string(domain) + "." + std::string(name);
  }
};

struct Arity {
  int min_inputs, max_inputs, min_outputs = 1, max_outputs = 1;
};

// How many inputs and outputs a node of the op may have, absent ones included. GraphError.
void check_arity(const OpDef& op, size_t inputs, size_t outputs);

template <class Op>
OpDef make_op_def(std::string_view domain, int version) {
  return {
      Op::kName,
      domain,
      version,
      Op::kAccuracy,
      Op::kArity.min_inputs,
      Op::kArity.max_inputs,
      Op::kArity.min_outputs,
      Op::kArity.max_outputs,
      [](const Json& attrs) -> Attrs { return std::make_shared<const Op>(from_json<Op>(attrs)); },
      [](const void* attrs, FieldWriter& writer) {
        Op::fields(*static_cast<const Op*>(attrs), writer);
      },
      [](const void* attrs, Inference& call) { static_cast<const Op*>(attrs)->infer(call); },
      [](const void* attrs, Evaluation& call) { static_cast<const Op*>(attrs)->reference(call); }};
}

// Defines the function that a row of ops.inc names: listed but not compiled is a link error.
// PLANCK_OP is for ONNX ops, PLANCK_OWN_OP for ours.
#define PLANCK_OP(Op, version)                             \
  const OpDef& op_##Op() {                                 \
    static const OpDef def = make_op_def<Op>("", version); \
    return def;                                            \
  }
#define PLANCK_OWN_OP(Op)                                  \
  const OpDef& op_##Op() {                                 \
    static const OpDef def = make_op_def<Op>("planck", 0); \
    return def;                                            \
  }

class OpTable {
 public:
  void add(const OpDef& def) { defs_.emplace(def.text(), &def); }
  // "Add" or "planck.Linear"; null if there is no such op.
  const OpDef* find(std::string_view text) const;
  const OpDef& at(std::string_view text) const;  // UnsupportedError
  const std::map<std::string, const OpDef*, std::less<>>& all() const { return defs_; }

 private:
  std::map<std::string, const OpDef*, std::less<>> defs_;
};

// --- helpers for the ops -------------------------------------------------------------------

// ONNX axis rule: [-rank, rank), negative counts from the back. GraphError names both.
int64_t checked_axis(int64_t axis, int64_t rank);

// NumPy broadcasting of symbolic shapes. Unequal symbols are taken as equal unless one is 1 (the
// run checks); two unequal constants are a GraphError.
std::vector<Dim> broadcast(std::span<const Dim> a, std::span<const Dim> b);
Shape broadcast_shapes(std::span<const int64_t> a, std::span<const int64_t> b);
// For each element of `shape` in row-major order, its element index in a tensor of shape `from`
// broadcast to it. RunError if `from` does not broadcast.
std::vector<int64_t> broadcast_index(std::span<const int64_t> from, std::span<const int64_t> shape);

// One 1-D run of elements along an axis.
struct Lane {
  int64_t start, step, count;
  int64_t at(int64_t i) const { return start + i * step; }
};
std::vector<Lane> lanes(std::span<const int64_t> shape, int64_t axis);

std::vector<int64_t> row_major_strides(std::span<const int64_t> shape);

}  // namespace planck
