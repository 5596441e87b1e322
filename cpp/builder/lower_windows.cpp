// Convolutions, pools and joins. Kernels see pictures with channels last: values of this order are
// views of row-major ones the other way round, so that only what really lies in another order is
// copied.
#include <algorithm>
#include <memory>
#include <numeric>
#include <optional>

#include "backends/packing.h"
#include "builder/lowering.h"
#include "builder/quantized.h"
#include "builder/select.h"
#include "kernels/byte_pool/rows.h"
#include "kernels/channelwise/rows.h"
#include "kernels/layout/rows.h"
#include "kernels/matmul/windows.h"
#include "kernels/qdepthwise/rows.h"
#include "kernels/winograd/rows.h"
#include "ops/concat.h"
#include "ops/conv.h"
#include "ops/pool.h"
#include "passes/quant_facts.h"
#include "passes/tools.h"

namespace planck {

std::vector<int64_t> channels_last(size_t rank) {
  std::vector<int64_t> perm(rank);
  std::iota(perm.begin(), perm.end(), 0);
  std::rotate(perm.begin() + 1, perm.begin() + 2, perm.end());
  return perm;
}

namespace {

// Numbers for every axis, or why there are none.
struct Geometry {
  std::vector<WindowParams> windows;
  std::string refusal;
};

Geometry geometry_of(const Lowering& l, const Node& n, const Windowed& w, const Shape& kernel) {
  const std::vector<Dim>& dims = l.graph.value(n.inputs[0]).type().dims;
  if (kernel.empty() || kernel.size() > 2 || dims.size() != kernel.size() + 2) {
    return {{}, "only windows over one or two axes have kernels"};
  }
  std::vector<WindowAxis> axes = window_axes(n.op->name, w, kernel);
  if (w.auto_pad.starts_with("SAME")) {
    Shape in;
    for (size_t i = 2; i < dims.size(); ++i) {
      // With a stride of 1 the padding is the same for any extent.
      const auto extent = axes[i - 2].stride == 1 ? std::optional<int64_t>(1) : dims[i].known();
      if (!extent) return {{}, "its padding is known at run time only"};
      in.push_back(*extent);
    }
    axes = Windows(w, std::move(axes), std::move(in)).axes();
  }
  Geometry out;
  for (const WindowAxis& a : axes) {
    out.windows.push_back({a.kernel, a.stride, a.dilation, a.begin});
  }
  return out;
}

// Every output reads one place: the convolution is a product of rows.
bool is_pointwise(const Geometry& g, const Windowed& w) {
  const auto no_pad = [](int64_t pad) { return pad == 0; };
  return std::ranges::all_of(g.windows,
                             [](const WindowParams& p) {
                               return p.kernel == 1 && p.stride == 1 && p.begin == 0;
                             }) &&
         (w.auto_pad != "NOTSET" || std::ranges::all_of(w.pads, no_pad));
}

// Output channels [first, first + count) of weights [M,C,..] as a matrix [taps * C, count].
Tensor taps_by_channels(const Tensor& w, int64_t first, int64_t count) {
  const int64_t channels = w.shape()[1], taps = w.count() / (w.shape()[0] * channels);
  std::byte* bytes = nullptr;
  Tensor out = Tensor::make(DType::f32, {taps * channels, count}, &bytes);
  auto* to = reinterpret_cast<float*>(bytes);
  for (int64_t m = 0; m < count; ++m) {
    const float* from = w.as<float>() + (first + m) * channels * taps;
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t t = 0; t < taps; ++t) {
        to[(t * channels + c) * count + m] = from[c * taps + t];
      }
    }
  }
  return out;
}

// Kernels of bytes walk along lines of taps that are whole groups of four bytes: taps that a line
// of few channels lacks for that, as of 3 x 3 over colours. What they read, they multiply by 0.
int64_t missing_taps(const Geometry& g, int64_t channels) {
  constexpr int64_t kGroup = 4, kMostWork = 3;  // one tap for three
  const WindowParams& line = g.windows.back();
  if (g.windows.size() < 2 || g.windows.front().kernel == 1 || line.dilation != 1) return 0;
  int64_t missing = 0;
  while ((line.kernel + missing) * channels % kGroup != 0) ++missing;
  return missing * kMostWork <= line.kernel ? missing : 0;
}

