#include "builder/quantized.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "backends/packing.h"
#include "builder/select.h"
#include "kernels/eltwise/rows.h"
#include "kernels/integer/rows.h"
#include "kernels/layout/rows.h"
#include "kernels/qdepthwise/rows.h"
#include "kernels/qmatmul/rows.h"

namespace planck {
namespace {

std::optional<double> number(const Graph& g, ValueId v) {
  if (v == kAbsent) return 0;
  const Value& value = g.value(v);
  if (!value.is_constant() || value.fact.constant->count() != 1) return std::nullopt;
  const Wide wide = widen(*value.fact.constant);
  return wide.at(0);
}

Tensor vector_of(DType dtype, const auto& numbers) {
  std::byte* bytes = nullptr;
  Tensor out = Tensor::make(dtype, {static_cast<int64_t>(numbers.size())}, &bytes);
  std::ranges::copy(std::as_bytes(std::span(numbers)), bytes);
  return out;
}

}  // namespace

ByteSource byte_source(const Graph& g, ValueId v) {
  ByteSource out;
  const Node* n = g.producer(v);
  if (n == nullptr || !n->is("DequantizeLinear")) return out;
  out.node = n;
  const Value& q = g.value(n->inputs[0]);
  const Value& scale = g.value(n->inputs[1]);
  if (g.value(v).type().dtype != DType::f32) {
    out.refusal = cat("it computes in ", g.value(v).type().dtype, ", which has no kernels yet");
  } else if (q.type().dtype != DType::u8) {
    out.refusal = cat("its input is ", q.type().dtype, ", integer kernels read 8 bits");
  } else if (scale.type().rank() > 0 && product(scale.type().dims) != Dim(1)) {
    out.refusal = "its input has more than one scale";
  } else if (const auto s = number(g, scale.id)) {
    out.scale = static_cast<float>(*s);
    const auto zero = number(g, n->input(2));
    if (zero) out.zero = static_cast<int32_t>(*zero);
    if (!zero) out.refusal = "its input has a constant scale and a zero point that varies";
  }
  return out;
}

namespace {

std::string why_no_grid(const QParams* grid, int64_t axis) {
  if (grid == nullptr) return "its weights lie on no grid";
  if (grid->block != 0) return "its weights have scales for blocks";
  if (info(grid->dtype).bits != 8) {
    return cat("its weights are ", grid->dtype, ", integer kernels take 8 bits");
  }
  if (grid->scale.size() > 1 && grid->axis != axis) {
    return "its weights have scales along another axis than their outputs";
  }
  return "";
}

// The integer that a number on the grid stands for; nothing if it is none of 8 bits, or just one
// above.
std::optional<int16_t> code_of(float weight, float scale) {
  const auto w = static_cast<double>(weight), s = static_cast<double>(scale);
  const double code = std::nearbyint(w / s);
  // A factor that was folded into both costs a rounding each.
  if (!(std::abs(code * s - w) <= 1e-6 * std::max(std::abs(w), s)) || code < -128 || code > 128) {
    return std::nullopt;
  }
  return static_cast<int16_t>(code);
}

// Unsigned weights with the zero point 127 reach from -127 to 128: such columns are negated, and so
// are their scales, which changes no product.
bool negate_beyond(std::vector<int16_t>& codes, std::vector<float>& scales) {
  const size_t columns = scales.size();
  std::vector<int16_t> low(columns, 0), high(columns, 0);
  for (size_t i = 0; i < codes.size(); ++i) {
    low[i % columns] = std::min(low[i % columns], codes[i]);
    high[i % columns] = std::max(high[i % columns], codes[i]);
  }
  for (size_t i = 0; i < codes.size(); ++i) {
    if (high[i % columns] <= 127) continue;
    if (low[i % columns] < -127) return false;
    codes[i] = static_cast<int16_t>(-codes[i]);
  }
  for (size_t j = 0; j < columns; ++j) {
    if (high[j] > 127) scales[j] = -scales[j];
  }
  return true;
}

// Sums with any input, their start included, must stay inside 32 bits.
bool fits_int32(const IntegerWeights& w) {
  std::vector<int64_t> most(static_cast<size_t>(w.n), 0);
  for (size_t i = 0; i < w.codes.size(); ++i) {
    most[i % most.size()] += std::abs(int64_t{w.codes[i]}) * int64_t{2} * 255;
  }
  return std::ranges::all_of(most, [](int64_t m) { return m <= INT32_MAX; });
}

}  // namespace

IntegerWeights integer_weights(const Tensor& matrix, const QParams* grid, int64_t axis,
                               int64_t first) {
  IntegerWeights out;
  out.k = matrix.shape()[0];
  out.n = matrix.shape()[1];
  out.refusal = why_no_grid(grid, axis);
  if (matrix.dtype() != DType::f32) out.refusal = cat("its weights are ", matrix.dtype());
  if (!out.refusal.empty()) return out;
  const auto columns = static_cast<size_t>(out.n);
  for (size_t j = 0; j < columns; ++j) {
    out.scales.push_back(grid->scale[grid->scale.size() == 1 ? 0 : static_cast<size_t>(first) + j]);
  }
  std::vector<int16_t> codes(static_cast<size_t>(matrix.count()));
  const float* w = matrix.as<float>();
  for (size_t i = 0; i < codes.size(); ++i) {
    const auto code = code_of(w[i], out.scales[i % columns]);
    if (!code) {
      out.refusal = cat("its weight ", w[i], " is no multiple of its scale ",
                        out.scales[i % columns], " between -128 and 127");
      return out;
    }
    codes[i] = *code;
  }
  if (!negate_beyond(codes, out.scales)) {
    out.refusal = "its weights less their zero point reach from -128 to 128";
    return out;
  }
  out.codes.assign(codes.begin(), codes.end());
  if (!fits_int32(out)) out.refusal = cat("sums over ", out.k, " products could leave 32 bits");
  return out;
}

std::optional<Requantized> as_requantize(const TileProgram& program) {
  if (program.operands.size() != 1 || program.body.size() < 3) return std::nullopt;
  const std::vector<TileInstr>& body = program.body;
  const TileInstr& last = body.back();
  const auto constant = [&](int16_t i) -> std::optional<float> {
    const TileInstr& instr = body[static_cast<size_t>(i)];
    if (instr.op != TileOp::constant) return std::nullopt;
    return instr.imm;
  };
  if (last.op != TileOp::quantize_u8) return std::nullopt;
  const auto scale = constant(last.b), zero = constant(last.c);
  if (!scale || !zero) return std::nullopt;
  Requantized out{*scale, {true, static_cast<int32_t>(*zero), 0, 255}};
  const auto level = [&](float x) {  // the byte that quantisation makes of a bound
    const float q = std::nearbyint(x / *scale) + *zero;
    return static_cast<int32_t>(std::clamp(q, 0.0f, 255.0f));
  };
  // From the end to the product; quantisation is monotonic, so bounds become bytes, the outer ones
  // applied last.
  std::vector<std::pair<TileOp, float>> bounds;
  int16_t at = last.a;
  while (body[static_cast<size_t>(at)].op != TileOp::operand) {
    const TileInstr& i = body[static_cast<size_t>(at)];
    if (i.op == TileOp::relu) {
      bounds.emplace_back(TileOp::max, 0.0f);
      at = i.a;
      continue;
    }
    if (i.op != TileOp::max && i.op != TileOp::min) return std::nullopt;
    const auto left = constant(i.a), right = constant(i.b);
    if (left.has_value() == right.has_value()) return std::nullopt;
    bounds.emplace_back(i.op, left ? *left : *right);
    at = left ? i.b : i.a;
  }
  for (auto it = bounds.rbegin(); it != bounds.rend(); ++it) {
    const int32_t byte = level(it->second);
    Requantize& r = out.bounds;
    if (it->first == TileOp::max) {
      r.low = std::max(r.low, byte), r.high = std::max(r.high, byte);
    } else {
      r.low = std::min(r.low, byte), r.high = std::min(r.high, byte);
    }
  }
  return out;
}

int32_t byte_residual(Lowering& l, ValueId residual) {
  if (residual == kAbsent) return -1;
  const ByteSource bytes = byte_source(l.graph, residual);
  return l.value(bytes.readable() && bytes.scale > 0 ? bytes.node->inputs[0] : residual);
}

namespace {

class ProductLowering {
 public:
  ProductLowering(Lowering& l, const IntegerProduct& product, const IntegerWeights& weights,
                  const ProductPlace& place, const TileProgram& tail, Origin origin)
      : l_(l), p_(product), w_(weights), place_(place), origin_(std::move(origin)) {
    add_epilogue(tail);
    if (p_.input.scale > 0 && place_.residual < 0) requantized_ = as_requantize(then_);
    column_sums();
  }

