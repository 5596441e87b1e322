#pragma once
// The built result, as data: values, buffers, constants, steps, provenance. Nothing in it is code;
// kernels are named by their manifest rows. Shapes stay symbolic until a binding is made.
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "base/recurrent.h"
#include "base/resample.h"
#include "base/tensor.h"
#include "base/tile_program.h"

namespace planck {

enum class BufferKind : uint8_t { input, output, constant, arena };

// Memory that one or more values lie in.
struct PlanBuffer {
  BufferKind kind = BufferKind::arena;
  int32_t index = 0;  // of the input, output or constant
  Dim elements;       // capacity
  int64_t element_size = 4;
  static void fields(auto& s, auto& visit) {
    visit("kind", s.kind);
    visit("index", s.index);
    visit("elements", s.elements);
    visit("element_size", s.element_size);
  }
};

// How a weight was rearranged for its kernel; the row's unpack is the inverse.
struct Packing {
  std::string kernel;  // empty: row-major as in the model
  int64_t n = 0, k = 0;
  static void fields(auto& s, auto& visit) {
    visit("kernel", s.kernel);
    visit("n", s.n);
    visit("k", s.k);
  }
};

struct PlanConstant {
  std::string name;
  Tensor tensor;  // packed: f32, or s8 for integer products; rank 1
  Packing packing;
};

// One tensor: a strided window into a buffer. Views share the buffer of what they look at.
struct PlanValue {
  std::string name;  // the ONNX tensor that it equals; empty for ours
  DType dtype = DType::f32;
  std::vector<Dim> shape;
  int32_t buffer = -1;
  Dim offset;                // elements from the start of the buffer
  std::vector<Dim> strides;  // elements, one for each axis; 0 repeats
  float scale = 0;           // above 0: integers; the tensor `name` is scale * (value - zero)
  int32_t zero = 0;
  static void fields(auto& s, auto& visit) {
    visit("name", s.name);
    visit("dtype", s.dtype);
    visit("shape", s.shape);
    visit("buffer", s.buffer);
    visit("offset", s.offset);
    visit("strides", s.strides);
    visit("scale", s.scale);
    visit("zero", s.zero);
  }
};

// a, packed w, bias?, residual?; or a, packed w, bias?, operands 1 and up of the program. These
// broadcast to y, and the rows of all lie along any axes.
struct LinearParams {
  static constexpr std::string_view kFamily = "linear";
  int64_t n = 0, k = 0;
  TileProgram then;  // after bias and residual; empty body: nothing
  static void fields(auto& s, auto& visit) {
    visit("n", s.n);
    visit("k", s.k);
    visit("then", s.then);
  }
};
// One spatial axis of a convolution or pool; padding behind follows from the output's extent.
struct WindowParams {
  int64_t kernel = 1, stride = 1, dilation = 1, begin = 0;
  static void fields(auto& s, auto& visit) {
    visit("kernel", s.kernel);
    visit("stride", s.stride);
    visit("dilation", s.dilation);
    visit("begin", s.begin);
  }
};
// x, packed w, bias?, residual?: as for linear, where the rows are windows over x. Channels are the
// last axis of x, y and residual; before it one axis for each of `windows`, and the batch. Where x
// is in parts, these are x and the inputs behind residual: runs of channels, one behind the other.
struct ConvParams {
  static constexpr std::string_view kFamily = "conv";
  int64_t n = 0, channels = 0;  // of y, of x
  std::vector<WindowParams> windows;
  TileProgram then;              // after bias and residual
  std::vector<int64_t> repeats;  // of each part: its places stand so often on both axes
  static void fields(auto& s, auto& visit) {
    visit("n", s.n);
    visit("channels", s.channels);
    visit("windows", s.windows);
    visit("then", s.then);
    visit("repeats", s.repeats);
  }
  // Where part i is among a step's inputs.
  static size_t part_input(size_t i) { return i == 0 ? 0 : i + 3; }
  int64_t k() const {
    int64_t k = channels;
    for (const WindowParams& w : windows) k *= w.kernel;
    return k;
  }
};
// As a convolution of 3x3 with stride 1 over two axes; w is transformed (kernels/winograd).
struct WinogradParams {
  static constexpr std::string_view kFamily = "winograd";
  int64_t n = 0, channels = 0;
  int64_t begin_y = 0, begin_x = 0;  // padding in front
  TileProgram then;                  // after bias and residual
  static void fields(auto& s, auto& visit) {
    visit("n", s.n);
    visit("channels", s.channels);
    visit("begin_y", s.begin_y);
    visit("begin_x", s.begin_x);
    visit("then", s.then);
  }
  int64_t k() const { return 36 * channels; }
};
enum class ChannelwiseKind : uint8_t { depthwise, max, average };
// x, w?, bias?, residual?: windows in which each channel stays by itself; axes as for convolutions.
struct ChannelwiseParams {
  static constexpr std::string_view kFamily = "channelwise";
  ChannelwiseKind kind = ChannelwiseKind::depthwise;
  std::vector<WindowParams> windows;
  bool count_padding = false;  // average
  TileProgram then;            // after bias and residual
  static void fields(auto& s, auto& visit) {
    visit("kind", s.kind);
    visit("windows", s.windows);
    visit("count_padding", s.count_padding);
    visit("then", s.then);
  }
};
// x, channels last as for convolutions: each of `axes` (one or two, before the channels) gets
// another extent by the rule. A scale of 0 is the ratio of the extents.
struct ResampleParams {
  static constexpr std::string_view kFamily = "resample";
  ResampleRule rule;
  struct Axis {
    double scale = 0;
    static void fields(auto& s, auto& visit) { visit("scale", s.scale); }
  };
  std::vector<Axis> axes;
  static void fields(auto& s, auto& visit) {
    visit("rule", s.rule);
    visit("axes", s.axes);
  }
};
enum class SamplePadding : uint8_t { zeros, border, reflection };
// x, grid [images, rows, columns, 2]: x at these places, linearly or from the nearest element, as
// the ONNX op GridSample says. Channels are the last axis of x and of the output, in memory or not;
// the images of x may be two axes.
struct GridSampleParams {
  static constexpr std::string_view kFamily = "grid_sample";
  bool nearest = false, align_corners = false;
  SamplePadding padding = SamplePadding::zeros;
  static void fields(auto& s, auto& visit) {
    visit("nearest", s.nearest);
    visit("align_corners", s.align_corners);
    visit("padding", s.padding);
  }
};
// x, regions [count, 4], pictures [count] (s64): cells of regions, [count, rows, columns, channels]
// as the ONNX op RoiAlign says. Channels are neighbours in x.
struct RoiAlignParams {
  static constexpr std::string_view kFamily = "roi_align";
  bool largest = false, half_pixel = true;
  int64_t samples = 0;  // along each axis of a cell; 0: as many as it has elements
  double scale = 1;     // from coordinates of regions to those of x
  static void fields(auto& s, auto& visit) {
    visit("largest", s.largest);
    visit("half_pixel", s.half_pixel);
    visit("samples", s.samples);
    visit("scale", s.scale);
  }
};
// x / (bias + alpha / size * sum of squares)^beta, over `size` channels around each one: those of
// an axis of x, which is dense.
struct LrnParams {
  static constexpr std::string_view kFamily = "lrn";
  int64_t axis = 1, size = 1;
  double alpha = 1e-4, beta = 0.75, bias = 1;
  static void fields(auto& s, auto& visit) {
    visit("axis", s.axis);
    visit("size", s.size);
    visit("alpha", s.alpha);
    visit("beta", s.beta);
    visit("bias", s.bias);
  }
};
// Stored: clamp(rne(float(sum) * multiplier [+ bias]) + zero, low, high).
struct Requantize {
  bool on = false;
  int32_t zero = 0, low = 0, high = 255;
  static void fields(auto& s, auto& visit) {
    visit("on", s.on);
    visit("zero", s.zero);
    visit("low", s.low);
    visit("high", s.high);
  }
};
// x (u8), packed w (s8), offset (s32), multiplier (f32), bias?, residual?, zero point of x (u8)?: a
// linear layer (no windows) or a convolution on integers. With sum_j = offset_j + sum over k of
// x_k w_kj, exact: y = then(float(sum) * multiplier + bias + residual), or the requantised sum.
struct QProductParams {
  static constexpr std::string_view kFamily = "qproduct";
  int64_t n = 0, channels = 0;  // of y, of x
  std::vector<WindowParams> windows;
  int32_t zero = 0;  // of x: what the padding reads, where it is no operand
  Requantize requantize;
  TileProgram then;  // after bias and residual; may end in bytes
  static void fields(auto& s, auto& visit) {
    visit("n", s.n);
    visit("channels", s.channels);
    visit("windows", s.windows);
    visit("zero", s.zero);
    visit("requantize", s.requantize);
    visit("then", s.then);
  }
  int64_t k() const {
    int64_t k = channels;
    for (const WindowParams& w : windows) k *= w.kernel;
    return k;
  }
};
// x (u8), w (s8: [taps, channels]), offset (s32), multiplier (f32), bias?, residual?, zero point of
// x (u8)?: a depthwise convolution on integers, as QProductParams. Where the zero point is an
// operand, the sums are of x less it.
struct QDepthwiseParams {
  static constexpr std::string_view kFamily = "qdepthwise";
  std::vector<WindowParams> windows;
  int32_t zero = 0;  // of x: what the padding reads, where it is no operand
  Requantize requantize;
  TileProgram then;  // after bias and residual; may end in bytes
  static void fields(auto& s, auto& visit) {
    visit("windows", s.windows);
    visit("zero", s.zero);
    visit("requantize", s.requantize);
    visit("then", s.then);
  }
};
struct MatmulParams {  // a, b: batched, both vary
  static constexpr std::string_view kFamily = "matmul";
  static void fields(auto&, auto&) {}
};
struct AttentionParams {  // q, k, v, mask?
  static constexpr std::string_view kFamily = "attention";
  int64_t heads = 1;
  double scale = 1;
  bool merged = true, masked_rows_zero = false;
  TileProgram then;  // of the result; may end in bytes
  static void fields(auto& s, auto& visit) {
    visit("heads", s.heads);
    visit("scale", s.scale);
    visit("merged", s.merged);
    visit("masked_rows_zero", s.masked_rows_zero);
    visit("then", s.then);
  }
};
struct NormParams {  // x, residual?, gain, bias?
  static constexpr std::string_view kFamily = "norm";
  double epsilon = 1e-5;
  TileProgram bytes;  // if there is one, output 1 is this of output 0
  static void fields(auto& s, auto& visit) {
    visit("epsilon", s.epsilon);
    visit("bytes", s.bytes);
  }
};
struct SoftmaxParams {  // over the last axis
  static constexpr std::string_view kFamily = "softmax";
  bool log = false;
  static void fields(auto& s, auto& visit) { visit("log", s.log); }
};
struct EltwiseParams {  // operands of the program, broadcast
  static constexpr std::string_view kFamily = "eltwise";
  TileProgram program;
  static void fields(auto& s, auto& visit) { visit("program", s.program); }
};
struct LutParams {  // x and its 256 results, all of one byte
  static constexpr std::string_view kFamily = "lut";
  static void fields(auto&, auto&) {}
};
struct BytePoolParams {  // x: the greatest byte of each window; axes as for convolutions
  static constexpr std::string_view kFamily = "byte_pool";
  std::vector<WindowParams> windows;
  static void fields(auto& s, auto& visit) { visit("windows", s.windows); }
};
struct DynamicQuantizeParams {  // x -> its bytes, their scale, their zero point
  static constexpr std::string_view kFamily = "dynamic_quantize";
  static void fields(auto&, auto&) {}
};
struct EmbedParams {  // t0, id0, t1, id1, ..., gain?, bias?
  static constexpr std::string_view kFamily = "embed";
  int64_t tables = 1;
  bool norm = false;
  double epsilon = 1e-5;
  static void fields(auto& s, auto& visit) {
    visit("tables", s.tables);
    visit("norm", s.norm);
    visit("epsilon", s.epsilon);
  }
};
// Sums that come of the input [steps, batch, sides * side_columns] (base/recurrent.h), packed
// weights of the state, more?, h?, c?, lengths? (s32: of each sample) -> y? [steps, sides, batch,
// hidden], last h?, last c? [sides, batch, hidden], and memory for states.
struct RecurrentParams {
  static constexpr std::string_view kFamily = "recurrent";
  RecurrentKind kind = RecurrentKind::lstm;
  int64_t hidden = 0, sides = 1;
  bool reverse = false;  // the first side; the second goes the other way
  static void fields(auto& s, auto& visit) {
    visit("kind", s.kind);
    visit("hidden", s.hidden);
    visit("sides", s.sides);
    visit("reverse", s.reverse);
  }
  RecurrentSizes sizes() const { return {kind, hidden}; }
  int64_t n() const { return sides * sizes().side_weights(); }
};
struct CopyParams {  // x -> y of the same shape: strided, perhaps another dtype
  static constexpr std::string_view kFamily = "copy";
  static void fields(auto&, auto&) {}
};
enum class ReduceKind : uint8_t { sum, mean, max, min, l2, l1, sum_square, product };
struct ReduceParams {  // x
  static constexpr std::string_view kFamily = "reduce";
  ReduceKind kind = ReduceKind::sum;
  std::vector<int64_t> axes;
  static void fields(auto& s, auto& visit) {
    visit("kind", s.kind);
    visit("axes", s.axes);
  }
};
enum class IntegerKind : uint8_t { add, sub, mul, min, max, equal, less, less_equal, select };
// Two operands of one type of integers, broadcast; comparisons give bools, or fp32 where that is
// the type of the output. select: bools, and two branches of any type.
struct IntegerParams {
  static constexpr std::string_view kFamily = "integer";
  IntegerKind kind = IntegerKind::add;
  static void fields(auto& s, auto& visit) { visit("kind", s.kind); }
};
enum class IndexKind : uint8_t {
  gather,            // data, indices
  gather_elements,   // data, indices
  gather_nd,         // data, indices
  scatter_elements,  // data, indices, updates
  scatter_nd,        // data, indices, updates
  one_hot,           // values [off, on], indices
};
struct IndexParams {  // as the ONNX ops of these names say
  static constexpr std::string_view kFamily = "index";
  IndexKind kind = IndexKind::gather;
  int64_t axis = 0;   // not negative; of one_hot: of the output
  int64_t batch = 0;  // gather_nd
  static void fields(auto& s, auto& visit) {
    visit("kind", s.kind);
    visit("axis", s.axis);
    visit("batch", s.batch);
  }
};
enum class LaneKind : uint8_t { sum, top, arg };
struct LaneParams {  // x; along one axis
  static constexpr std::string_view kFamily = "lane";
  LaneKind kind = LaneKind::sum;
  int64_t axis = 0;                         // not negative
  bool largest = true;                      // top, arg
  bool last = false;                        // arg: the last of equal elements
  bool exclusive = false, reverse = false;  // sum
  static void fields(auto& s, auto& visit) {
    visit("kind", s.kind);
    visit("axis", s.axis);
    visit("largest", s.largest);
    visit("last", s.last);
    visit("exclusive", s.exclusive);
    visit("reverse", s.reverse);
  }
};
struct RangeParams {  // no inputs: both ends follow from shapes
  static constexpr std::string_view kFamily = "range";
  Dim start, step;
  static void fields(auto& s, auto& visit) {
    visit("start", s.start);
    visit("step", s.step);
  }
};
struct ReferenceParams {  // any op, by its reference
  static constexpr std::string_view kFamily = "reference";
  std::string op;
  std::string attrs;  // JSON
  static void fields(auto& s, auto& visit) {
    visit("op", s.op);
    visit("attrs", s.attrs);
  }
};
using StepParams =
    std::variant<LinearParams, ConvParams, QProductParams, QDepthwiseParams, WinogradParams,
                 ChannelwiseParams, MatmulParams, AttentionParams, NormParams, SoftmaxParams,
                 EltwiseParams, LutParams, BytePoolParams, DynamicQuantizeParams, IntegerParams,
                 EmbedParams, RecurrentParams, CopyParams, IndexParams, ReduceParams, LaneParams,
                 RangeParams, ResampleParams, GridSampleParams, RoiAlignParams, LrnParams,
                 ReferenceParams>;

// A kernel that could have run the step, and why it does not.
struct Rejected {
  std::string kernel, reason;
  static void fields(auto& s, auto& visit) {
    visit("kernel", s.kernel);
    visit("reason", s.reason);
  }
};

struct Step {
  std::string op{};  // "planck.Linear": what it computes
  StepParams params{};
  std::vector<int32_t> inputs{}, outputs{};  // value ids; -1: absent
  std::string kernel{};                      // manifest row, or "reference"
  std::vector<int32_t> nodes{};              // ONNX nodes it covers, indices into Plan::nodes
  std::string asked = "fp32", given = "fp32";
  std::vector<Rejected> rejected{};
  static void fields(auto& s, auto& visit) {
    visit("op", s.op);
    visit("params", s.params);
    visit("inputs", s.inputs);
    visit("outputs", s.outputs);
    visit("kernel", s.kernel);
    visit("nodes", s.nodes);
    visit("asked", s.asked);
    visit("given", s.given);
    visit("rejected", s.rejected);
  }
};

struct PlanPort {  // an input or output of the model, in its order
  std::string name;
  DType dtype;
  std::vector<Dim> shape;
  int32_t value = -1;
  static void fields(auto& s, auto& visit) {
    visit("name", s.name);
    visit("dtype", s.dtype);
    visit("shape", s.shape);
    visit("value", s.value);
  }
};

struct PassRow {
  std::string name;
  int64_t patches = 0;
  double ms = 0;  // not in a file: the same model gives the same bytes
  static void fields(auto& s, auto& visit) {
    visit("name", s.name);
    visit("patches", s.patches);
  }
};
struct RefusalRow {
  std::string pass, where, reason;
  static void fields(auto& s, auto& visit) {
    visit("pass", s.pass);
    visit("where", s.where);
    visit("reason", s.reason);
  }
};

// How the plan came about; no part of its meaning. A file keeps what does not differ from one build
// to the next.
struct BuildReport {
  std::string model;  // the path it was built or loaded from
  int64_t onnx_nodes = 0;
  std::vector<PassRow> passes;
  std::vector<RefusalRow> refusals;
  std::map<std::string, int64_t> fused;  // op -> how many
  double import_ms = 0, passes_ms = 0, lower_ms = 0;
  int64_t peak_rss_bytes = 0;
  static void fields(auto& s, auto& visit) {
    visit("onnx_nodes", s.onnx_nodes);
    visit("passes", s.passes);
    visit("refusals", s.refusals);
    visit("fused", s.fused);
  }
};

// Where an initializer of the model lies in the constants of the plan. The matrix of a packed
// constant is what its unpacking gives: [k, n]. A transpose may be a convolution's [n, c, taps..],
// whose element [j, c, t] lies in row t * c's extent + c. Weights of a recurrent layer, of its
// input or of its state, are the columns that base/recurrent.h says.
enum class WeightForm : uint8_t { flat, columns, transposed, recurrent_input, recurrent_state };
struct SourceWeight {
  int32_t constant = -1;
  WeightForm form = WeightForm::flat;
  int64_t offset = 0;  // flat: elements; columns, transposed: first column; recurrent: its kind
  DType dtype = DType::f32;  // of the initializer; half types lie in an f32 constant exactly
  std::vector<int64_t> shape;
  static void fields(auto& s, auto& visit) {
    visit("constant", s.constant);
    visit("form", s.form);
    visit("offset", s.offset);
    visit("dtype", s.dtype);
    visit("shape", s.shape);
  }
};

// The model as it was imported, before any pass: what comparisons and taps evaluate. The graph is
// opaque here (ir/archive.h reads it); its larger constants are indices into `weights`.
struct SourceModel {
  std::vector<std::byte> graph;  // CBOR; empty: not carried
  std::vector<SourceWeight> weights;
};

struct Plan {
  std::string precision = "fp32";
  std::string isa;
  std::vector<PlanBuffer> buffers;
  std::vector<PlanConstant> constants;
  std::vector<PlanValue> values;
  std::vector<Step> steps;
  std::vector<PlanPort> inputs, outputs;
  struct SourceName {
    std::string name, op_type;
    static void fields(auto& s, auto& visit) {
      visit("name", s.name);
      visit("op_type", s.op_type);
    }
  };
  std::vector<SourceName> nodes;  // every node of the ONNX file
  std::vector<int32_t> unused;    // those that no output needs
  SourceModel source;
  BuildReport report;

  int64_t constant_bytes() const;
};

// Family of a step: "linear", "attention", ...
std::string_view family(const StepParams& params);

// The plan as a table that a person reads. Width is bounded; names are shortened.
std::string explain(const Plan& plan);

}  // namespace planck