// Weights [M,C,H,W] whose lines are longer by taps of 0.
Tensor with_taps(const Tensor& w, int64_t more) {
  const int64_t width = w.shape().back(), lines = w.count() / width;
  Shape shape = w.shape();
  shape.back() += more;
  std::byte* bytes = nullptr;
  Tensor out = Tensor::make(DType::f32, shape, &bytes);
  auto* to = reinterpret_cast<float*>(bytes);
  for (int64_t i = 0; i < lines; ++i, to += width + more) {
    std::copy_n(w.as<float>() + i * width, width, to);
    std::fill_n(to + width, more, 0.0F);
  }
  return out;
}

// A convolution whose operands lie on grids: one product of integers for each group, or a depthwise
// one for all.
struct IntegerConv {
  ByteSource input;
  bool depthwise = false;
  std::vector<WindowParams> windows;  // with the taps that lines lacked
  std::vector<IntegerWeights> groups;
};

// Nothing for any other; where the input is made of bytes, the report says why.
std::shared_ptr<const IntegerConv> integers_of(Lowering& l, const Node& n,
                                               const Geometry& geometry) {
  auto out = std::make_shared<IntegerConv>();
  out->input = byte_source(l.graph, n.inputs[0]);
  if (out->input.node == nullptr || !why_no_integer_product(l.graph, n).empty()) return nullptr;
  const Value& w = l.graph.value(n.inputs[1]);
  const Shape& shape = w.fact.constant->shape();
  const int64_t group = n.as<ops::Convolution>().group;
  out->depthwise = group > 1 && shape[1] == 1;
  out->windows = geometry.windows;
  const int64_t more = out->depthwise ? 0 : missing_taps(geometry, shape[1]);
  out->windows.back().kernel += more;
  const Tensor weights = more == 0 ? *w.fact.constant : with_taps(*w.fact.constant, more);
  const int64_t groups = out->depthwise ? 1 : group, each = shape[0] / groups;
  std::string why = out->input.refusal;
  if (out->depthwise && geometry.windows.back().kernel > kQDepthwiseTaps) {
    why = cat("its windows have more than ", kQDepthwiseTaps, " taps in a row");
  }
  for (int64_t g = 0; g < groups && why.empty(); ++g) {
    const Tensor matrix = taps_by_channels(weights, g * each, each);
    out->groups.push_back(integer_weights(matrix, w.quant.get(), 0, g * each));
    why = out->groups.back().refusal;
  }
  if (why.empty()) return out;
  l.refuse("quantized", n, why);
  return nullptr;
}

class ConvolutionLowering {
 public:
  ConvolutionLowering(Lowering& l, const Node& n, const Geometry& geometry,
                      std::shared_ptr<const IntegerConv> integers, const TileProgram& tail,
                      std::vector<ValueId> operands, Origin origin)
      : l_(l),
        n_(n),
        conv_(n.as<ops::Convolution>()),
        geometry_(geometry),
        origin_(std::move(origin)),
        weights_(*l.graph.value(n.inputs[1]).fact.constant),
        order_(channels_last(weights_.shape().size())),
        tail_(tail),
        operands_(std::move(operands)),
        then_(composed(activation_program(conv_.activation), tail)),
        integers_(std::move(integers)) {}

  void run(const Node& last_node) {
    const int64_t out = weights_.shape()[0], in = weights_.shape()[1];
    if (integers_) return integer_products(last_node);
    if (!operands_.empty()) return reading_product(last_node);
    if (const auto parts = l_.joined.extract(n_.inputs[0])) {
      return product_of_parts(parts.mapped(), last_node);
    }
    const int32_t given = last(n_.inputs[0]), bias = l_.dense(l_.value(n_.input(2)));
    const int32_t residual = l_.rows(last(n_.input(3)));
    const int32_t y = l_.make_permuted_output(last_node, 0, order_);
    if (conv_.group == 1 && !by_winograd()) return product(given, bias, residual, y, 0, out);
    const int32_t x = readable(given);
    if (conv_.group > 1 && in == 1) {
      depthwise(repeated(x), bias, residual, y);
      return;
    }
    if (by_winograd()) {
      winograd(x, bias, residual, y);
      return;
    }
    const int64_t each = out / conv_.group;
    for (int64_t g = 0; g < conv_.group; ++g) {
      product(l_.window(x, g * in, in), l_.window(bias, g * each, each),
              l_.window(residual, g * each, each), l_.window(y, g * each, each), g * each, each);
    }
  }

