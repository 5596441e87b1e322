#pragma once
// The interpreter of tile programs, for one ISA: included by avx2.cpp, avx512.cpp and portable.cpp
// after their vector header. A strip is walked in blocks of 256 floats (whole rows where they are
// short); each instruction is one pass over the block, whose values stay in L1 (21 KB at most, 1 KB
// a value).
#include "kernels/eltwise/eltwise.h"
#include "kernels/simd/planes_impl.h"

namespace planck {
namespace {

constexpr int64_t kBlock = 256;  // shorter: dispatch and drained pipelines show

// Where the block's rows of a value lie: row r begins at data + r * pitch.
struct Source {
  const float* data;
  int64_t pitch;
};
struct Target {
  float* data;
  int64_t pitch;
};

PLANCK_INLINE F16 truth(M16 holds) { return select(holds, set1(1.0f), zero16()); }

template <EltOp op>
PLANCK_INLINE F16 apply(F16 x, [[maybe_unused]] F16 y, [[maybe_unused]] F16 z) {
  if constexpr (op == EltOp::operand) return x;
  if constexpr (op == EltOp::add) return x + y;
  if constexpr (op == EltOp::sub) return x - y;
  if constexpr (op == EltOp::mul) return x * y;
  if constexpr (op == EltOp::div) return x / y;
  if constexpr (op == EltOp::min) return min_nan(x, y);
  if constexpr (op == EltOp::max) return max_nan(x, y);
  if constexpr (op == EltOp::pow) return pow(x, y);
  if constexpr (op == EltOp::neg) return neg(x);
  if constexpr (op == EltOp::abs) return abs(x);
  if constexpr (op == EltOp::sqrt) return sqrt(x);
  if constexpr (op == EltOp::reciprocal) return set1(1.0f) / x;
  if constexpr (op == EltOp::exp) return exp(x);
  if constexpr (op == EltOp::log) return log(x);
  if constexpr (op == EltOp::erf) return erf(x);
  if constexpr (op == EltOp::tanh) return tanh(x);
  if constexpr (op == EltOp::sigmoid) return sigmoid(x);
  if constexpr (op == EltOp::relu) return relu(x);
  if constexpr (op == EltOp::gelu_erf) return gelu_erf(x);
  if constexpr (op == EltOp::gelu_tanh) return gelu_tanh(x);
  if constexpr (op == EltOp::swish) return swish(x);
  if constexpr (op == EltOp::hard_swish) return hard_swish(x);
  if constexpr (op == EltOp::select) return select(x == zero16(), z, y);
  if constexpr (op == EltOp::equal) return truth(x == y);
  if constexpr (op == EltOp::less) return truth(x < y);
  if constexpr (op == EltOp::less_equal) return truth((x < y) | (x == y));
  if constexpr (op == EltOp::floor) return floor(x);
  if constexpr (op == EltOp::ceil) return ceil(x);
  if constexpr (op == EltOp::round) return round(x);
  if constexpr (op == EltOp::sin) return sin(x);
  if constexpr (op == EltOp::cos) return cos(x);
  if constexpr (op == EltOp::quantize_u8) return quantize(x, y, z, set1(0.0f), set1(255.0f));
  if constexpr (op == EltOp::quantize_s8) return quantize(x, y, z, set1(-128.0f), set1(127.0f));
#define PLANCK_ELT_FUSED(name, first, second, arity) \
  if constexpr (op == EltOp::name) return apply<EltOp::second>(apply<EltOp::first>(x, y, y), z, z);
#include "kernels/eltwise/fused.inc"
#undef PLANCK_ELT_FUSED
}

// One instruction over `rows` rows of `width` floats. The target may be a source.
template <EltOp op, int kArity>
void run_op(const Source* in, Target out, int64_t rows, int64_t width) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* x = in[0].data + r * in[0].pitch;
    const float* y = kArity > 1 ? in[1].data + r * in[1].pitch : nullptr;
    const float* z = kArity > 2 ? in[2].data + r * in[2].pitch : nullptr;
    float* to = out.data + r * out.pitch;
    int64_t c = 0;
    for (; c + 16 <= width; c += 16) {
      const F16 vx = load(x + c);
      const F16 vy = kArity > 1 ? load(y + c) : vx;
      const F16 vz = kArity > 2 ? load(z + c) : vx;
      store(to + c, apply<op>(vx, vy, vz));
    }
    if (c == width) continue;
    const int64_t left = width - c;
    const F16 vx = load_first(x + c, left);
    const F16 vy = kArity > 1 ? load_first(y + c, left) : vx;
    const F16 vz = kArity > 2 ? load_first(z + c, left) : vx;
    store_first(to + c, apply<op>(vx, vy, vz), left);
  }
}