  void run() {
    Step step{.op = "",
              .params = {},
              .inputs = {},
              .outputs = {place_.y},
              .kernel = "",
              .nodes = std::move(origin_),
              .rejected = {}};
    const int32_t bias = p_.input.scale > 0 ? known_scales() : run_time_scales();
    const int32_t weights = p_.depthwise ? make_depthwise(step) : make_product(step);
    step.inputs = {place_.x, weights, offset_, multiplier_, bias, place_.residual};
    if (zero_ >= 0) step.inputs.push_back(zero_);
    step.asked = step.given = "int8";
    merge_origin(step.nodes, p_.input.node->origin);
    l_.add_step(*p_.node, std::move(step));
  }

 private:
  // Kernel and parameters; returns the weights in the kernel's form.
  int32_t make_product(Step& step) {
    QProductParams params{w_.n, p_.channels, p_.windows, p_.input.zero, requantize(), program()};
    auto choice = select_qmatmul(params, w_.codes, l_.at(place_.y), l_.forced(), known_rows());
    step.kernel = choice.row->name;
    step.rejected = std::move(choice.rejected);
    step.params = std::move(params);
    return l_.make_constant(packed_codes(weight_name(), w_.codes, w_.n, w_.k, step.kernel));
  }
  // Of the product, as far as the graph says.
  int64_t known_rows() const {
    const std::vector<Dim>& y = l_.at(place_.y).shape;
    int64_t rows = 1;
    for (size_t i = 0; i + 1 < y.size() && rows < kTypicalRows; ++i) {
      rows *= std::min(y[i].known().value_or(kTypicalRows), kTypicalRows);
    }
    return rows;
  }
  int32_t make_depthwise(Step& step) {
    auto choice = choose_by_isa(qdepthwise_rows(), l_.forced());
    step.kernel = choice.row->name;
    step.rejected = std::move(choice.rejected);
    step.params = QDepthwiseParams{p_.windows, p_.input.zero, requantize(), program()};
    return l_.make_constant({weight_name(), vector_of(DType::s8, w_.codes), {}});
  }
  const std::string& weight_name() const { return l_.graph.value(p_.node->inputs[1]).name; }
  Requantize requantize() const { return requantized_ ? requantized_->bounds : Requantize{}; }
  TileProgram program() const { return requantized_ ? TileProgram{} : then_; }