 private:
  // The picture is a Concat that nobody has written.
  void product_of_parts(const std::vector<Lowering::ConcatPart>& parts, const Node& last_node) {
    const Node& concat = *l_.graph.producer(n_.inputs[0]);
    merge_origin(origin_, concat.origin);
    merge_origin(origin_, l_.graph.value(n_.inputs[0]).origin);
    for (const Lowering::ConcatPart& part : parts) {
      merge_origin(origin_, part.origin);
      repeats_.push_back(part.factors.empty() ? 1 : part.factors.back());
      more_.push_back(l_.permuted(part.x, order_));
    }
    const int32_t x = more_.front();
    more_.erase(more_.begin());
    const int32_t bias = l_.dense(l_.value(n_.input(2)));
    const int32_t residual = l_.rows(last(n_.input(3)));
    const int32_t y = l_.make_permuted_output(last_node, 0, order_);
    product(x, bias, residual, y, 0, weights_.shape()[0]);
  }

  void integer_products(const Node& last_node) {
    const int64_t in = weights_.shape()[1];
    const bool pointwise = !integers_->depthwise && is_pointwise(geometry_, conv_);
    int32_t x = readable(l_.permuted(l_.value(integers_->input.node->inputs[0]), order_));
    const int32_t residual = l_.rows(l_.permuted(byte_residual(l_, n_.input(3)), order_));
    const int32_t y = l_.make_permuted_output(last_node, 0, order_);
    IntegerProduct product{.node = &n_,
                           .input = integers_->input,
                           .channels = in,
                           .windows = integers_->windows,
                           .residual_first = true,
                           .activation = conv_.activation,
                           .depthwise = integers_->depthwise};
    if (pointwise) product.windows.clear();
    if (product.depthwise) x = repeated(x);
    int64_t first = 0;
    for (const IntegerWeights& w : integers_->groups) {
      const int32_t part = product.depthwise ? x : l_.window(x, first / w.n * in, in);
      const ProductPlace place{pointwise ? l_.rows(part) : part, l_.window(y, first, w.n),
                               l_.window(residual, first, w.n), first};
      add_integer_product(l_, product, w, place, tail_, origin_);
      first += w.n;
    }
  }

  // Each channel as often as it has outputs, so that each output has a channel.
  int32_t repeated(int32_t x) {
    const int64_t times = weights_.shape()[0] / conv_.group;
    if (times == 1) return x;
    std::vector<Dim> shape = l_.at(x).shape, from = l_.at(x).strides;
    std::vector<Dim> dims = shape;
    dims.back() = Dim(weights_.shape()[0]);
    const int32_t made = l_.make_scratch({l_.at(x).dtype, std::move(dims)});
    std::vector<Dim> to = l_.at(made).strides;
    shape.emplace_back(times), from.emplace_back(0), to.emplace_back(1);
    to[to.size() - 2] = Dim(times);
    const auto choice = choose_by_isa(copy_rows(), l_.forced());
    l_.add_step(n_, {.op = "",
                     .params = CopyParams{},
                     .inputs = {l_.restrided(x, shape, std::move(from))},
                     .outputs = {l_.restrided(made, shape, std::move(to))},
                     .kernel = std::string(choice.row->name),
                     .nodes = origin_,
                     .rejected = choice.rejected});
    return made;
  }

  // Rows that copy lines anyway take channels from planes, as few as a picture's colours.
  static constexpr int64_t kFewPlanes = 4;

  int32_t last(ValueId v) { return l_.permuted(l_.value(v), order_); }
  bool has_planes(int32_t x) const {
    const PlanValue& v = l_.at(x);
    return v.strides.back() != Dim(1) && v.shape.back() != Dim(1);
  }
  // Kernels read neighbouring channels.
  int32_t readable(int32_t x) { return has_planes(x) ? l_.dense(x) : x; }

  // Three times fewer products, a little less exact. Where the picture is so small that weights,
  // four times as many, come from memory for few products, nothing is won.
  bool by_winograd() const {
    constexpr int64_t kFewChannels = 16, kFewOutputs = 100;
    const auto simple = [](const WindowParams& w) {
      return w.kernel == 3 && w.stride == 1 && w.dilation == 1;
    };
    if (!l_.fast() || conv_.group != 1 || geometry_.windows.size() != 2 ||
        !std::ranges::all_of(geometry_.windows, simple)) {
      return false;
    }
    const std::vector<Dim>& out = l_.graph.value(n_.outputs[0]).type().dims;
    const auto area = (out[2] * out[3]).known();
    return weights_.shape()[0] >= kFewChannels && weights_.shape()[1] >= kFewChannels &&
           (!area || *area >= kFewOutputs);
  }