using OpFn = void (*)(const Source* in, Target out, int64_t rows, int64_t width);
struct OpEntry {
  OpFn run;
  int arity;
};
// In the order of EltOp. A constant is never an instruction: the entry stands for its number.
constexpr OpEntry kOpEntries[] = {
// The same arity for most ops.  NOLINTBEGIN(bugprone-branch-clone)
#define PLANCK_TILE_OP(name, arity)                                                 \
  {run_op < EltOp::name == EltOp::constant ? EltOp::operand : EltOp::name, arity >, \
   arity ? arity : 1},
#include "base/tile_ops.inc"
#undef PLANCK_TILE_OP
// NOLINTEND(bugprone-branch-clone)
#define PLANCK_ELT_FUSED(name, first, second, arity) {run_op<EltOp::name, arity>, arity},
#include "kernels/eltwise/fused.inc"
#undef PLANCK_ELT_FUSED
};

struct Buffers {
  alignas(64) float registers[kEltRegisters][kBlock];
  alignas(64) float operands[kEltOperands][kBlock];  // repeated values, and staged tails
  alignas(64) float out[kBlock];                     // a staged tail's result
};

struct BlockArea {
  int64_t row, rows, column, columns;
  int64_t width;  // columns rounded up to 16: the pitch of the buffers
  bool staged() const { return width != columns; }
};

template <EltType type>
struct Memory {
  static constexpr int64_t kBytes = type == EltType::f32 || type == EltType::s32 ? 4 : 1;

  static PLANCK_INLINE F16 read(const char* p) {
    if constexpr (type == EltType::f32) return load(reinterpret_cast<const float*>(p));
    if constexpr (type == EltType::s32) return to_float(load_s32(p));
    if constexpr (type == EltType::s8) return to_float(load_s8(p));
    if constexpr (type == EltType::u8) return to_float(load_u8(p));
    if constexpr (type == EltType::b8) return any_but_zero(to_float(load_u8(p)));
  }
  // The first n elements; lanes beyond are 0.
  static PLANCK_INLINE F16 read_first(const char* p, int64_t n) {
    if constexpr (type == EltType::f32) return load_first(reinterpret_cast<const float*>(p), n);
    char part[16 * kBytes] = {};
    for (int64_t i = 0; i < n * kBytes; ++i) part[i] = p[i];
    return read(part);
  }
  static PLANCK_INLINE void write(char* p, F16 x) {
    if constexpr (type == EltType::f32) return store(reinterpret_cast<float*>(p), x);
    if constexpr (type == EltType::u8) return store_bytes(p, between(x, 0, 255));
    if constexpr (type == EltType::s8) return store_bytes(p, between(x, -128, 127));
    if constexpr (type == EltType::b8) return store_bytes(p, any_but_zero(x));
  }
  static PLANCK_INLINE void write_first(char* p, F16 x, int64_t n) {
    if constexpr (type == EltType::f32) return store_first(reinterpret_cast<float*>(p), x, n);
    char part[16 * kBytes];
    write(part, x);
    for (int64_t i = 0; i < n * kBytes; ++i) p[i] = part[i];
  }

