#pragma once
// Graph -> plan: each node becomes views or steps. This class holds what all of them share; what
// becomes of which op is the table in lower.cpp, by family in lower_*.cpp.
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/knobs.h"
#include "ir/graph.h"
#include "plan/phases.h"
#include "plan/plan.h"
#include "plan/view.h"

namespace planck {

struct LowerOptions {
  bool allow_reference = true;  // fallback="reference"
  std::string force_kernel = knobs().force_kernel;
  bool fast = false;  // precision="fp32-fast"
};

class Lowering {
 public:
  Lowering(const Graph& g, const LowerOptions& options, Plan& plan)
      : graph(g), options_(options), plan(plan) {}
  void run();
  const std::string& forced() const { return options_.force_kernel; }
  bool fast() const { return options_.fast; }

  const Graph& graph;

 private:
  const LowerOptions& options_;

 public:
  Plan& plan;

  // --- values: ids into plan.values ---
  // The plan's value for a graph value; kAbsent gives -1. Constants are added on first use.
  int32_t value(ValueId id);
  PlanValue& at(int32_t id) { return plan.values[static_cast<size_t>(id)]; }
  // The same contents in a form that a kernel takes; adds a copy step where it must.
  int32_t dense(int32_t id);
  int32_t rows(int32_t id);
  // The same contents with the axes in another order, without moving anything.
  int32_t permuted(int32_t id, const std::vector<int64_t>& perm);
  // The same contents with axes of one element in front, up to the rank.
  int32_t with_rank(int32_t id, size_t rank);
  // Part of the value along an axis, the last one unless told otherwise; -1 stays -1.
  int32_t window(int32_t id, int64_t axis, const Dim& start, const Dim& extent);
  int32_t window(int32_t id, int64_t start, int64_t extent);
  // The same memory under other extents and strides.
  int32_t restrided(int32_t id, std::vector<Dim> shape, std::vector<Dim> strides);
  // What a kernel that broadcasts by itself may read instead of a broadcast view.
  int32_t unbroadcast(int32_t id) const;
  // The same of a graph value; adds the nodes that became no step to the origin.
  int32_t unbroadcast(ValueId v, Origin& origin);
  // Fresh memory for output i of the node: the caller's array for a graph output, else the arena.
  // Rows may be padded where the kernel takes a row stride (`padded`).
  int32_t make_output(const Node& n, size_t i, bool padded = false);
  // The same where a kernel writes the axes in another order (axis j of what it writes is axis
  // perm[j] of the output): what the kernel writes. The output is a view of it.
  int32_t make_permuted_output(const Node& n, size_t i, const std::vector<int64_t>& perm);
  // Output i of the node is a window into an existing buffer.
  void make_view(const Node& n, size_t i, PlanValue window, int32_t source);
  int32_t make_constant(PlanConstant constant);
  // Dense memory that only steps of one node use.
  int32_t make_scratch(const TensorType& type);

  // --- steps ---
  // Adds a step; its ONNX nodes are those of the node, of its constants and of views between.
  Step& add_step(const Node& n, Step step);
  // Says in the plan's report why the node does not get what its name promises.
  void refuse(std::string_view what, const Node& n, const std::string& reason);
  // The step runs on the op's reference implementation. UnsupportedError where that is refused.
  void by_reference(const Node& n, std::string_view reason);

  // --- results of Resize that repeat each place, not yet written to memory ---
  // The factor of each axis. The one reader, a Concat or an element-wise op, may read the input of
  // the Resize instead; value() writes the result.
  std::map<ValueId, std::vector<int64_t>> repeated;

  // --- pictures whose batch is two axes in memory, read by one GridSample alone ---
  // Views that would have to move elements; the plan's value has rank 5, channels last.
  std::map<ValueId, int32_t> split_batches;

  // --- results of Concat, not yet written to memory ---
  // A value, or one that is repeated on the way.
  struct ConcatPart {
    int32_t x;
    std::vector<int64_t> factors;  // none: as it is
    Origin origin;
  };
  // The one reader, a convolution, may read the parts instead; value() writes the result.
  std::map<ValueId, std::vector<ConcatPart>> joined;

  // --- element-wise chains, not yet written to memory ---
  // A DequantizeLinear is always one at first: who computes with integers reads its input by
  // value(), which never asks for the floats.
  struct Pending {
    TileProgram program;  // the result is a number of the value's type: fp32, bool, u8 or s8
    std::vector<ValueId> operands;
    Origin origin;
    std::vector<NodeId> nodes;  // whose formulas the program is
  };
  std::map<ValueId, Pending> pending;
  // Writes a pending chain to memory: at the end of the product that it starts from, if it reads
  // nothing else, or as a step of its own.
  void flush(ValueId id);
  // Whether the value has its place in memory.
  bool is_written(ValueId id) const { return values_.contains(id); }
  // Whether the pending chain begins at a product that is not emitted yet.
  bool ends_product(ValueId id) const;

