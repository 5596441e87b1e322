// Tile programs: functions against double, programs against their text read in double, strips of
// every shape against single elements, every ISA against the portable row bit for bit.
#include <memory>
#include <random>

#include "base/checked.h"
#include "guarded.h"
#include "kernel_rows.h"
#include "kernels/eltwise/rows.h"

namespace planck {
namespace {

// ---- functions ------------------------------------------------------------------------------

// Largest distance over all floats: in ulps, or in 1e-7 max(1, |x|) where the result falls below
// what fp32 arithmetic in x resolves.
struct Function {
  TileOp op;
  double (*exact)(double);
  double ulps;      // 0: not bounded
  double absolute;  // in 1e-7 max(1, |x|); 0: not bounded
};
double exact_gelu_tanh(double x) {
  if (std::isinf(x)) return x > 0 ? x : std::nan("");
  const double z = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
  return x / (1 + std::exp(-2 * z));
}
double exact_hard_swish(double x) { return x * std::min(std::max(x / 6 + 0.5, 0.0), 1.0); }
const Function kFunctions[] = {
    {TileOp::neg, [](double x) { return -x; }, 0.01, 0},
    {TileOp::abs, [](double x) { return std::fabs(x); }, 0.01, 0},
    {TileOp::sqrt, [](double x) { return std::sqrt(x); }, 0.501, 0},
    {TileOp::reciprocal, [](double x) { return 1 / x; }, 0.501, 0},
    {TileOp::relu, [](double x) { return x < 0 ? 0 : x; }, 0.01, 0},
    {TileOp::exp, [](double x) { return std::exp(x); }, 1, 0},
    {TileOp::log, [](double x) { return std::log(x); }, 1, 0},
    {TileOp::erf, [](double x) { return std::erf(x); }, 1.3, 0},
    {TileOp::tanh, [](double x) { return std::tanh(x); }, 1.3, 0},
    {TileOp::sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }, 2.4, 0.8},
    {TileOp::gelu_erf, [](double x) { return x * 0.5 * std::erfc(-x / M_SQRT2); }, 0, 1.7},
    {TileOp::gelu_tanh, exact_gelu_tanh, 0, 1.3},
    {TileOp::swish, [](double x) { return x / (1 + std::exp(-x)); }, 0, 1.7},
    {TileOp::hard_swish, exact_hard_swish, 0, 1.2},
    {TileOp::floor, [](double x) { return std::floor(x); }, 0.01, 0},
    {TileOp::ceil, [](double x) { return std::ceil(x); }, 0.01, 0},
    {TileOp::round, [](double x) { return std::nearbyint(x); }, 0.01, 0},
    {TileOp::sin, [](double x) { return std::sin(x); }, 0, 1},
    {TileOp::cos, [](double x) { return std::cos(x); }, 0, 1},
};

// Every `step`-th float, NaN and infinities among them.
std::vector<float> floats_of_all_sizes(uint64_t step) {
  std::vector<float> x = {0.0f,    -0.0f,     1,      -1,     kInfinity, -kInfinity, kNotANumber,
                          1e-45f,  -1e-45f,   1e-39f, 88.72f, 88.73f,    -87.34f,    -103.9f,
                          -104.1f, 0.921875f, 0.625f, 8,      -8,        3.4e38f,    -3.4e38f};
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += step) {
    x.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  }
  for (float v = -12; v < 12; v += 0.00111f) x.push_back(v);
  return x;
}

EltProgram unary(TileOp op) {
  TileProgram p;
  p.operands = {Broadcast::none};
  p.apply(op, p.operand(0));
  return compile(p);
}

std::vector<float> apply(const EltwiseRow& row, const EltProgram& program,
                         const std::vector<float>& x) {
  std::vector<float> y(x.size());
  const int64_t n = static_cast<int64_t>(x.size());
  const EltOperand in = {x.data(), n, 1};
  row.strip(program, {&in, y.data(), n, 1, n});
  return y;
}