 private:
  static PLANCK_INLINE F16 any_but_zero(F16 x) {
    return select(x == zero16(), zero16(), set1(1.0f));
  }
  static PLANCK_INLINE F16 between(F16 x, float low, float high) {
    return min2(max2(x, set1(low)), set1(high));  // NaN becomes low
  }
};

void fill(float* to, float value, int64_t count) {
  for (int64_t i = 0; i < count; i += 16) store(to + i, set1(value));
}

// Copies rows into a buffer of pitch `width`; lanes beyond `columns` become 0.
template <EltType type>
void stage_as(const void* from, int64_t row_stride, const BlockArea& area, float* to) {
  using Elements = Memory<type>;
  const int64_t whole = area.columns / 16 * 16;
  for (int64_t r = 0; r < area.rows; ++r) {
    const char* x = static_cast<const char*>(from) + r * row_stride * Elements::kBytes;
    float* y = to + r * area.width;
    for (int64_t c = 0; c < whole; c += 16) store(y + c, Elements::read(x + c * Elements::kBytes));
    if (whole == area.columns) continue;
    store(y + whole, Elements::read_first(x + whole * Elements::kBytes, area.columns - whole));
  }
}
void stage(const EltOperand& o, const BlockArea& area, float* to) {
  switch (o.type) {
    case EltType::f32:
      return stage_as<EltType::f32>(o.data, o.row_stride, area, to);
    case EltType::b8:
      return stage_as<EltType::b8>(o.data, o.row_stride, area, to);
    case EltType::u8:
      return stage_as<EltType::u8>(o.data, o.row_stride, area, to);
    case EltType::s8:
      return stage_as<EltType::s8>(o.data, o.row_stride, area, to);
    case EltType::s32:
      return stage_as<EltType::s32>(o.data, o.row_stride, area, to);
  }
}

template <EltType type>
void unstage_as(const float* from, const BlockArea& area, void* to, int64_t row_stride) {
  using Elements = Memory<type>;
  const int64_t whole = area.columns / 16 * 16;
  for (int64_t r = 0; r < area.rows; ++r) {
    const float* x = from + r * area.width;
    char* y = static_cast<char*>(to) + r * row_stride * Elements::kBytes;
    for (int64_t c = 0; c < whole; c += 16) Elements::write(y + c * Elements::kBytes, load(x + c));
    if (whole == area.columns) continue;
    Elements::write_first(y + whole * Elements::kBytes, load(x + whole), area.columns - whole);
  }
}
void unstage(const float* from, const BlockArea& area, void* to, const EltStrip& strip) {
  switch (strip.out_type) {
    case EltType::f32:
      return unstage_as<EltType::f32>(from, area, to, strip.out_row_stride);
    case EltType::b8:
      return unstage_as<EltType::b8>(from, area, to, strip.out_row_stride);
    case EltType::u8:
      return unstage_as<EltType::u8>(from, area, to, strip.out_row_stride);
    case EltType::s8:
      return unstage_as<EltType::s8>(from, area, to, strip.out_row_stride);
    case EltType::s32:
      return;  // never written
  }
}

PLANCK_INLINE bool is_scalar(const EltOperand& o) {
  return o.column_stride == 0 && o.row_stride == 0;
}
// One element, repeated.
void fill_with(EltOperand o, int64_t at, float* to, int64_t count) {
  o.advance(at);
  alignas(64) float one[16];
  stage(o, {0, 1, 0, 1, 16}, one);
  fill(to, one[0], count);
}

// Where the block reads an operand. Operands of columns are read in place unless their last vector
// would pass the end of the row; one of rows is repeated into its buffer.
Source source_of(const EltOperand& o, const BlockArea& area, float* buffer) {
  if (is_scalar(o)) return {buffer, 0};  // filled once for the strip
  if (o.column_stride == 0) {
    for (int64_t r = 0; r < area.rows; ++r) {
      fill_with(o, (area.row + r) * o.row_stride, buffer + r * area.width, area.width);
    }
    return {buffer, area.width};
  }
  EltOperand at = o;
  at.advance(area.row * o.row_stride + area.column);
  if (!area.staged() && o.type == EltType::f32) {
    return {static_cast<const float*>(at.data), o.row_stride};
  }
  stage(at, area, buffer);
  return {buffer, area.width};
}