  // --- products whose element-wise tail is not known yet ---
  // Adds the step that ends in `tail` (operand 0 is the product) and writes output 0 of `last`.
  using Emit = std::function<void(const Node& last, const TileProgram& tail, Origin origin)>;
  // Emits now, or when the chain behind the node's output is flushed. `bytes`: the tail may end in
  // u8 or s8 (the type of output 0 of `last`); otherwise it writes fp32.
  void defer(const Node& n, Emit emit, bool bytes = false);
  // The same for a product of fp32 whose rows are the channels (axis 1) of each place: operands 1
  // and up of the tail are `operands`, of the shape of the result or broadcast to it.
  using EmitReading = std::function<void(const Node& last, const TileProgram& tail,
                                         const std::vector<ValueId>& operands, Origin origin)>;
  void defer_reading(const Node& n, EmitReading emit);

 private:
  void add_inputs();
  std::vector<std::string> unknown_extents(const Node& n) const;
  void lower_late(const Node& n, const std::vector<std::string>& found);
  void add_outputs();
  void lower_node(const Node& n);
  // Whether a chain behind the value is deferred with it, up to `last`.
  bool ends_deferred(ValueId id, ValueId last) const;
  bool becomes_table(ValueId id, const Pending& chain);
  void table_step(ValueId id, const Pending& chain);
  void emit_deferred(ValueId id, const Node& last, const TileProgram& tail, Origin origin);
  // The operand of the chain that is a product which may end in it, reading the other operands.
  std::optional<size_t> reading_product(ValueId id, const Pending& chain) const;
  void emit_reading(ValueId id, const Pending& chain, size_t product);
  int32_t new_value(const TensorType& type, std::string name, BufferKind kind, int32_t index,
                    std::vector<Dim> strides);
  std::optional<size_t> output_place(ValueId id) const;
  bool read_by_softmax(ValueId id) const;
  void credit_writer(int32_t v);
  void note_grid(int32_t made, const Node& n);
  int32_t copy_of(int32_t id);  // in the arena, made once
  int32_t copy_into(int32_t id, BufferKind kind, int32_t index);
  Origin origin_of_inputs(const Step& step) const;