void check_function(const Function& f, const std::vector<float>& x, const std::vector<float>& y) {
  double worst_ulps = 0, worst_absolute = 0;
  float at = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = f.exact(x[i]);
    ASSERT_EQ(std::isnan(y[i]), std::isnan(exact)) << "x = " << x[i] << ", y = " << y[i];
    if (std::isnan(exact)) continue;
    const double distance = ulps(y[i], exact);
    if (f.ulps > 0 && distance > worst_ulps) worst_ulps = distance, at = x[i];
    if (f.absolute == 0 || !std::isfinite(x[i])) continue;
    const double absolute = std::fabs(y[i] - exact) / std::fmax(1, std::fabs(x[i])) * 1e7;
    if (absolute > worst_absolute) worst_absolute = absolute, at = x[i];
  }
  EXPECT_LE(worst_ulps, f.ulps) << "at " << at;
  EXPECT_LE(worst_absolute, f.absolute) << "at " << at;
}

void check_functions(const EltwiseRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  const std::vector<float> x = floats_of_all_sizes(row.isa == Isa::portable ? 20011 : 2003);
  for (const Function& f : kFunctions) {
    SCOPED_TRACE(info(f.op).name);
    check_function(f, x, apply(row, unary(f.op), x));
  }
}

// Far arguments, whose results are neither subnormal nor near it, take no detour through such
// numbers. Of exp: those of masks.
void check_far(const EltwiseRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  const std::vector<float> far{-3.4e38F, -1e9F, -1e4F, -177, -12.9F, -9, 9, 12.9F, 80, 87};
  const std::vector<float> masks{-kInfinity, -3.4e38F, -1e9F, -1e4F, -177};
  for (const TileOp op : {TileOp::exp, TileOp::erf, TileOp::tanh, TileOp::sigmoid, TileOp::gelu_erf,
                          TileOp::gelu_tanh, TileOp::swish, TileOp::hard_swish}) {
    SCOPED_TRACE(info(op).name);
    for (const float x : op == TileOp::exp ? masks : far) {
      const EltProgram program = unary(op);
      const std::vector<float> in(16, x);
      const Underflows underflows;
      apply(row, program, in);
      EXPECT_FALSE(underflows.any()) << "at " << x;
    }
  }
}

// ---- pow ------------------------------------------------------------------------------------

void check_pow(const EltwiseRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  TileProgram p;
  p.operands = {Broadcast::none, Broadcast::none};
  p.apply(TileOp::pow, p.operand(0), p.operand(1));
  const EltProgram program = compile(p);
  std::vector<float> x, y;
  const float edges[] = {0.0f,   -0.0f, 1,         -1,         2,           -2,
                         3,      -3,    0.5f,      -0.5f,      2.5f,        -8,
                         1e-40f, 1e30f, kInfinity, -kInfinity, kNotANumber, 16777217.0f,
                         1e9f,   -1e9f, 127,       -149};
  for (const float a : edges) {
    for (const float b : edges) x.push_back(a), y.push_back(b);
  }
  std::mt19937 random(7);
  std::uniform_real_distribution<float> log_size(-80, 80), exponent(-4, 4);
  for (int i = 0; i < 20000; ++i) {
    x.push_back(std::exp(log_size(random))), y.push_back(exponent(random));
  }
  std::vector<float> out(x.size());
  const int64_t n = static_cast<int64_t>(x.size());
  const EltOperand in[] = {{x.data(), n, 1}, {y.data(), n, 1}};
  row.strip(program, {in, out.data(), n, 1, n});
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = std::pow(static_cast<double>(x[i]), static_cast<double>(y[i]));
    ASSERT_LE(ulps(out[i], exact), 4) << x[i] << " ^ " << y[i] << " = " << out[i];
    if (exact != 0) continue;
    ASSERT_EQ(std::signbit(out[i]), std::signbit(exact)) << x[i] << " ^ " << y[i];
  }
}

// ---- programs and strips --------------------------------------------------------------------