  // Operand 0 is the product with its bias; a residual that cannot be added before the program is
  // operand 1.
  void add_epilogue(const TileProgram& tail) {
    const TileProgram own = activation_program(p_.activation);
    const bool in_program = place_.residual >= 0 && !p_.residual_first && !own.body.empty();
    then_ = in_program ? activation_program(p_.activation, true) : own;
    const DType type = place_.residual >= 0 ? l_.at(place_.residual).dtype : DType::f32;
    if (type == DType::u8) then_ = with_bytes();
    then_ = composed(then_, tail);
  }

  // The residual is a tensor of bytes: (r - zero) * scale, added where it belongs.
  TileProgram with_bytes() const {
    const ByteSource source = byte_source(l_.graph, p_.node->input(3));
    TileProgram p;
    p.operands = {Broadcast::none, Broadcast::none};
    int16_t y = p.operand(0);
    const auto add = [&] {
      int16_t r = p.operand(1);
      r = p.apply(TileOp::sub, r, p.constant(static_cast<float>(source.zero)));
      y = p.apply(TileOp::add, y, p.apply(TileOp::mul, r, p.constant(source.scale)));
    };
    if (p_.residual_first) add();
    for (const TileInstr& i : activation_program(p_.activation).body) {
      if (i.op != TileOp::operand) y = p.apply(i.op, y);
    }
    if (!p_.residual_first) add();
    return p;
  }

  void column_sums() {
    const auto n = static_cast<size_t>(w_.n);
    sums_.assign(n, 0);
    most_.assign(n, 0);
    for (size_t i = 0; i < w_.codes.size(); ++i) {
      sums_[i % n] += w_.codes[i];
      most_[i % n] += std::abs(w_.codes[i]) * int64_t{255};
    }
  }

  double unit(size_t j) const {
    return static_cast<double>(p_.input.scale) * static_cast<double>(w_.scales[j]);
  }

  // Of column j. The columns of a transposed convolution are its channels, once for each tap.
  double bias_at(size_t j) const {
    const Tensor& bias = *l_.graph.value(p_.node->inputs[2]).fact.constant;
    const int64_t place = (place_.first + static_cast<int64_t>(j)) % bias.count();
    return static_cast<double>(bias.as<float>()[place]);
  }
  int32_t bias_over(double step) const {
    std::vector<float> scaled(sums_.size());
    for (size_t j = 0; j < scaled.size(); ++j) scaled[j] = static_cast<float>(bias_at(j) / step);
    return l_.make_constant({"", vector_of(DType::f32, scaled), {}});
  }
  // As fp32 adds it, or -1.
  int32_t float_bias() const {
    if (p_.node->input(2) == kAbsent) return -1;
    const Value& bias = l_.graph.value(p_.node->inputs[2]);
    if (bias.is_constant() && bias.fact.constant->count() < w_.n) return bias_over(1);
    return l_.window(l_.dense(l_.value(bias.id)), place_.first, w_.n);
  }