  void winograd(int32_t x, int32_t bias, int32_t residual, int32_t y) {
    const int64_t n = weights_.shape()[0], channels = weights_.shape()[1];
    const std::vector<float> points = winograd_weights(weights_.as<float>(), n, channels);
    std::byte* bytes = nullptr;
    Tensor matrix = Tensor::make(DType::f32, {kWinogradPoints * channels, n}, &bytes);
    std::ranges::copy(std::as_bytes(std::span(points)), bytes);
    const auto choice = select_matmul(n, channels, true, l_.forced());
    Step step{.op = "",
              .params = WinogradParams{n, channels, geometry_.windows[0].begin,
                                       geometry_.windows[1].begin, then_},
              .inputs = {},
              .outputs = {y},
              .kernel = std::string(choice.row->name),
              .nodes = origin_,
              .rejected = choice.rejected};
    step.given = "fp32-fast";
    const std::string& name = l_.graph.value(n_.inputs[1]).name;
    step.inputs = {x, l_.make_constant(packed(name, matrix, step.kernel)), bias, residual};
    l_.add_step(n_, std::move(step));
  }

  void product(int32_t x, int32_t bias, int32_t residual, int32_t y, int64_t first, int64_t count) {
    const Tensor matrix = taps_by_channels(weights_, first, count);
    const int64_t channels = weights_.shape()[1];
    const bool pointwise = is_pointwise(geometry_, conv_);
    ConvParams params{count, channels, geometry_.windows, then_, repeats_};
    const auto choice = pointwise ? select_matmul(count, channels, true, l_.forced())
                                  : select_convolution(params, l_.forced(), has_planes(x));
    Step step{.op = "",
              .params = std::move(params),
              .inputs = {},
              .outputs = {y},
              .kernel = std::string(choice.row->name),
              .nodes = origin_,
              .rejected = choice.rejected};
    if (pointwise) step.params = LinearParams{count, channels, then_};
    const std::string& name = l_.graph.value(n_.inputs[1]).name;
    const bool planes = choice.row->pairs() && channels <= kFewPlanes;
    const int32_t source = pointwise ? l_.rows(readable(x)) : planes ? x : readable(x);
    step.inputs = {source, l_.make_constant(packed(name, matrix, step.kernel)), bias, residual};
    step.inputs.insert(step.inputs.end(), more_.begin(), more_.end());
    l_.add_step(n_, std::move(step));
  }

  void reading_product(const Node& last_node) {
    const int64_t n = weights_.shape()[0], channels = weights_.shape()[1];
    const int32_t x = readable(last(n_.inputs[0])), bias = l_.dense(l_.value(n_.input(2)));
    Origin origin = origin_;
    const RowsBeside rows = rows_beside(l_, x, last_node, operands_, order_, origin);
    const auto choice = select_matmul(n, channels, true, l_.forced());
    const std::string kernel(choice.row->name);
    const PlanConstant w =
        packed(l_.graph.value(n_.inputs[1]).name, taps_by_channels(weights_, 0, n), kernel);
    Step step{.op = "",
              .params = LinearParams{n, channels, then_},
              .inputs = {rows.x, l_.make_constant(w), bias},
              .outputs = {rows.y},
              .kernel = kernel,
              .nodes = std::move(origin),
              .rejected = choice.rejected};
    step.inputs.insert(step.inputs.end(), rows.operands.begin(), rows.operands.end());
    l_.add_step(n_, std::move(step));
  }

  void depthwise(int32_t x, int32_t bias, int32_t residual, int32_t y) {
    const auto choice = choose_by_isa(channelwise_rows(), l_.forced());
    const std::string& name = l_.graph.value(n_.inputs[1]).name;
    const Tensor taps = taps_by_channels(weights_, 0, weights_.shape()[0]);
    const int32_t w = l_.make_constant({name, without_subnormals(taps), {}});
    l_.add_step(n_, {.op = "",
                     .params = ChannelwiseParams{ChannelwiseKind::depthwise, geometry_.windows,
                                                 false, then_},
                     .inputs = {x, w, bias, residual},
                     .outputs = {y},
                     .kernel = std::string(choice.row->name),
                     .nodes = origin_,
                     .rejected = choice.rejected});
  }