// The text of a program read in double, one rounding of the result.
double read_in_double(const TileProgram& p, const std::vector<double>& operands) {
  std::vector<double> v;
  for (const TileInstr& i : p.body) {
    const auto at = [&](int16_t index) { return v.at(static_cast<size_t>(index)); };
    switch (i.op) {
      case TileOp::operand:
        v.push_back(operands.at(static_cast<size_t>(i.a)));
        break;
      case TileOp::constant:
        v.push_back(i.imm);
        break;
      case TileOp::add:
        v.push_back(at(i.a) + at(i.b));
        break;
      case TileOp::sub:
        v.push_back(at(i.a) - at(i.b));
        break;
      case TileOp::mul:
        v.push_back(at(i.a) * at(i.b));
        break;
      case TileOp::div:
        v.push_back(at(i.a) / at(i.b));
        break;
      case TileOp::min:
        v.push_back(std::fmin(at(i.a), at(i.b)));
        break;
      case TileOp::max:
        v.push_back(std::fmax(at(i.a), at(i.b)));
        break;
      case TileOp::pow:
        v.push_back(std::pow(at(i.a), at(i.b)));
        break;
      case TileOp::equal:
        v.push_back(at(i.a) == at(i.b) ? 1 : 0);
        break;
      case TileOp::less:
        v.push_back(at(i.a) < at(i.b) ? 1 : 0);
        break;
      case TileOp::less_equal:
        v.push_back(at(i.a) <= at(i.b) ? 1 : 0);
        break;
      case TileOp::select:
        v.push_back(at(i.a) != 0 ? at(i.b) : at(i.c));
        break;
      default:
        for (const Function& f : kFunctions) {
          if (f.op == i.op) v.push_back(f.exact(at(i.a)));
        }
    }
  }
  return v.back();
}

std::vector<TileProgram> programs() {
  std::vector<TileProgram> all;
  const auto start = [&](std::vector<Broadcast> operands) -> TileProgram& {
    all.emplace_back().operands = std::move(operands);
    return all.back();
  };
  using enum Broadcast;
  {
    TileProgram& p = start({none});  // a copy
    p.operand(0);
  }
  {
    TileProgram& p = start({none, per_column});  // bias, GELU: one fused pass
    p.apply(TileOp::gelu_erf, p.apply(TileOp::add, p.operand(0), p.operand(1)));
  }
  {
    TileProgram& p = start({none, per_column, none});  // bias, residual: one fused pass
    const auto biased = p.apply(TileOp::add, p.operand(0), p.operand(1));
    p.apply(TileOp::add, p.operand(2), biased);
  }
  {
    TileProgram& p = start({none, per_row, scalar});  // HardSwish of a scaled input
    const auto x = p.apply(TileOp::mul, p.operand(0), p.operand(1));
    const auto gate = p.apply(TileOp::add, x, p.constant(3));
    const auto low = p.apply(TileOp::max, gate, p.constant(0));
    const auto high = p.apply(TileOp::min, low, p.constant(6));
    p.apply(TileOp::div, p.apply(TileOp::mul, x, high), p.operand(2));
  }
  {
    TileProgram& p = start({none, per_column, none});  // a value read twice, a dead one, select
    const auto x = p.operand(0);
    const auto square = p.apply(TileOp::pow, x, p.constant(2));
    p.apply(TileOp::exp, square);
    const auto gate = p.apply(TileOp::max, p.operand(1), p.constant(0));
    const auto twice = p.apply(TileOp::sub, square, p.apply(TileOp::tanh, square));
    p.apply(TileOp::select, gate, twice, p.operand(2));
  }
  {
    TileProgram& p = start({scalar, none});  // the scalar comes first
    p.apply(TileOp::relu, p.apply(TileOp::add, p.operand(0), p.operand(1)));
  }
  {
    TileProgram& p = start({none, per_column, per_row});  // comparisons as conditions
    const auto low = p.apply(TileOp::less, p.operand(0), p.operand(1));
    const auto high = p.apply(TileOp::less_equal, p.operand(0), p.operand(2));
    p.apply(TileOp::select, p.apply(TileOp::equal, low, high), p.operand(0), p.constant(7));
  }
  return all;
}

// Operands of a strip between forbidden pages, rows apart by more than they are long.
struct StripData {
  StripData(const TileProgram& p, int64_t row_count, int64_t column_count)
      : rows(row_count), columns(column_count) {
    uint32_t seed = 3;
    for (const Broadcast b : p.operands) {
      const bool by_row = b == Broadcast::none || b == Broadcast::per_row;
      const bool by_column = b == Broadcast::none || b == Broadcast::per_column;
      const int64_t step = by_row ? (by_column ? columns + 5 : 3) : 0;
      const int64_t count = (by_row ? (rows - 1) * step : 0) + (by_column ? columns : 1);
      memory.push_back(std::make_unique<GuardedFloats>(count));
      memory.back()->randomize(++seed, 3);
      operands.push_back({memory.back()->data(), step, by_column ? 1 : 0});
    }
  }
  float at(size_t operand, int64_t r, int64_t c) const {
    const EltOperand& o = operands[operand];
    return static_cast<const float*>(o.data)[r * o.row_stride + c * o.column_stride];
  }
  int64_t rows, columns;
  std::vector<std::unique_ptr<GuardedFloats>> memory;
  std::vector<EltOperand> operands;
};