bool ends_in_quotient(const EltProgram& program, const EltStrip& strip) {
  return program.quotient.proved && strip.out_type == EltType::u8;
}

// The last instruction, straight to bytes in memory.
void store_quantized(const ByteQuotient& quotient, const Source& from, const BlockArea& area,
                     void* to, int64_t row_stride) {
  const ByteQuotient by = quotient;  // stores of bytes might change the program's
  const int64_t whole = area.columns / 16 * 16;
  for (int64_t r = 0; r < area.rows; ++r) {
    const float* x = from.data + r * from.pitch;
    char* y = static_cast<char*>(to) + r * row_stride;
    int64_t c = 0;
    for (; c + 64 <= whole; c += 64) {
      const F16 levels[] = {level_by(load(x + c), by), level_by(load(x + c + 16), by),
                            level_by(load(x + c + 32), by), level_by(load(x + c + 48), by)};
      store_levels(y + c, levels, by.zero);
    }
    for (; c < whole; c += 16) store_levels(y + c, level_by(load(x + c), by), by.zero);
    if (whole == area.columns) continue;
    char part[16];
    store_levels(part, level_by(load_first(x + whole, area.columns - whole), by), by.zero);
    for (; c < area.columns; ++c) y[c] = part[c - whole];
  }
}

void run_block(const EltProgram& program, const EltStrip& strip, const BlockArea& area,
               Buffers& buffers) {
  Source operands[kEltOperands];
  for (int i = 0; i < program.operands; ++i) {
    operands[i] = source_of(strip.operands[i], area, buffers.operands[i]);
  }
  void* place = static_cast<char*>(strip.out) +
                (area.row * strip.out_row_stride + area.column) * elt_bytes(strip.out_type);
  const bool buffered = area.staged() || strip.out_type != EltType::f32;
  float* out = buffered ? buffers.out : static_cast<float*>(place);
  for (int i = 0; i < program.instrs; ++i) {
    const EltInstr& instr = program.code[i];
    const OpEntry& op = kOpEntries[static_cast<int>(instr.op)];
    Source in[3];
    for (int s = 0; s < op.arity; ++s) {
      const int from = instr.in[s];
      in[s] = from < kEltRegisters ? Source{buffers.registers[from], area.width}
                                   : operands[from - kEltOperandSource];
    }
    if (i + 1 == program.instrs && ends_in_quotient(program, strip)) {
      return store_quantized(program.quotient, in[0], area, place, strip.out_row_stride);
    }
    Target to{buffers.registers[instr.out], area.width};
    if (i + 1 == program.instrs) {
      to = {out, buffered ? area.width : strip.out_row_stride};
    }
    op.run(in, to, area.rows, area.width);
  }
  if (buffered) unstage(out, area, place, strip);
}

// One instruction whose operands are all read in place: no buffer, so no blocks either.
bool is_single_pass(const EltProgram& program, const EltStrip& strip) {
  if (program.instrs != 1 || program.constants != 0) return false;
  if (strip.out_type != EltType::f32) return false;
  for (int i = 0; i < program.operands; ++i) {
    const EltOperand& o = strip.operands[i];
    if (o.column_stride == 0 || o.type != EltType::f32) return false;
  }
  return true;
}

// Nothing but a quantisation of floats in memory: no blocks either.
bool is_quantization(const EltProgram& program, const EltStrip& strip) {
  if (program.instrs != 1 || !ends_in_quotient(program, strip)) return false;
  const EltOperand& o = strip.operands[0];
  return program.code[0].in[0] == kEltOperandSource && o.type == EltType::f32 &&
         o.column_stride == 1;
}
void run_quantization(const EltProgram& program, const EltStrip& strip) {
  const EltOperand& o = strip.operands[0];
  store_quantized(program.quotient, {static_cast<const float*>(o.data), o.row_stride},
                  {0, strip.rows, 0, strip.columns, 0}, strip.out, strip.out_row_stride);
}