  Lowering& l_;
  const Node& n_;
  const ops::Convolution& conv_;
  const Geometry& geometry_;
  Origin origin_;
  const Tensor& weights_;
  const std::vector<int64_t> order_;
  const TileProgram tail_;               // behind the convolution's own epilogue
  const std::vector<ValueId> operands_;  // of the tail, from operand 1 on
  const TileProgram then_;
  const std::shared_ptr<const IntegerConv> integers_;
  // Of a picture in parts: how often each is repeated, and those behind the first.
  std::vector<int64_t> repeats_;
  std::vector<int32_t> more_;
};

}  // namespace

std::string lower_convolution(Lowering& l, const Node& n) {
  if (!all_f32(l, n)) return "only fp32 convolutions have kernels";
  const Value& w = l.graph.value(n.inputs[1]);
  if (!w.is_constant()) return "its weights are not constant";
  const Shape& shape = w.fact.constant->shape();
  if (w.fact.constant->count() == 0) return "it has no weights";
  const auto& conv = n.as<ops::Convolution>();
  Geometry geometry = geometry_of(l, n, conv, {shape.begin() + 2, shape.end()});
  if (!geometry.refusal.empty()) return geometry.refusal;
  const auto integers = integers_of(l, n, geometry);
  const auto emit_reading = [&l, &n, geometry, integers](const Node& last, const TileProgram& tail,
                                                         const std::vector<ValueId>& operands,
                                                         Origin origin) {
    ConvolutionLowering(l, n, geometry, integers, tail, operands, std::move(origin)).run(last);
  };
  const bool rows = integers == nullptr && conv.group == 1 && n.input(3) == kAbsent;
  if (rows && is_pointwise(geometry, conv)) {
    l.defer_reading(n, emit_reading);
    return "";
  }
  const auto emit = [emit_reading](const Node& last, const TileProgram& tail, Origin origin) {
    emit_reading(last, tail, {}, std::move(origin));
  };
  // What Winograd gives is floats.
  l.defer(n, emit, integers != nullptr || !l.fast());
  return "";
}

std::string lower_pool(Lowering& l, const Node& n) {
  const DType dtype = l.graph.value(n.inputs[0]).type().dtype;
  const bool bytes = n.is("MaxPool") && (dtype == DType::u8 || dtype == DType::s8);
  if (!bytes && !all_f32(l, n)) return cat("no kernel for this pool of ", dtype);
  if (n.outputs.size() > 1 && n.outputs[1] != kAbsent) return "its places are read";
  const bool max = n.is("MaxPool");
  const auto& w = max ? static_cast<const Windowed&>(n.as<ops::MaxPool>())
                      : static_cast<const Windowed&>(n.as<ops::AveragePool>());
  const bool padded =
      w.auto_pad != "NOTSET" || std::ranges::any_of(w.pads, [](int64_t pad) { return pad != 0; });
  const bool counts = padded && !max && n.as<ops::AveragePool>().count_include_pad != 0;
  if (counts && n.as<ops::AveragePool>().ceil_mode != 0) {
    return "it counts padding that its last windows reach over";
  }
  Geometry geometry = geometry_of(l, n, w, w.kernel_shape);
  if (!geometry.refusal.empty()) return geometry.refusal;
  const std::vector<int64_t> order = channels_last(w.kernel_shape.size() + 2);
  const int32_t x = l.permuted(l.value(n.inputs[0]), order);
  const bool readable = l.at(x).strides.back() == Dim(1) || l.at(x).shape.back() == Dim(1);
  if (bytes) {
    const auto choice = choose_by_isa(byte_pool_rows(), l.forced());
    l.add_step(n, {.op = "",
                   .params = BytePoolParams{std::move(geometry.windows)},
                   .inputs = {readable ? x : l.dense(x)},
                   .outputs = {l.make_permuted_output(n, 0, order)},
                   .kernel = std::string(choice.row->name),
                   .nodes = {},
                   .rejected = choice.rejected});
    return "";
  }
  const auto choice = choose_by_isa(channelwise_rows(), l.forced());
  l.add_step(n, {.op = "",
                 .params = ChannelwiseParams{max ? ChannelwiseKind::max : ChannelwiseKind::average,
                                             std::move(geometry.windows),
                                             counts,
                                             {}},
                 .inputs = {readable ? x : l.dense(x), -1, -1, -1},
                 .outputs = {l.make_permuted_output(n, 0, order)},
                 .kernel = std::string(choice.row->name),
                 .nodes = {},
                 .rejected = choice.rejected});
  return "";
}

