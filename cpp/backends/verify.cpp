#include "backends/verify.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "backends/kernel_rows.h"
#include "base/checked.h"
#include "base/guard.h"
#include "kernels/eltwise/rows.h"
#include "kernels/embed/rows.h"
#include "kernels/matmul/rows.h"
#include "kernels/qdepthwise/rows.h"
#include "kernels/qmatmul/rows.h"
#include "kernels/recurrent/rows.h"
#include "kernels/roi_align/roi_align.h"
#include "plan/phases.h"
#include "plan/view.h"

namespace planck {
namespace {

constexpr size_t kMostRank = 32;
constexpr int64_t kMostExtent = int64_t{1} << 31;  // products of two stay far below overflow

void expect(bool holds, const auto&... what) {
  if (!holds) throw CorruptError(what...);
}

bool in_range(int32_t id, const auto& list) {
  return id >= 0 && static_cast<size_t>(id) < list.size();
}

// How many inputs and outputs a step of a family has, -1: no upper bound.
struct StepArity {
  int min_in, max_in, min_out = 1, max_out = 1;
};

class Verifier {
 public:
  explicit Verifier(const Plan& plan) : plan_(plan) {}

  void run() {
    for (const PlanBuffer& b : plan_.buffers) buffer(b);
    for (const PlanConstant& c : plan_.constants) constant(c);
    for (const PlanValue& v : plan_.values) value(v);
    ports(plan_.inputs, BufferKind::input);
    ports(plan_.outputs, BufferKind::output);
    collect_symbols();
    written_.resize(plan_.buffers.size());
    for (size_t i = 0; i < plan_.buffers.size(); ++i) {
      const BufferKind kind = plan_.buffers[i].kind;
      written_[i] = kind == BufferKind::input || kind == BufferKind::constant;
    }
    for (size_t i = 0; i < plan_.steps.size(); ++i) {
      check_guard();
      with_context([&] { step(plan_.steps[i]); }, "step ", i, " (", plan_.steps[i].op, ")");
    }
    for (const PlanPort& p : plan_.outputs) {
      expect(written_[static_cast<size_t>(at(p.value).buffer)], "the output '", p.name,
             "' is never written");
    }
    for (const PlanBuffer& b : plan_.buffers) symbols(b.elements);
    for (const PlanValue& v : plan_.values) symbols(v);
    nodes(plan_.unused);
  }

 private:
  const PlanValue& at(int32_t id) const { return plan_.values[static_cast<size_t>(id)]; }
  const PlanBuffer& buffer_of(int32_t id) const {
    return plan_.buffers[static_cast<size_t>(at(id).buffer)];
  }

  void buffer(const PlanBuffer& b) const {
    expect(b.element_size > 0 && b.element_size <= 8, "a buffer has elements of ", b.element_size,
           " bytes");
    const bool known = b.kind == BufferKind::arena ||
                       (b.kind == BufferKind::input && in_range(b.index, plan_.inputs)) ||
                       (b.kind == BufferKind::output && in_range(b.index, plan_.outputs)) ||
                       (b.kind == BufferKind::constant && in_range(b.index, plan_.constants));
    expect(known, "a buffer names index ", b.index, ", which is not there");
    if (b.kind != BufferKind::constant) return;
    const Tensor& t = plan_.constants[static_cast<size_t>(b.index)].tensor;
    const auto elements = b.elements.known();
    expect(elements && *elements >= 0 && *elements <= t.count() &&
               b.element_size == size_of(t.dtype()),
           "the buffer of the weight '", plan_.constants[static_cast<size_t>(b.index)].name,
           "' is larger than the weight");
  }