void check_strip(const EltwiseRow& row, const TileProgram& text, int64_t rows, int64_t columns) {
  const EltProgram program = compile(text);
  const StripData data(text, rows, columns);
  const int64_t stride = columns + 7;
  GuardedFloats out((rows - 1) * stride + columns);
  out.fill(12345);
  row.strip(program, {data.operands.data(), out.data(), stride, rows, columns});
  for (int64_t i = 0; i < out.size(); ++i) {
    const int64_t r = i / stride, c = i % stride;
    if (c >= columns) {
      ASSERT_EQ(out[i], 12345) << "written between the rows";
      continue;
    }
    std::vector<EltOperand> one = data.operands;
    std::vector<double> exact_in;
    for (size_t k = 0; k < one.size(); ++k) {
      one[k].advance(r * one[k].row_stride + c * one[k].column_stride);
      exact_in.push_back(data.at(k, r, c));
    }
    const double exact = read_in_double(text, exact_in);
    ASSERT_NEAR(out[i], exact, 1e-6 * std::fmax(1, std::fabs(exact))) << r << ", " << c;
    float alone;
    row.strip(program, {one.data(), &alone, 1, 1, 1});
    ASSERT_TRUE(same_bits(alone, out[i])) << r << ", " << c << ": the place changes the bits";
  }
}

void check_strips(const EltwiseRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  const int64_t shapes[][2] = {{1, 1},  {3, 15},  {6, 16},  {5, 17},  {40, 3},
                               {2, 64}, {2, 255}, {2, 256}, {3, 272}, {1, 700}};
  const std::vector<TileProgram> all = programs();
  for (size_t i = 0; i < all.size(); ++i) {
    for (const auto& shape : shapes) {
      SCOPED_TRACE(cat("program ", i, ", ", shape[0], " x ", shape[1]));
      check_strip(row, all[i], shape[0], shape[1]);
    }
  }
}

void check_in_place(const EltwiseRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  for (const TileProgram& text : programs()) {
    if (text.operands[0] != Broadcast::none) continue;
    for (const int64_t columns : {9, 48, 300}) {
      const EltProgram program = compile(text);
      const StripData data(text, 4, columns);
      const int64_t stride = data.operands[0].row_stride;
      std::vector<float> apart(static_cast<size_t>(4 * stride));
      row.strip(program, {data.operands.data(), apart.data(), stride, 4, columns});
      float* same = data.memory[0]->data();
      row.strip(program, {data.operands.data(), same, stride, 4, columns});
      for (int64_t r = 0; r < 4; ++r) {
        expect_same_bits(same + r * stride, apart.data() + r * stride, columns);
      }
    }
  }
}

void check_bits_of_portable(const EltwiseRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  const EltwiseRow& portable = eltwise_row("eltwise_f32_16_portable");
  const std::vector<float> x = floats_of_all_sizes(100003);
  const std::vector<float> y(x.rbegin(), x.rend());
  const int64_t n = static_cast<int64_t>(x.size());
  for (const TileOpInfo& op : kTileOps) {
    if (op.arity == 0) continue;
    SCOPED_TRACE(op.name);
    TileProgram p;
    p.operands = {Broadcast::none, Broadcast::none, Broadcast::scalar};
    const int16_t a = p.operand(0), b = p.operand(1), c = p.operand(2);
    p.apply(op.op, a, b, c);
    const EltProgram program = compile(p);
    const float third = 0.7f;
    const EltOperand in[] = {{x.data(), n, 1}, {y.data(), n, 1}, {&third, 0, 0}};
    std::vector<float> got(x.size()), expected(x.size());
    row.strip(program, {in, got.data(), n, 1, n});
    portable.strip(program, {in, expected.data(), n, 1, n});
    expect_same_bits(got, expected, n);
  }
}

// ---- steps of their own ---------------------------------------------------------------------

struct Broadcasting {
  std::vector<int64_t> out, a, b;
};

