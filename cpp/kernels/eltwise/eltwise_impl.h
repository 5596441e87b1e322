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
#define PLANCK_ELT_FUSED(name, first, second, arity) \
  if constexpr (op == EltOp::name) return apply<EltOp::second>(apply<EltOp::first>(x, y, y), z, z);
#include "kernels/eltwise/fused.inc"
#undef PLANCK_ELT_FUSED
}

// One instruction over `rows` rows of `width` floats, a multiple of 16. The target may be a source.
template <EltOp op, int kArity>
void run_op(const Source* in, Target out, int64_t rows, int64_t width) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* x = in[0].data + r * in[0].pitch;
    const float* y = kArity > 1 ? in[1].data + r * in[1].pitch : nullptr;
    const float* z = kArity > 2 ? in[2].data + r * in[2].pitch : nullptr;
    float* to = out.data + r * out.pitch;
    for (int64_t c = 0; c < width; c += 16) {
      const F16 vx = load(x + c);
      const F16 vy = kArity > 1 ? load(y + c) : vx;
      const F16 vz = kArity > 2 ? load(z + c) : vx;
      store(to + c, apply<op>(vx, vy, vz));
    }
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

void load_bools(const uint8_t* from, float* to, const BlockArea& area) {
  for (int64_t i = 0; i < area.columns; ++i) to[i] = from[i] != 0 ? 1.0f : 0.0f;
  for (int64_t i = area.columns; i < area.width; ++i) to[i] = 0;
}
void store_bools(const float* from, uint8_t* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = from[i] != 0;
}

void fill(float* to, float value, int64_t count) {
  for (int64_t i = 0; i < count; i += 16) store(to + i, set1(value));
}

// Copies rows into a buffer of pitch `width`; lanes beyond `columns` become 0.
void stage(const float* from, int64_t row_stride, const BlockArea& area, float* to) {
  const int64_t whole = area.columns / 16 * 16;
  for (int64_t r = 0; r < area.rows; ++r) {
    const float* x = from + r * row_stride;
    float* y = to + r * area.width;
    for (int64_t c = 0; c < whole; c += 16) store(y + c, load(x + c));
    store(y + whole, load_first(x + whole, area.columns - whole));
  }
}

void unstage(const float* from, const BlockArea& area, float* to, int64_t row_stride) {
  const int64_t whole = area.columns / 16 * 16;
  for (int64_t r = 0; r < area.rows; ++r) {
    const float* x = from + r * area.width;
    float* y = to + r * row_stride;
    for (int64_t c = 0; c < whole; c += 16) store(y + c, load(x + c));
    store_first(y + whole, load(x + whole), area.columns - whole);
  }
}

PLANCK_INLINE bool is_scalar(const EltOperand& o) {
  return o.column_stride == 0 && o.row_stride == 0;
}
PLANCK_INLINE float element(const EltOperand& o, int64_t at) {
  if (o.bools == nullptr) return o.data[at];
  return o.bools[at] != 0 ? 1.0f : 0.0f;
}

// Where the block reads an operand. Operands of columns are read in place unless their last vector
// would pass the end of the row; one of rows is repeated into its buffer.
Source source_of(const EltOperand& o, const BlockArea& area, float* buffer) {
  if (is_scalar(o)) return {buffer, 0};  // filled once for the strip
  if (o.column_stride == 0) {
    for (int64_t r = 0; r < area.rows; ++r) {
      fill(buffer + r * area.width, element(o, (area.row + r) * o.row_stride), area.width);
    }
    return {buffer, area.width};
  }
  if (o.bools != nullptr) {
    for (int64_t r = 0; r < area.rows; ++r) {
      const uint8_t* from = o.bools + (area.row + r) * o.row_stride + area.column;
      load_bools(from, buffer + r * area.width, area);
    }
    return {buffer, area.width};
  }
  const float* data = o.data + area.row * o.row_stride + area.column;
  if (!area.staged()) return {data, o.row_stride};
  stage(data, o.row_stride, area, buffer);
  return {buffer, area.width};
}