  static void constant(const PlanConstant& c) {
    const Packing& p = c.packing;
    if (p.kernel.empty()) return;
    constexpr int64_t kMost = int64_t{1} << 40;
    const bool sane = p.n > 0 && p.k > 0 && p.n < kMost && p.k < kMost;
    const bool floats = c.tensor.dtype() == DType::f32, bytes = c.tensor.dtype() == DType::s8;
    expect(sane && (floats || bytes) && c.tensor.rank() == 1, "the weight '", c.name,
           "' does not have the form of its packing");
    const auto size = floats ? packed_size(convolution_rows(), p, packed_floats)
                             : packed_size(qmatmul_rows(), p, packed_bytes);
    expect(size.has_value(), "the weight '", c.name, "' is packed for '", p.kernel,
           "', which is no kernel for ", c.tensor.dtype());
    expect(c.tensor.count() == *size, "the weight '", c.name,
           "' does not have the size of its packing");
    if (!bytes) return;
    // A kernel that believed a wrong proof would saturate, without a word.
    const QmatmulRow& row = qmatmul_row(p.kernel);
    expect(proofs_hold(row, p.n, p.k, c.tensor.as<int8_t>()), "the weight '", c.name,
           "' is packed for '", p.kernel, "' and ",
           is_winograd(row.unit) ? "is no transform of weights that keep to its bound"
                                 : "says of its sums in 16 bits what is not so");
  }
  static std::optional<int64_t> packed_size(const auto& rows, const Packing& p, auto&& size) {
    for (const auto& row : rows) {
      if (row.name == p.kernel) return size(row, p.n, p.k);
    }
    return std::nullopt;
  }

  void value(const PlanValue& v) const {
    expect(in_range(v.buffer, plan_.buffers), "the value '", v.name, "' names buffer ", v.buffer);
    expect(v.shape.size() == v.strides.size() && v.shape.size() <= kMostRank, "the value '", v.name,
           "' has ", v.shape.size(), " extents and ", v.strides.size(), " strides");
    expect(size_of(v.dtype) == plan_.buffers[static_cast<size_t>(v.buffer)].element_size,
           "the value '", v.name, "' and its buffer differ in the size of an element");
    const bool quantised = v.scale != 0 || v.zero != 0;
    expect(!quantised || (v.dtype == DType::u8 && v.scale > 0 && std::isfinite(v.scale) &&
                          v.zero >= 0 && v.zero <= 255),
           "the value '", v.name, "' has a grid of ", v.scale, " and ", v.zero);
  }

  // A port owns its buffer: dense, from the start, all of it.
  void ports(const std::vector<PlanPort>& all, BufferKind kind) const {
    std::set<std::string_view> names;
    for (size_t i = 0; i < all.size(); ++i) {
      const PlanPort& p = all[i];
      expect(names.insert(p.name).second, "two ports are called '", p.name, "'");
      expect(in_range(p.value, plan_.values), "the port '", p.name, "' names value ", p.value);
      const PlanValue& v = at(p.value);
      const PlanBuffer& b = buffer_of(p.value);
      expect(b.kind == kind && b.index == static_cast<int32_t>(i) && v.dtype == p.dtype &&
                 v.shape == p.shape && v.offset == Dim(0) && is_dense(v) &&
                 b.elements == product(v.shape),
             "the port '", p.name, "' does not fit its buffer");
    }
    // No other buffer may stand for the caller's memory.
    const auto count = std::ranges::count(plan_.buffers, kind, &PlanBuffer::kind);
    expect(count == static_cast<int64_t>(all.size()), "there are ", count, " buffers for ",
           all.size(), " ports");
  }

  void collect_symbols() {
    known_ = input_symbols(plan_);
    for (const PlanPort& p : plan_.inputs) {
      for (const Dim& d : p.shape) {
        const std::string_view symbol = d.as_symbol();
        expect(d.is_constant() || !symbol.empty(), "an extent of the input '", p.name,
               "' is neither a number nor a name");
      }
    }
  }
  void symbols(const Dim& d) const {
    for (const std::string& s : d.symbols()) {
      expect(known_.contains(s), "the symbol '", s, "' has no number yet");
    }
  }
  // What a run finds out lies in memory of its own, written once, of any extents.
  void find_out(const PlanValue& v) {
    const PlanBuffer& b = plan_.buffers[static_cast<size_t>(v.buffer)];
    expect(b.kind == BufferKind::arena && !written_[static_cast<size_t>(v.buffer)] &&
               v.offset == Dim(0) && is_dense(v) && b.elements == product(v.shape),
           "'", v.name, "' has a shape that depends on data and does not own its memory");
    for (const Dim& d : v.shape) {
      if (const std::string_view symbol = d.as_symbol(); !symbol.empty()) known_.emplace(symbol);
    }
    symbols(v);
  }
  void known_here(const PlanValue& v) const {
    symbols(v);
    symbols(plan_.buffers[static_cast<size_t>(v.buffer)].elements);
  }
  void symbols(const PlanValue& v) const {
    symbols(v.offset);
    for (const Dim& d : v.shape) symbols(d);
    for (const Dim& d : v.strides) symbols(d);
  }