  // The bias in units of the sums, if it is made of those: integers in the file.
  std::optional<std::vector<int64_t>> integer_bias() const {
    const ValueId id = p_.node->input(2);
    std::vector<int64_t> out(sums_.size(), 0);
    if (id == kAbsent) return out;
    const Value& bias = l_.graph.value(id);
    if (!bias.is_constant()) return std::nullopt;
    for (size_t j = 0; j < out.size(); ++j) {
      const double exact = bias_at(j) / unit(j), whole = std::nearbyint(exact);
      // A scale of its own, rounded once more, is a few ulps off.
      if (!(std::abs(exact - whole) <= 4e-7 * std::abs(whole)) || std::abs(whole) >= 0x1p30) {
        return std::nullopt;
      }
      out[j] = static_cast<int64_t>(whole);
      if (std::abs(out[j]) + most_[j] + 255 * std::abs(sums_[j]) > INT32_MAX) return std::nullopt;
    }
    return out;
  }

  // Constants offset and multiplier; returns the bias that is still to be added in fp32, or -1.
  int32_t known_scales() {
    const auto whole = integer_bias();
    const double step = requantized_ ? static_cast<double>(requantized_->scale) : 1;
    std::vector<int32_t> offsets(sums_.size());
    std::vector<float> multipliers(sums_.size());
    for (size_t j = 0; j < sums_.size(); ++j) {
      const int64_t start = (whole ? (*whole)[j] : 0) - p_.input.zero * sums_[j];
      offsets[j] = static_cast<int32_t>(start);
      multipliers[j] = static_cast<float>(unit(j) / step);
    }
    offset_ = l_.make_constant({"", vector_of(DType::s32, offsets), {}});
    multiplier_ = l_.make_constant({"", vector_of(DType::f32, multipliers), {}});
    if (whole) return -1;
    return requantized_ ? bias_over(step) : float_bias();
  }

  // offset = zero * -sums, multiplier = scale * scales, by steps of their own. What windows read in
  // the padding is an operand; depthwise kernels take it from x themselves.
  int32_t run_time_scales() {
    std::vector<int32_t> negative(sums_.size());
    for (size_t j = 0; j < sums_.size(); ++j) negative[j] = static_cast<int32_t>(-sums_[j]);
    const Node& dq = *p_.input.node;
    const int32_t scales = l_.make_constant({"", vector_of(DType::f32, w_.scales), {}});
    multiplier_ = l_.make_scratch({DType::f32, {Dim(w_.n)}});
    TileProgram times;
    times.operands = {Broadcast::none, Broadcast::none};
    times.apply(TileOp::mul, times.operand(0), times.operand(1));
    add_small("planck.ProductScale", EltwiseParams{times}, eltwise_rows(),
              {l_.value(dq.inputs[1]), scales}, multiplier_);
    if (p_.depthwise) std::ranges::fill(negative, 0);
    const int32_t sums = l_.make_constant({"", vector_of(DType::s32, negative), {}});
    offset_ = sums;
    if (!p_.windows.empty() && dq.input(2) != kAbsent) zero_ = l_.dense(l_.value(dq.inputs[2]));
    if (dq.input(2) != kAbsent && !p_.depthwise) {
      const int32_t zero = l_.make_scratch({DType::s32, {Dim(1)}});
      add_small("planck.ProductZero", CopyParams{}, convert_rows(),
                {l_.restrided(l_.value(dq.inputs[2]), {Dim(1)}, {Dim(1)})}, zero);
      offset_ = l_.make_scratch({DType::s32, {Dim(w_.n)}});
      add_small("planck.ProductOffset", IntegerParams{IntegerKind::mul}, integer_rows(),
                {zero, sums}, offset_);
    }
    return float_bias();
  }

  void add_small(std::string op, const StepParams& params, auto rows,
                 const std::vector<int32_t>& inputs, int32_t output) {
    const auto choice = choose_by_isa(rows, l_.forced());
    Step& step = l_.add_step(*p_.input.node, {.op = "",
                                              .params = params,
                                              .inputs = inputs,
                                              .outputs = {output},
                                              .kernel = std::string(choice.row->name),
                                              .nodes = {},
                                              .rejected = choice.rejected});
    step.op = std::move(op);
  }

  Lowering& l_;
  const IntegerProduct& p_;
  const IntegerWeights& w_;
  const ProductPlace place_;
  Origin origin_;
  TileProgram then_;
  std::optional<Requantized> requantized_;
  std::vector<int64_t> sums_;  // of each column's weights
  std::vector<int64_t> most_;  // magnitude that a sum can reach
  int32_t offset_ = -1, multiplier_ = -1;
  int32_t zero_ = -1;  // the zero point of x, where the run alone knows it and windows read it
};

}  // namespace

void add_integer_product(Lowering& l, const IntegerProduct& product, const IntegerWeights& weights,
                         const ProductPlace& place, const TileProgram& tail, Origin origin) {
  ProductLowering(l, product, weights, place, tail, std::move(origin)).run();
}

}  // namespace planck