int64_t offset_of(const std::vector<int64_t>& dims, const std::vector<int64_t>& out, int64_t i) {
  int64_t offset = 0, step = 1;
  for (size_t k = 0; k < out.size(); ++k) {
    const int64_t at = i % out[out.size() - 1 - k];
    i /= out[out.size() - 1 - k];
    if (k >= dims.size()) continue;
    const int64_t extent = dims[dims.size() - 1 - k];
    if (extent != 1) offset += at * step;
    step *= extent;
  }
  return offset;
}

void check_job(const EltwiseRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  TileProgram p;
  p.operands = {Broadcast::none, Broadcast::none};
  p.apply(TileOp::sub, p.operand(0), p.operand(1));
  const Broadcasting cases[] = {
      {{2, 7, 64}, {2, 7, 64}, {2, 7, 64}},
      {{2, 7, 64}, {2, 7, 64}, {64}},
      {{2, 7, 33}, {2, 7, 1}, {7, 33}},
      {{3, 4, 5, 6, 7}, {4, 1, 6, 1}, {3, 1, 5, 1, 7}},
      {{}, {}, {}},
      {{20000}, {20000}, {1}},
      {{0, 4}, {0, 4}, {4}},
      {{300, 1, 50}, {300, 1, 50}, {1, 1, 1}},
      {{2, 3}, {2, 1}, {1, 3}},
      {{3, 9000}, {3, 9000}, {3, 1}},
  };
  for (const Broadcasting& c : cases) {
    SCOPED_TRACE(joined(c.out));
    const int64_t count = checked_count(c.out);
    GuardedFloats a(checked_count(c.a)), b(checked_count(c.b)), out(count);
    a.randomize(1), b.randomize(2);
    const EltwiseInput in[] = {{a.data(), c.a}, {b.data(), c.b}};
    run_all_tiles(row, make_eltwise_args(compile(p), in, out.data(), c.out));
    for (int64_t i = 0; i < count; ++i) {
      ASSERT_EQ(out[i], a[offset_of(c.a, c.out, i)] - b[offset_of(c.b, c.out, i)]) << i;
    }
  }
}

// Operands whose rows have gaps, and one whose elements are not neighbours.
void check_strides(const EltwiseRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  TileProgram p;
  p.operands = {Broadcast::none, Broadcast::none};
  p.apply(TileOp::sub, p.operand(0), p.operand(1));
  const std::vector<int64_t> out_dims = {3, 5, 33}, b_dims = {1, 5, 33};
  for (const std::vector<int64_t>& strides :
       {std::vector<int64_t>{300, 40, 1}, {165, 33, 1}, {1, 99, 3}}) {
    SCOPED_TRACE(joined(strides));
    GuardedFloats a(2 * strides[0] + 4 * strides[1] + 32 * strides[2] + 1), b(4 * 50 + 33);
    GuardedFloats out(3 * 5 * 33);
    a.randomize(1), b.randomize(2);
    const std::vector<int64_t> b_strides = {7, 50, 1};
    const EltwiseInput in[] = {{a.data(), out_dims, EltType::f32, strides},
                               {b.data(), b_dims, EltType::f32, b_strides}};
    run_all_tiles(row, make_eltwise_args(compile(p), in, out.data(), out_dims));
    for (int64_t i = 0; i < out.size(); ++i) {
      const int64_t x = i / 165, y = i / 33 % 5, z = i % 33;
      ASSERT_EQ(out[i], a[x * strides[0] + y * strides[1] + z * strides[2]] - b[y * 50 + z]) << i;
    }
  }
}

// where(mask < x, mask, not mask), stored as bools: masks of any byte, broadcast along either side.
void check_bools(const EltwiseRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  TileProgram p;
  p.operands = {Broadcast::none, Broadcast::none};
  const auto mask = p.operand(0);
  const auto less = p.apply(TileOp::less, mask, p.operand(1));
  p.apply(TileOp::select, less, mask, p.apply(TileOp::sub, p.constant(1), mask));
  const Broadcasting cases[] = {
      {{2, 7, 64}, {2, 7, 64}, {2, 7, 64}},
      {{2, 7, 33}, {7, 1}, {7, 33}},
      {{2, 7, 33}, {33}, {2, 7, 33}},
      {{}, {}, {}},
      {{20000}, {20000}, {1}},
      {{300, 50}, {1, 1}, {300, 50}},
      {{3, 9000}, {3, 1}, {3, 9000}},
      {{0, 4}, {0, 4}, {4}},
  };
  for (const Broadcasting& c : cases) {
    SCOPED_TRACE(joined(c.out));
    const int64_t count = checked_count(c.out);
    GuardedBytes a(checked_count(c.a)), out(count);
    GuardedFloats b(checked_count(c.b));
    b.randomize(2, 2);
    for (int64_t i = 0; i < a.size(); ++i) a[i] = static_cast<uint8_t>(i % 3 * 127);
    const EltwiseInput in[] = {{a.data(), c.a, EltType::b8}, {b.data(), c.b}};
    run_all_tiles(row, make_eltwise_args(compile(p), in, out.data(), c.out, EltType::b8));
    for (int64_t i = 0; i < count; ++i) {
      const int mask_at = a[offset_of(c.a, c.out, i)] != 0;
      const bool kept = static_cast<float>(mask_at) < b[offset_of(c.b, c.out, i)];
      ASSERT_EQ(out[i], kept ? mask_at : 1 - mask_at) << i;
    }
  }
}