  void nodes(const std::vector<int32_t>& ids) const {
    for (const int32_t n : ids) expect(in_range(n, plan_.nodes), "there is no ONNX node ", n);
  }

  void step(const Step& s) {
    nodes(s.nodes);
    const StepArity arity = std::visit([&](const auto& p) { return check(s, p); }, s.params);
    const auto in = static_cast<int>(s.inputs.size()), out = static_cast<int>(s.outputs.size());
    expect(in >= arity.min_in && (arity.max_in < 0 || in <= arity.max_in), "it has ", in,
           " inputs");
    expect(out >= arity.min_out && (arity.max_out < 0 || out <= arity.max_out), "it has ", out,
           " outputs");
    const bool reference = std::holds_alternative<ReferenceParams>(s.params);
    for (size_t i = 0; i < s.inputs.size(); ++i) {
      const int32_t v = s.inputs[i];
      if (v == -1 && (reference || static_cast<int>(i) >= arity.min_in || optional(s, i))) continue;
      expect(in_range(v, plan_.values), "it reads value ", v);
      expect(written_[static_cast<size_t>(at(v).buffer)], "it reads '", at(v).name,
             "' before anything wrote it");
      known_here(at(v));
    }
    for (size_t i = 0; i < s.outputs.size(); ++i) {
      const int32_t v = s.outputs[i];
      if (v == -1 && (reference || absent(s, i))) continue;
      expect(in_range(v, plan_.values), "it writes value ", v);
      const BufferKind kind = buffer_of(v).kind;
      expect(kind == BufferKind::arena || kind == BufferKind::output,
             "it writes to an input or a weight");
      if (reference && !is_known(at(v), known_)) find_out(at(v));
      known_here(at(v));
      written_[static_cast<size_t>(at(v).buffer)] = true;
    }
    expect(kernel_isa(plan_, s).has_value(), "'", s.kernel, "' is no kernel of its family");
    if (const auto* linear = std::get_if<LinearParams>(&s.params)) weight(s, linear->n, linear->k);
    if (const auto* conv = std::get_if<ConvParams>(&s.params)) {
      weight(s, conv->n, conv->k());
      const std::string why = matmul_row(s.kernel).refuse(problem_of(*conv));
      expect(why.empty(), "'", s.kernel, "' does not take its windows: ", why);
    }
    if (const auto* product = std::get_if<QProductParams>(&s.params)) {
      weight(s, product->n, product->k());
      if (is_winograd(qmatmul_row(s.kernel).unit)) patches(product->windows);
    }
    if (const auto* conv = std::get_if<WinogradParams>(&s.params)) weight(s, conv->n, conv->k());
    if (std::holds_alternative<QDepthwiseParams>(s.params)) codes(s);
    if (const auto* recurrent = std::get_if<RecurrentParams>(&s.params)) {
      weight(s, recurrent->n(), recurrent->hidden);
      expect(takes_recurrent(matmul_row(s.kernel)), "'", s.kernel, "' does not take its weights");
    }
  }

  // bias and residual of a linear layer, the mask of attention, the residual of a norm
  static bool optional(const Step& s, size_t i) {
    const auto* channelwise = std::get_if<ChannelwiseParams>(&s.params);
    if (channelwise != nullptr) {
      return i >= 2 || (i == 1 && channelwise->kind != ChannelwiseKind::depthwise);
    }
    if (std::holds_alternative<QProductParams>(s.params) ||
        std::holds_alternative<QDepthwiseParams>(s.params)) {
      return i >= 4;
    }
    const bool product = std::holds_alternative<LinearParams>(s.params) ||
                         std::holds_alternative<ConvParams>(s.params) ||
                         std::holds_alternative<WinogradParams>(s.params);
    return (product && (i == 2 || i == 3)) ||
           (std::holds_alternative<AttentionParams>(s.params) && i == 3) ||
           (std::holds_alternative<RecurrentParams>(s.params) && i >= 2) ||
           (std::holds_alternative<NormParams>(s.params) && (i == 1 || i == 3));
  }
  // Results of a recurrent layer; not the memory of its states.
  static bool absent(const Step& s, size_t i) {
    return std::holds_alternative<RecurrentParams>(s.params) && i < 3;
  }