std::string lower_global_pool(Lowering& l, const Node& n) {
  if (!all_f32(l, n)) return "only fp32 pools have kernels";
  std::vector<int64_t> axes(l.graph.value(n.inputs[0]).type().dims.size() - 2);
  std::iota(axes.begin(), axes.end(), 2);
  return reduce_step(l, n, n.is("GlobalMaxPool") ? ReduceKind::max : ReduceKind::mean, axes);
}

namespace {

using ConcatPart = Lowering::ConcatPart;

ConcatPart part_of(Lowering& l, ValueId v) {
  const auto repeats = l.repeated.extract(v);
  if (!repeats) return {l.value(v), {}, {}};
  const Node& resize = *l.graph.producer(v);
  return {l.value(resize.inputs[0]), repeats.mapped(), origin_of_repeated(l, resize)};
}

// Whether a kernel takes the part where it lies: channels innermost, as often on both axes.
bool lies_readable(Lowering& l, const ConcatPart& part) {
  const std::vector<int64_t>& f = part.factors;
  if (!f.empty() && (f[0] != 1 || f[1] != 1 || f[2] != f[3])) return false;
  const PlanValue& v = l.at(part.x);
  return v.shape[1].known() && (v.strides[1] == Dim(1) || v.shape[1] == Dim(1));
}

// Whether the one reader is a convolution whose windows are copied out of the picture anyway: from
// parts as fast as from one.
bool is_read_in_parts(Lowering& l, const Node& concat, const std::vector<ConcatPart>& parts) {
  const ValueId out = concat.outputs[0];
  const Node* reader = only_reader(l.graph, out);
  if (reader == nullptr || !reader->is("planck.Convolution") || l.graph.uses(out) != 1 ||
      reader->inputs[0] != out || l.fast() || parts.size() > kMostParts) {
    return false;
  }
  const Value& w = l.graph.value(reader->inputs[1]);
  const auto& conv = reader->as<ops::Convolution>();
  if (!all_f32(l, *reader) || !w.is_constant() || conv.group != 1 || w.type().rank() != 4 ||
      checked_axis(concat.as<ops::Concat>().axis, 4) != 1) {
    return false;
  }
  const Shape& shape = w.fact.constant->shape();
  return (shape[2] > 1 || shape[3] > 1) &&
         std::ranges::all_of(parts, [&](const ConcatPart& p) { return lies_readable(l, p); });
}

}  // namespace

std::string lower_concat(Lowering& l, const Node& n) {
  std::vector<ConcatPart> parts;
  for (const ValueId v : n.inputs) parts.push_back(part_of(l, v));
  if (is_read_in_parts(l, n, parts)) {
    l.joined[n.outputs[0]] = std::move(parts);
  } else {
    write_joined(l, n, parts);
  }
  return "";
}

void write_joined(Lowering& l, const Node& n, const std::vector<ConcatPart>& parts) {
  const std::vector<Dim>& dims = l.graph.value(n.outputs[0]).type().dims;
  const auto rank = static_cast<int64_t>(dims.size());
  const int64_t axis = checked_axis(n.as<ops::Concat>().axis, rank);
  std::vector<int64_t> order(dims.size());
  std::iota(order.begin(), order.end(), 0);
  for (const ConcatPart& part : parts) {
    const auto memory = memory_order(l.at(part.x));
    if (!memory || std::ranges::is_sorted(*memory)) continue;
    order = *memory;
    // Joined single elements, as a stack has them, lie beside the next axis, of which views are
    // made.
    if (axis + 1 < rank && l.at(part.x).shape[static_cast<size_t>(axis)] == Dim(1)) {
      std::erase(order, axis);
      order.insert(std::ranges::find(order, axis + 1), axis);
    }
    break;
  }
  const int32_t y = l.make_permuted_output(n, 0, order);
  const auto place = std::ranges::find(order, axis) - order.begin();
  const auto choice = choose_by_isa(copy_rows(), l.forced());
  Dim start(0);
  for (const ConcatPart& part : parts) {
    const int32_t v = part.x;
    const Dim extent = l.at(v).shape[static_cast<size_t>(axis)];
    const int32_t to = l.window(y, place, start, extent);
    start = start + extent;
    if (!part.factors.empty()) {
      copy_repeated(l, n, l.permuted(v, order), to, in_order(part.factors, order), part.origin);
      continue;
    }
    l.add_step(n, {.op = "",
                   .params = CopyParams{},
                   .inputs = {l.permuted(v, order)},
                   .outputs = {to},
                   .kernel = std::string(choice.row->name),
                   .nodes = {},
                   .rejected = choice.rejected});
  }
}

}  // namespace planck