// ---- integers in memory ---------------------------------------------------------------------

// Elements of a type between forbidden pages.
struct Integers {
  Integers(EltType elements, int64_t n) : type(elements), bytes(n * elt_bytes(elements)) {
    std::mt19937 random(static_cast<uint32_t>(n));
    for (int64_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(random());
  }
  double at(int64_t i) const {
    const uint8_t* p = &bytes[i * elt_bytes(type)];
    if (type == EltType::u8) return *p;
    if (type == EltType::b8) return *p != 0 ? 1 : 0;
    if (type == EltType::s8) return static_cast<int8_t>(*p);
    int32_t whole = 0;
    std::memcpy(&whole, p, sizeof whole);
    return whole;
  }
  EltType type;
  GuardedBytes bytes;
};

// What a byte of the type holds of a whole number or NaN.
uint8_t stored(EltType type, float x) {
  if (type == EltType::b8) return x != 0 ? 1 : 0;  // NaN differs from 0
  const float low = type == EltType::u8 ? 0 : -128, high = type == EltType::u8 ? 255 : 127;
  return static_cast<uint8_t>(static_cast<int>(std::isnan(x) ? low : std::clamp(x, low, high)));
}

// a * 3 - b over every pair of types, strides and shape.
void check_integers(const EltwiseRow& row, EltType a_type, EltType b_type, int64_t columns) {
  constexpr int64_t kRows = 5;
  TileProgram p;
  p.operands = {Broadcast::none, Broadcast::none};
  p.apply(TileOp::sub, p.apply(TileOp::mul, p.operand(0), p.constant(3)), p.operand(1));
  const EltProgram program = compile(p);
  const int64_t a_step = columns + 3;
  const Integers a(a_type, (kRows - 1) * a_step + columns);
  for (const auto& [b_step, b_column] : {std::pair<int64_t, int64_t>{0, 0}, {2, 0}, {0, 1}}) {
    const Integers b(b_type, b_column * columns + b_step * kRows + 1);
    const EltOperand in[] = {{a.bytes.data(), a_step, 1, a_type},
                             {b.bytes.data(), b_step, b_column, b_type}};
    const auto exact = [&](int64_t r, int64_t c) {
      const auto x = static_cast<float>(a.at(r * a_step + c));
      return x * 3 - static_cast<float>(b.at(r * b_step + c * b_column));
    };
    GuardedFloats floats(kRows * columns);
    row.strip(program, {in, floats.data(), columns, kRows, columns});
    for (int64_t i = 0; i < floats.size(); ++i) {
      ASSERT_EQ(floats[i], exact(i / columns, i % columns)) << i;
    }
    const int64_t step = columns + 2;
    for (const EltType type : {EltType::u8, EltType::s8, EltType::b8}) {
      GuardedBytes bytes((kRows - 1) * step + columns);
      for (int64_t i = 0; i < bytes.size(); ++i) bytes[i] = 77;
      row.strip(program, {in, bytes.data(), step, kRows, columns, type});
      for (int64_t i = 0; i < bytes.size(); ++i) {
        const int64_t c = i % step;
        const int want = c < columns ? stored(type, exact(i / step, c)) : 77;
        ASSERT_EQ(bytes[i], want) << i << " of type " << static_cast<int>(type);
      }
    }
  }
}

void check_all_integers(const EltwiseRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  constexpr EltType kTypes[] = {EltType::b8, EltType::u8, EltType::s8, EltType::s32};
  for (const EltType a : kTypes) {
    for (const EltType b : kTypes) {
      for (const int64_t columns : {1, 15, 16, 17, 64, 300}) {
        SCOPED_TRACE(cat(static_cast<int>(a), ", ", static_cast<int>(b), ", ", columns));
        check_integers(row, a, b, columns);
      }
    }
  }
}

// A byte that is read is written where it lay.
void check_bytes_in_place(const EltwiseRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  TileProgram p;
  p.operands = {Broadcast::none};
  p.apply(TileOp::sub, p.constant(255), p.operand(0));
  for (const int64_t columns : {9, 48, 300}) {
    const Integers x(EltType::u8, 3 * columns);
    std::vector<uint8_t> before(x.bytes.data(), x.bytes.data() + x.bytes.size());
    const EltOperand in{x.bytes.data(), columns, 1, EltType::u8};
    row.strip(compile(p), {&in, x.bytes.data(), columns, 3, columns, EltType::u8});
    for (size_t i = 0; i < before.size(); ++i) {
      ASSERT_EQ(x.bytes[static_cast<int64_t>(i)], 255 - before[i]) << i;
    }
  }
}

// As ops/quantize.cpp says it: the quotient in fp32, all else exact.
double exact_quantized(float x, float scale, int zero, int low, int high) {
  const float ratio = x / scale;
  if (std::isnan(ratio)) return low;
  return std::clamp(std::nearbyint(static_cast<double>(ratio)) + zero, double(low), double(high));
}

void check_quantize(const EltwiseRow& row, TileOp op, float scale, int zero) {
  const bool is_signed = op == TileOp::quantize_s8;
  const int low = is_signed ? -128 : 0, high = is_signed ? 127 : 255;
  std::vector<float> x = floats_of_all_sizes(200003);
  for (int i = -600; i <= 600; ++i) x.push_back(static_cast<float>(i) * scale / 2);  // halves
  for (const float v : {1e30f, -1e30f, 0.5f, 1.5f, 2.5f, -0.5f, 3e9f}) x.push_back(v);
  TileProgram p;
  p.operands = {Broadcast::none};
  const auto in = p.operand(0);
  const auto by = p.constant(scale);
  p.apply(op, in, by, p.constant(static_cast<float>(zero)));
  const EltProgram program = compile(p);
  const std::vector<float> floats = apply(row, program, x);
  std::vector<uint8_t> bytes(x.size());
  const auto n = static_cast<int64_t>(x.size());
  const EltOperand operand{x.data(), n, 1};
  row.strip(program, {&operand, bytes.data(), n, 1, n, is_signed ? EltType::s8 : EltType::u8});
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = exact_quantized(x[i], scale, zero, low, high);
    ASSERT_EQ(floats[i], exact) << x[i] << " / " << scale << " + " << zero;
    ASSERT_EQ(bytes[i], static_cast<uint8_t>(static_cast<int>(exact))) << x[i];
  }
}