  void weight(const Step& s, int64_t n, int64_t k) const {
    const PlanBuffer& b = buffer_of(s.inputs[1]);
    expect(b.kind == BufferKind::constant && at(s.inputs[1]).offset == Dim(0),
           "its weight is no constant");
    const Packing& packing = plan_.constants[static_cast<size_t>(b.index)].packing;
    expect(packing.kernel == s.kernel && packing.n == n && packing.k == k,
           "its weight is packed for another kernel or another size");
  }

  static void patches(const std::vector<WindowParams>& all) {
    const bool fits = all.size() == 2 && std::ranges::all_of(all, [](const WindowParams& w) {
                        return w.kernel == 3 && w.stride == 1 && w.dilation == 1;
                      });
    expect(fits, "its kernel takes windows of 3 x 3 with stride 1 alone");
  }

  // Weights that are read when shapes are bound; how many is for the contract.
  void codes(const Step& s) const {
    const PlanBuffer& b = buffer_of(s.inputs[1]);
    const PlanValue& w = at(s.inputs[1]);
    expect(b.kind == BufferKind::constant && w.offset == Dim(0) && w.dtype == DType::s8,
           "its weight is no constant of int8");
    const PlanConstant& constant = plan_.constants[static_cast<size_t>(b.index)];
    expect(constant.tensor.dtype() == DType::s8 && constant.packing.kernel.empty() &&
               b.elements == product(w.shape),
           "its weight does not have the form of its kernel");
  }

  static void program(const TileProgram& program) {
    try {
      compile(program);
    } catch (const Error& e) {
      throw CorruptError(e.what());
    }
  }

