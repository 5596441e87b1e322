#include "kernels/qmatmul/epilogue.h"

#include <algorithm>

#include "base/error.h"
#include "kernels/byte_quotient.h"
#include "kernels/eltwise/rows.h"
#include "kernels/qmatmul/tail.h"

namespace planck {
namespace {

// Bytes from low to high. Whole numbers of few bits: exact in fp32.
void set_range(QmatmulArgs::Plan& plan, int32_t zero, int32_t low, int32_t high) {
  plan.range.low = static_cast<float>(low - zero);
  plan.range.high = static_cast<float>(high - zero);
  plan.range.zero = zero;
  if (low != 0) plan.flags |= jit::kQLow;
  if (zero != 0) plan.flags |= jit::kQZero;
}

void set_divisor(QmatmulArgs::Plan& plan, float scale, const ByteQuotient& quotient) {
  plan.range.divisor = scale;
  plan.flags |= quotient.proved ? jit::kQInverse : jit::kQDivide;
  plan.range.most = quotient.most;
  std::ranges::fill(plan.range.inverse, quotient.inverse);
  std::ranges::fill(plan.range.rest, quotient.rest);
}

// Whether the kernel itself can end as the program does, and where the args say.
bool knows(const QmatmulRow& row, const QmatmulArgs& args, const QmatmulTail& tail) {
  const bool bytes = tail.quantize && !args.requantize;
  const EltOperand& residual = args.operands[1];
  const bool affine = tail.before.used || tail.after.used;
  const bool generated = tail.gelu || tail.hard_swish || affine;
  return (!generated || row.isa != Isa::portable) &&
         (!args.relu || (!generated && !tail.residual)) &&
         bytes == (args.c_bytes != nullptr && !args.requantize) &&
         (!tail.residual || (residual.type == EltType::u8 && residual.column_stride == 1));
}

jit::QgemmAffine affine_of(const QmatmulTail::Affine& tail) {
  jit::QgemmAffine affine;
  std::ranges::fill(affine.scale, tail.scale);
  std::ranges::fill(affine.shift, tail.shift);
  return affine;
}

void take_tail(QmatmulArgs& args, const QmatmulTail& tail) {
  QmatmulArgs::Plan& plan = args.plan;
  // What is below a zero of 0 becomes 0 in any case, and so does NaN.
  const bool implied = tail.quantize && tail.zero == 0 && !tail.after.used;
  if (tail.relu && !implied) plan.flags |= jit::kQRelu;
  if (tail.gelu) plan.flags |= jit::kQGelu;
  if (tail.hard_swish) plan.flags |= jit::kQHardSwish;
  if (tail.before.used) plan.flags |= jit::kQBefore;
  if (tail.after.used) plan.flags |= jit::kQAfter;
  plan.affine[0] = affine_of(tail.before);
  plan.affine[1] = affine_of(tail.after);
  plan.byte_residual = tail.residual;
  if (tail.residual_zero != 0) plan.flags |= jit::kQCentre;
  std::ranges::fill(plan.bytes.zero, tail.residual_zero);
  std::ranges::fill(plan.bytes.scale, tail.residual_scale);
  if (!tail.quantize) return;
  set_range(plan, static_cast<int32_t>(tail.zero), 0, UINT8_MAX);
  set_divisor(plan, tail.scale, args.program->quotient);
}

}  // namespace

bool choose_epilogue(const QmatmulRow& row, QmatmulArgs& args) {
  QmatmulArgs::Plan& plan = args.plan;
  if (args.requantize) set_range(plan, args.out_zero, args.low, args.high);
  if (args.relu) plan.flags |= jit::kQRelu;
  if (args.program == nullptr) return args.requantize;
  const std::optional<QmatmulTail> tail = tail_of(*args.program);
  if (tail && knows(row, args, *tail)) {
    take_tail(args, *tail);
    return args.requantize || tail->quantize;
  }
  if (args.requantize) throw InternalError("an integer product is requantised behind a program");
  plan.strip = eltwise_strip(row.isa);
  plan.staged = args.c_bytes != nullptr;
  return false;
}

QmatmulEnds ends_of(const QmatmulArgs& args) {
  QmatmulEnds ends{args.c, args.c_bytes, args.residual, {}};
  std::ranges::copy(args.operands, ends.operands);
  return ends;
}

void move_ends(const QmatmulArgs& args, const QmatmulBatch& axis, int64_t at, QmatmulEnds& ends) {
  const int operands = args.program != nullptr ? args.program->operands : 0;
  if (ends.c != nullptr) ends.c += at * axis.c;
  if (ends.c_bytes != nullptr) ends.c_bytes += at * axis.c;
  if (ends.residual != nullptr) ends.residual += at * axis.residual;
  for (int i = 1; i < operands; ++i) ends.operands[i].advance(at * axis.operands[i]);
}

void set_epilogue(const QmatmulArgs& args, const QmatmulEnds& ends, const QmatmulArea& area,
                  jit::QgemmCall& call) {
  const int64_t at = area.row * args.c_stride + area.column;
  if (args.plan.tile.bytes) {
    call.c = ends.c_bytes + at;
    call.c_stride = args.c_stride;
    call.range = &args.plan.range;
  } else {
    call.c = args.plan.staged ? ends.stage : ends.c + at;
    call.c_stride = (args.plan.staged ? args.plan.chunk : args.c_stride) * int64_t{4};
  }
  call.offset = args.offset + area.column;
  call.multiplier = args.multiplier + area.column;
  if (args.bias != nullptr) call.bias = args.bias + area.column;
  if (ends.residual != nullptr) {
    call.residual = ends.residual + area.row * args.residual_stride + area.column;
    call.residual_stride = args.residual_stride * int64_t{4};
  }
  if (args.plan.byte_residual) {
    const EltOperand& whole = ends.operands[1];
    call.byte_residual =
        static_cast<const uint8_t*>(whole.data) + area.row * whole.row_stride + area.column;
    call.byte_residual_stride = whole.row_stride;
    call.bytes = &args.plan.bytes;
  }
  call.affine = args.plan.affine;
  call.flags = args.plan.flags;
}

void run_program(const QmatmulArgs& args, const QmatmulEnds& ends, const QmatmulArea& area) {
  if (args.plan.strip == nullptr) return;
  const int64_t at = area.row * args.c_stride + area.column;
  EltOperand operands[kEltOperands] = {};
  operands[0].data = args.plan.staged ? ends.stage : ends.c + at;
  operands[0].row_stride = args.plan.staged ? args.plan.chunk : args.c_stride;
  operands[0].column_stride = 1;
  for (int i = 1; i < args.program->operands; ++i) {
    const EltOperand& whole = ends.operands[i];
    operands[i] = whole;
    operands[i].advance(area.row * whole.row_stride + area.column * whole.column_stride);
  }
  EltStrip strip{operands, ends.c + at, args.c_stride, area.rows, area.columns};
  if (args.plan.staged) {
    strip.out = ends.c_bytes + at;
    strip.out_type = args.bytes_type;
  }
  args.plan.strip(*args.program, strip);
}

}  // namespace planck