void check_quantizing(const EltwiseRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  for (const float scale : {1.0f, 0.1f, 0.0078740157f, 3.7e-30f, 1e-42f, 2.5e20f}) {
    for (const int zero : {0, 3, 128, 255}) check_quantize(row, TileOp::quantize_u8, scale, zero);
    for (const int zero : {-128, -1, 0, 127}) check_quantize(row, TileOp::quantize_s8, scale, zero);
  }
}

TEST(EltwiseQuantize, ExtremeValues) {
  TileProgram p;
  p.operands = {Broadcast::none};
  const auto x = p.operand(0);
  const auto one = p.constant(1);
  p.apply(TileOp::quantize_s8, x, one, p.constant(0));
  const std::vector<float> in = {kNotANumber, kInfinity, -kInfinity, 1e30f, -1e30f, 0.5f,
                                 1.5f,        2.5f,      -0.5f,      -0.0f, 126.5f, 127.5f};
  const std::vector<float> want = {-128, 127, -128, 127, -128, 0, 2, 2, 0, 0, 126, 127};
  EXPECT_EQ(apply(eltwise_row("eltwise_f32_16_portable"), compile(p), in), want);
}

#define PLANCK_ELTWISE(name, isa)                                         \
  TEST(EltwiseFunctions, name) { check_functions(eltwise_row(#name)); }   \
  TEST(EltwiseFar, name) { check_far(eltwise_row(#name)); }               \
  TEST(EltwisePow, name) { check_pow(eltwise_row(#name)); }               \
  TEST(EltwiseStrips, name) { check_strips(eltwise_row(#name)); }         \
  TEST(EltwiseInPlace, name) { check_in_place(eltwise_row(#name)); }      \
  TEST(EltwiseBits, name) { check_bits_of_portable(eltwise_row(#name)); } \
  TEST(EltwiseJob, name) { check_job(eltwise_row(#name)); }               \
  TEST(EltwiseStrides, name) { check_strides(eltwise_row(#name)); }       \
  TEST(EltwiseBools, name) { check_bools(eltwise_row(#name)); }           \
  TEST(EltwiseIntegers, name) { check_all_integers(eltwise_row(#name)); } \
  TEST(EltwiseBytes, name) { check_bytes_in_place(eltwise_row(#name)); }  \
  TEST(EltwiseQuantize, name) { check_quantizing(eltwise_row(#name)); }
#include "kernels/eltwise/kernels.inc"
#undef PLANCK_ELTWISE

// ---- compile --------------------------------------------------------------------------------

TEST(EltwiseCompile, FusesPairs) {
  const std::vector<TileProgram> all = programs();
  EXPECT_EQ(compile(all[1]).instrs, 1);
  EXPECT_EQ(compile(all[1]).code[0].op, EltOp::add_gelu_erf);
  EXPECT_EQ(compile(all[2]).instrs, 1);
  EXPECT_EQ(compile(all[2]).code[0].op, EltOp::add_add);
}

TEST(EltwiseCompile, ExactPowers) {
  const std::pair<float, EltOp> exact[] = {{2.0f, EltOp::mul},     {3.0f, EltOp::mul},
                                           {0.5f, EltOp::sqrt},    {-1.0f, EltOp::reciprocal},
                                           {1.0f, EltOp::operand}, {0.0f, EltOp::operand},
                                           {1.5f, EltOp::pow}};
  for (const auto& [y, op] : exact) {
    TileProgram p;
    p.operands = {Broadcast::none};
    p.apply(TileOp::pow, p.operand(0), p.constant(y));
    const EltProgram program = compile(p);
    EXPECT_EQ(program.code[program.instrs - 1].op, op) << y;
  }
}

TEST(EltwiseCompile, RefusesWhatIsMalformed) {
  TileProgram p;
  EXPECT_THROW(compile(p), InternalError);  // empty
  p.operands = {Broadcast::none};
  p.operand(1);
  EXPECT_THROW(compile(p), InternalError);  // no such operand
  p.body = {{TileOp::operand, 0}, {TileOp::add, 0, 1}};
  EXPECT_THROW(compile(p), InternalError);  // reads itself
  p.body = {{TileOp::operand, 0}, {TileOp::exp, -1}};
  EXPECT_THROW(compile(p), InternalError);
  p.body = {{static_cast<TileOp>(200), 0}};
  EXPECT_THROW(compile(p), InternalError);
}

TEST(EltwiseCompile, RefusesWhatIsTooLarge) {
  TileProgram operands;
  operands.operands.resize(kEltOperands + 1);
  operands.operand(0);
  EXPECT_THROW(compile(operands), UnsupportedError);
  TileProgram deep;
  deep.operands = {Broadcast::none};
  int16_t at = deep.operand(0);
  for (int i = 0; i <= kEltInstrs; ++i) at = deep.apply(TileOp::exp, at);
  EXPECT_THROW(compile(deep), UnsupportedError);
  TileProgram wide;  // the values of all constants live until the end
  wide.operands = {Broadcast::none};
  at = wide.operand(0);
  for (int i = 0; i <= kEltRegisters; ++i) {
    at = wide.apply(TileOp::mul, at, wide.constant(static_cast<float>(i)));
  }
  EXPECT_THROW(compile(wide), UnsupportedError);
}

TEST(EltwiseArgs, RefusesWhatDoesNotBroadcast) {
  const EltProgram program = unary(TileOp::exp);
  float x[6] = {}, y[6];
  const int64_t three[] = {3}, two_two[] = {2, 2};
  const EltwiseInput in[] = {{x, three}};
  EXPECT_THROW(make_eltwise_args(program, in, y, two_two), InternalError);
  EXPECT_THROW(make_eltwise_args(program, {}, y, three), InternalError);
}

}  // namespace
}  // namespace planck