void run_blocks(const EltProgram& program, const EltStrip& strip) {
  Buffers buffers;  // every float is written before it is read
  for (int i = 0; i < program.constants; ++i) {
    fill(buffers.registers[program.constant[i].reg], program.constant[i].value, kBlock);
  }
  for (int i = 0; i < program.operands; ++i) {
    const EltOperand& o = strip.operands[i];
    if (is_scalar(o)) fill_with(o, 0, buffers.operands[i], kBlock);
  }
  const int64_t width = (strip.columns + 15) / 16 * 16;
  const int64_t block_rows = width >= kBlock ? 1 : kBlock / width;
  for (int64_t row = 0; row < strip.rows; row += block_rows) {
    const int64_t rows = smaller(block_rows, strip.rows - row);
    for (int64_t column = 0; column < strip.columns; column += kBlock) {
      const int64_t columns = smaller(kBlock, strip.columns - column);
      run_block(program, strip, {row, rows, column, columns, (columns + 15) / 16 * 16}, buffers);
    }
  }
}

void run_strip(const EltProgram& program, const EltStrip& strip) {
  if (strip.rows <= 0 || strip.columns <= 0) return;
  if (is_quantization(program, strip)) return run_quantization(program, strip);
  if (!is_single_pass(program, strip)) return run_blocks(program, strip);
  Source in[3];
  const EltInstr& instr = program.code[0];
  const OpEntry& op = kOpEntries[static_cast<int>(instr.op)];
  for (int s = 0; s < op.arity; ++s) {
    const EltOperand& o = strip.operands[instr.in[s] - kEltOperandSource];
    in[s] = {static_cast<const float*>(o.data), o.row_stride};
  }
  op.run(in, {static_cast<float*>(strip.out), strip.out_row_stride}, strip.rows, strip.columns);
}

// Goes on to the next plane; `at`: the place in each outer dim. Planes may be as short as a row.
void step_operands(const EltwiseArgs& args, int64_t* at, EltOperand* operands) {
  const Planes& p = args.planes;
  for (int32_t d = p.rank - 1; d >= 0; --d) {
    const bool wraps = ++at[d] == p.dims[d];
    const int64_t steps = wraps ? 1 - p.dims[d] : 1;
    for (int i = 0; i < args.program.operands; ++i) {
      operands[i].advance(steps * args.outer_strides[i][d]);
    }
    if (!wraps) return;
    at[d] = 0;
  }
}

void run_tile(const EltwiseArgs& args, int64_t tile) {
  const Planes& p = args.planes;
  const PlaneArea area = area_of(p, tile);
  int64_t at[kPlanesRank];
  int64_t left = area.first_plane;
  for (int32_t d = p.rank - 1; d >= 0; --d) {
    at[d] = left % p.dims[d];
    left /= p.dims[d];
  }
  EltOperand operands[kEltOperands];
  for (int i = 0; i < args.program.operands; ++i) {
    const EltOperand& o = args.operands[i];
    operands[i] = o;
    operands[i].advance(outer_offset(p, args.outer_strides[i], area.first_plane) +
                        area.row * o.row_stride + area.column * o.column_stride);
  }
  for (int64_t plane = area.first_plane; plane < area.last_plane; ++plane) {
    if (plane > area.first_plane) step_operands(args, at, operands);
    const int64_t columns = p.columns;
    const int64_t place = (plane * p.rows + area.row) * columns + area.column;
    void* out = static_cast<char*>(args.out) + place * elt_bytes(args.out_type);
    run_strip(args.program, {operands, out, columns, area.rows, area.columns, args.out_type});
  }
}

}  // namespace
}  // namespace planck