void run_block(const EltProgram& program, const EltStrip& strip, const BlockArea& area,
               Buffers& buffers) {
  Source operands[kEltOperands];
  for (int i = 0; i < program.operands; ++i) {
    operands[i] = source_of(strip.operands[i], area, buffers.operands[i]);
  }
  const int64_t place = area.row * strip.out_row_stride + area.column;
  const bool buffered = area.staged() || strip.bools != nullptr;
  float* out = buffered ? buffers.out : strip.out + place;
  for (int i = 0; i < program.instrs; ++i) {
    const EltInstr& instr = program.code[i];
    const OpEntry& op = kOpEntries[static_cast<int>(instr.op)];
    Source in[3];
    for (int s = 0; s < op.arity; ++s) {
      const int from = instr.in[s];
      in[s] = from < kEltRegisters ? Source{buffers.registers[from], area.width}
                                   : operands[from - kEltOperandSource];
    }
    Target to{buffers.registers[instr.out], area.width};
    if (i + 1 == program.instrs) {
      to = {out, buffered ? area.width : strip.out_row_stride};
    }
    op.run(in, to, area.rows, area.width);
  }
  if (strip.bools != nullptr) {
    for (int64_t r = 0; r < area.rows; ++r) {
      store_bools(out + r * area.width, strip.bools + place + r * strip.out_row_stride,
                  area.columns);
    }
  } else if (area.staged()) {
    unstage(out, area, strip.out + place, strip.out_row_stride);
  }
}

// One instruction whose operands are all read in place: no buffer, so no blocks either.
bool is_single_pass(const EltProgram& program, const EltStrip& strip) {
  if (program.instrs != 1 || program.constants != 0 || strip.columns % 16 != 0) return false;
  if (strip.bools != nullptr) return false;
  for (int i = 0; i < program.operands; ++i) {
    if (strip.operands[i].column_stride == 0 || strip.operands[i].bools != nullptr) return false;
  }
  return true;
}

void run_blocks(const EltProgram& program, const EltStrip& strip) {
  Buffers buffers;  // every float is written before it is read
  for (int i = 0; i < program.constants; ++i) {
    fill(buffers.registers[program.constant[i].reg], program.constant[i].value, kBlock);
  }
  for (int i = 0; i < program.operands; ++i) {
    const EltOperand& o = strip.operands[i];
    if (is_scalar(o)) fill(buffers.operands[i], element(o, 0), kBlock);
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
  if (!is_single_pass(program, strip)) return run_blocks(program, strip);
  Source in[3];
  const EltInstr& instr = program.code[0];
  const OpEntry& op = kOpEntries[static_cast<int>(instr.op)];
  for (int s = 0; s < op.arity; ++s) {
    const EltOperand& o = strip.operands[instr.in[s] - kEltOperandSource];
    in[s] = {o.data, o.row_stride};
  }
  op.run(in, {strip.out, strip.out_row_stride}, strip.rows, strip.columns);
}

void run_tile(const EltwiseArgs& args, int64_t tile) {
  const PlaneArea area = area_of(args.planes, tile);
  for (int64_t plane = area.first_plane; plane < area.last_plane; ++plane) {
    EltOperand operands[kEltOperands];
    for (int i = 0; i < args.program.operands; ++i) {
      const EltOperand& o = args.operands[i];
      const int64_t first = outer_offset(args.planes, args.outer_strides[i], plane) +
                            area.row * o.row_stride + area.column * o.column_stride;
      operands[i] = o;
      if (o.bools != nullptr) {
        operands[i].bools += first;
      } else {
        operands[i].data += first;
      }
    }
    const int64_t columns = args.planes.columns;
    const int64_t place = (plane * args.planes.rows + area.row) * columns + area.column;
    EltStrip strip = {operands, nullptr, columns, area.rows, area.columns};
    if (args.bools != nullptr) {
      strip.bools = args.bools + place;
    } else {
      strip.out = args.out + place;
    }
    run_strip(args.program, strip);
  }
}

}  // namespace
}  // namespace planck