  Symbols symbols_;  // that the inputs of a run give, and the steps so far
  Symbols given_;    // the inputs alone
  std::map<ValueId, int32_t> values_;
  struct Deferred {
    EmitReading emit;
    bool bytes, reads;
  };
  std::map<ValueId, Deferred> deferred_;
  std::map<int32_t, Origin> view_origin_;  // plan value -> nodes that became no step
  std::map<int32_t, int32_t> broadcast_of_;
  std::map<int32_t, int32_t> copies_;  // plan value -> its dense copy
  std::map<std::pair<int32_t, std::vector<int64_t>>, int32_t> permuted_;
  std::vector<std::pair<ValueId, const Node*>> order_;
};

// A function for each op that has more than its reference; false: this node cannot, with a reason.
struct Declined {
  std::string reason;
};
using Lower = std::string (*)(Lowering&, const Node&);  // empty: done; else why not

std::string lower_view(Lowering& l, const Node& n);
std::string lower_crop(Lowering& l, const Node& n);
std::string lower_broadcast(Lowering& l, const Node& n);
std::string lower_fill(Lowering& l, const Node& n);
std::string lower_transpose(Lowering& l, const Node& n);
std::string lower_split(Lowering& l, const Node& n);
std::string lower_gather(Lowering& l, const Node& n);
std::string lower_cast(Lowering& l, const Node& n);
std::string lower_linear(Lowering& l, const Node& n);
std::string lower_matmul(Lowering& l, const Node& n);
std::string lower_attention(Lowering& l, const Node& n);
std::string lower_norm(Lowering& l, const Node& n);
std::string lower_add_norm(Lowering& l, const Node& n);
std::string lower_softmax(Lowering& l, const Node& n);
std::string lower_embedding(Lowering& l, const Node& n);
std::string lower_eltwise(Lowering& l, const Node& n);
std::string lower_dynamic_quantize(Lowering& l, const Node& n);
std::string lower_convolution(Lowering& l, const Node& n);
std::string lower_conv_transpose(Lowering& l, const Node& n);
std::string lower_pool(Lowering& l, const Node& n);
std::string lower_global_pool(Lowering& l, const Node& n);
std::string lower_concat(Lowering& l, const Node& n);
// Copies each part to its place, in the order in which the first one lies in memory.
void write_joined(Lowering& l, const Node& concat, const std::vector<Lowering::ConcatPart>& parts);
std::string lower_resize(Lowering& l, const Node& n);
std::string lower_grid_sample(Lowering& l, const Node& n);
// Whether the view joins a batch and heads for a GridSample, which reads both axes where they are.
bool splits_batch(Lowering& l, const Node& view);
std::string lower_roi_align(Lowering& l, const Node& n);
std::string lower_lrn(Lowering& l, const Node& n);
// The ONNX nodes of a Resize that becomes no step of its own.
Origin origin_of_repeated(const Lowering& l, const Node& resize);
// Writes what a Resize repeats, each place `factors` times, to its own memory.
void write_repeated(Lowering& l, const Node& resize, const std::vector<int64_t>& factors);
// The same to memory of the reader `n`: `from` and `to` have the same axes.
void copy_repeated(Lowering& l, const Node& n, int32_t from, int32_t to,
                   const std::vector<int64_t>& factors, const Origin& origin);
// A value as it is read beside one that repeats: the places of each axis, then, where the factor is
// not 1, those that share one. `slow`: the places of what repeats.
int32_t repeating(Lowering& l, int32_t id, const std::vector<int64_t>& factors);
int32_t divided(Lowering& l, int32_t id, const std::vector<Dim>& slow,
                const std::vector<int64_t>& factors);
// That order of a list with an element for each axis.
std::vector<int64_t> in_order(const std::vector<int64_t>& list, const std::vector<int64_t>& order);
std::string lower_reduce(Lowering& l, const Node& n);
std::string lower_count(Lowering& l, const Node& n);
std::string lower_shape(Lowering& l, const Node& n);
std::string lower_integer(Lowering& l, const Node& n);
std::string lower_integer_unary(Lowering& l, const Node& n);
std::string lower_index(Lowering& l, const Node& n);
std::string lower_one_hot(Lowering& l, const Node& n);
std::string lower_cumsum(Lowering& l, const Node& n);
std::string lower_topk(Lowering& l, const Node& n);
std::string lower_arg(Lowering& l, const Node& n);
std::string lower_pad(Lowering& l, const Node& n);
std::string lower_counted_view(Lowering& l, const Node& n);
std::string lower_tile(Lowering& l, const Node& n);
std::string lower_depth(Lowering& l, const Node& n);
std::string lower_recurrent(Lowering& l, const Node& n);
// One value reduced over axes (sorted); also what global pools are.
std::string reduce_step(Lowering& l, const Node& n, ReduceKind kind,
                        const std::vector<int64_t>& axes);
// The program of an activation (ops/activation.h) that ends a product; operand 1 is a residual that
// comes after it, if there is one.
TileProgram activation_program(std::string_view activation, bool residual = false);
bool all_f32(const Lowering& l, const Node& n);
std::vector<int64_t> axis_last(int64_t axis, int64_t rank);
// Whether the node compares integers for one reader alone, a Cast to fp32: one step then does both,
// in the place of the Cast.
bool ends_in_cast(const Graph& g, const Node& n);
// The step of such a pair.
void lower_compared(Lowering& l, const Node& compare, const Node& cast);
// The order of [N,C,..] in which the channels are the last axis.
std::vector<int64_t> channels_last(size_t rank);
// Whether lower_eltwise takes the op: a chain may go on through it.
bool is_eltwise(const Graph& g, const Node& n);
// Whether the value's only reader is element-wise over the same shape, so that it need not be
// written to memory.
bool chain_goes_on(const Graph& g, ValueId id);
// The first reader that makes u8 of the value by constants; null: there is none. Who computes the
// value may do that as well: lower_eltwise leaves out what has its place already.
const Node* quantizing_reader(const Graph& g, ValueId id);
// What such a node does to its operand in memory.
TileProgram own_program(Lowering& l, const Node& n);
// Whether all that reads the value is one chain over the same shape: an element-wise op reads it
// beside what another one makes of it.
bool chain_joins(const Graph& g, ValueId id);
// `then` on what `first` gives: its operand 0 is the result of `first`, the others come behind
// those of `first`.
TileProgram composed(TileProgram first, const TileProgram& then);
// Whether each extent is that of the result or 1, whatever the run's shapes are.
bool surely_broadcasts(const Lowering& l, ValueId v, const std::vector<Dim>& dims);
// What a product and the operands of its tail read and write: rows that walk alike. Where a Resize
// repeats an operand, the rows are those that read different places of it.
struct RowsBeside {
  int32_t x, y;
  std::vector<int32_t> operands;
};
// `x`: what the product reads, in `order`; `origin` gets the nodes that become no step.
RowsBeside rows_beside(Lowering& l, int32_t x, const Node& last,
                       const std::vector<ValueId>& operands, const std::vector<int64_t>& order,
                       Origin& origin);

// Fills plan (values, buffers, constants, steps, ports) from a graph after the passes.
void lower(const Graph& g, const LowerOptions& options, Plan& plan);

}  // namespace planck