  // One overload for each family: parameters in their ranges.
  static StepArity check(const Step& s, const LinearParams& p) {
    const size_t operands = s.inputs.size() < 4 || s.inputs[3] < 0 ? 1 : s.inputs.size() - 2;
    epilogue(p.then, operands);
    expect(s.inputs.size() <= 4 || p.then.operands.size() + 2 == s.inputs.size(),
           "its program reads ", p.then.operands.size(), " operands");
    expect(std::all_of(s.inputs.begin() + std::min<std::ptrdiff_t>(std::ssize(s.inputs), 4),
                       s.inputs.end(), [](int32_t v) { return v >= 0; }),
           "an operand of its program is missing");
    return {4, 2 + kEltOperands};
  }
  static StepArity check(const Step&, const ConvParams& p) {
    epilogue(p.then, 1);
    windows(p.windows);
    expect(p.channels > 0 && p.channels < kMostExtent, "it reads ", p.channels, " channels");
    if (p.repeats.empty()) return {4, 4};
    expect(p.windows.size() == 2 && p.repeats.size() <= kMostParts, "it reads ", p.repeats.size(),
           " parts");
    for (const int64_t repeat : p.repeats) {
      expect(repeat > 0 && repeat < kMostExtent, "it repeats a part ", repeat, " times");
    }
    const int inputs = static_cast<int>(p.repeats.size()) + 3;
    return {inputs, inputs};
  }
  static StepArity check(const Step& s, const QProductParams& p) {
    if (!p.windows.empty()) windows(p.windows);
    expect(p.channels > 0 && p.channels < kMostExtent, "it reads ", p.channels, " channels");
    return integers(s, p);
  }
  static StepArity check(const Step& s, const QDepthwiseParams& p) {
    windows(p.windows);
    expect(p.windows.back().kernel <= kQDepthwiseTaps, "its windows have ", p.windows.back().kernel,
           " taps in a row");
    return integers(s, p);
  }
  static StepArity integers(const Step& s, const auto& p) {
    epilogue(p.then, s.inputs.size() > 5 && s.inputs[5] >= 0 ? 2 : 1);
    const Requantize& r = p.requantize;
    for (const int32_t byte : {p.zero, r.zero, r.low, r.high}) {
      expect(byte >= 0 && byte <= 255, "its zero point or bound ", byte, " is no byte");
    }
    expect(r.low <= r.high, "its bounds ", r.low, " and ", r.high, " are the wrong way round");
    expect(!r.on || (p.then.body.empty() && (s.inputs.size() < 6 || s.inputs[5] < 0)),
           "it requantises, and has a program or a residual");
    expect(s.inputs.size() < 7 || (p.zero == 0 && !p.windows.empty() && !r.on),
           "it reads a zero point that it does not need");
    return {6, 7};
  }
  static StepArity check(const Step&, const WinogradParams& p) {
    epilogue(p.then, 1);
    windows({{3, 1, 1, p.begin_y}, {3, 1, 1, p.begin_x}});
    expect(p.channels > 0 && p.channels < kMostExtent, "it reads ", p.channels, " channels");
    return {4, 4};
  }
  static StepArity check(const Step&, const ChannelwiseParams& p) {
    epilogue(p.then, 1);
    windows(p.windows);
    return {4, 4};
  }
  static void epilogue(const TileProgram& then, size_t most) {
    if (then.body.empty()) return;
    program(then);
    expect(!then.operands.empty() && then.operands.size() <= most, "its program reads ",
           then.operands.size(), " operands");
  }
  static void windows(const std::vector<WindowParams>& all) {
    expect(all.size() == 1 || all.size() == 2, "it has windows over ", all.size(), " axes");
    int64_t taps = 1;
    for (const WindowParams& w : all) {
      for (const int64_t number : {w.kernel, w.stride, w.dilation}) {
        expect(number > 0 && number < kMostExtent, "its windows have an extent of ", number);
      }
      expect(w.begin >= 0 && w.begin < kMostExtent, "its windows begin at ", -w.begin);
      taps *= w.kernel;
      expect(taps < kMostExtent, "its windows have too many taps");
    }
  }
  static StepArity check(const Step&, const MatmulParams&) { return {2, 2}; }
  static StepArity check(const Step&, const AttentionParams& p) {
    expect(p.heads > 0 && p.heads < (1 << 20), "it has ", p.heads, " heads");
    epilogue(p.then, 1);
    return {4, 4};
  }
  static StepArity check(const Step&, const NormParams& p) {
    epilogue(p.bytes, 1);
    return {4, 4, p.bytes.body.empty() ? 1 : 2, 2};
  }
  static StepArity check(const Step&, const SoftmaxParams&) { return {1, 1}; }
  StepArity check(const Step& s, const EltwiseParams& p) const {
    program(p.program);
    expect(p.program.operands.size() == s.inputs.size(), "its program reads ",
           p.program.operands.size(), " operands of ", s.inputs.size());
    for (const int32_t v : s.inputs) {
      if (!in_range(v, plan_.values)) continue;  // refused by whoever looks at all steps
      expect(elt_type(at(v).dtype).has_value(), "its program reads ", at(v).dtype);
    }
    for (const int32_t v : s.outputs) {
      if (!in_range(v, plan_.values)) continue;
      const auto type = elt_type(at(v).dtype);
      expect(type && *type != EltType::s32, "its program writes ", at(v).dtype);
    }
    const auto n = static_cast<int>(s.inputs.size());
    return {n, n};
  }
  static StepArity check(const Step&, const LutParams&) { return {2, 2}; }
  static StepArity check(const Step&, const BytePoolParams& p) {
    windows(p.windows);
    return {1, 1};
  }
  static StepArity check(const Step&, const DynamicQuantizeParams&) { return {1, 1, 3, 3}; }
  static StepArity check(const Step&, const EmbedParams& p) {
    expect(p.tables > 0 && p.tables <= kEmbedTables, "it has ", p.tables, " tables");
    const auto n = static_cast<int>(2 * p.tables);
    return {p.norm ? n + 1 : n, n + 2};
  }
  static StepArity check(const Step& s, const RecurrentParams& p) {
    expect(p.hidden > 0 && p.hidden < kMostExtent, "it has ", p.hidden, " hidden units");
    expect(p.sides == 1 || p.sides == 2, "it has ", p.sides, " directions");
    const bool lstm = p.kind == RecurrentKind::lstm;
    const auto given = [](const std::vector<int32_t>& ids, size_t i) {
      return i < ids.size() && ids[i] != -1;
    };
    expect(lstm || (!given(s.inputs, 4) && !given(s.outputs, 2)), "it has a cell");
    expect(!given(s.inputs, 2) || p.sizes().form.more > 0, "it reads what its kind does not");
    return {6, 6, 4, 4};
  }
  StepArity check(const Step& s, const CopyParams&) const {
    expect(s.inputs.size() == 1 && s.outputs.size() == 1 && in_range(s.inputs[0], plan_.values) &&
               in_range(s.outputs[0], plan_.values),
           "a copy needs one input and one output");
    return {1, 1};
  }
  static StepArity check(const Step&, const ReduceParams& p) {
    expect(!p.axes.empty(), "it reduces no axis");
    for (size_t i = 0; i < p.axes.size(); ++i) {
      expect(p.axes[i] == p.axes[0] + static_cast<int64_t>(i) && p.axes[i] >= 0 &&
                 p.axes[i] < static_cast<int64_t>(kMostRank),
             "its axes are not neighbours");
    }
    return {1, 1};
  }
  static StepArity check(const Step&, const IntegerParams& p) {
    return p.kind == IntegerKind::select ? StepArity{3, 3} : StepArity{2, 2};
  }
  static StepArity check(const Step&, const IndexParams& p) {
    axis(p.axis);
    axis(p.batch);
    const bool scatters = p.kind == IndexKind::scatter_elements || p.kind == IndexKind::scatter_nd;
    return scatters ? StepArity{3, 3} : StepArity{2, 2};
  }
  static StepArity check(const Step&, const LaneParams& p) {
    axis(p.axis);
    const int outputs = p.kind == LaneKind::top ? 2 : 1;
    return {1, 1, outputs, outputs};
  }
  static void axis(int64_t at) {
    expect(at >= 0 && at < static_cast<int64_t>(kMostRank), "it works along axis ", at);
  }
  StepArity check(const Step&, const RangeParams& p) const {
    symbols(p.start);
    symbols(p.step);
    return {0, 0};
  }
  static StepArity check(const Step&, const ResampleParams& p) {
    try {
      check_rule(p.rule);
    } catch (const Error& e) {
      throw CorruptError(e.what());
    }
    expect(p.rule.coordinates != "tf_crop_and_resize", "it reads a region of interest");
    expect(p.axes.size() == 1 || p.axes.size() == 2, "it resizes ", p.axes.size(), " axes");
    for (const auto& axis : p.axes) {
      expect(axis.scale >= 0 && axis.scale <= 0x1p31, "its scale is ", axis.scale);
    }
    return {1, 1};
  }
  static StepArity check(const Step&, const GridSampleParams&) { return {2, 2}; }
  static StepArity check(const Step&, const RoiAlignParams& p) {
    expect(p.samples >= 0 && p.samples <= kRoiSamples, "it takes ", p.samples, " samples");
    return {3, 3};
  }
  static StepArity check(const Step&, const LrnParams& p) {
    axis(p.axis);
    expect(p.size >= 1 && p.size < kMostExtent, "it reads ", p.size, " channels");
    return {1, 1};
  }
  static StepArity check(const Step&, const ReferenceParams&) { return {0, -1, 1, -1}; }

  const Plan& plan_;
  Symbols known_;
  std::vector<bool> written_;
};

}  // namespace

void verify_plan(const Plan& plan) {
  try {
    with_context([&] { Verifier(plan).run(); }, "the check of a loaded plan");
  } catch (const CorruptError&) {
    throw;
  } catch (const Error& e) {  // an overflow in a size
    throw CorruptError(e.what());
  }
}

std::string why_not_here(const Plan& plan) {
  for (const Step& s : plan.steps) {
    const auto isa = kernel_isa(plan, s);
    if (isa && !this_device().has(*isa)) {
      return cat(s.kernel, " needs ", *isa, ", this machine has ", this_device().best);
    }
  }
  return "";
}

}  // namespace planck
