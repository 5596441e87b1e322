#pragma once
// The integer product's micro-kernel, generated: sums of u8 x s8 in int32, exact, then their way
// back to fp32 or to u8 while they are still in registers.
// Goals: one source for every instruction set that adds bytes; the same bits on all of them, since
// integer sums do not depend on order and the epilogue is one rounding for each instruction.
// Non-goals: choosing tiles, packing, threads (see kernels/qmatmul).
#include <compare>
#include <cstdint>

#include "base/device.h"

namespace planck::jit {

inline constexpr int kQLanes = 16;  // of the widest vector, over which constants are repeated

// How floats come back to u8: clamp(rne(x), low, high) + zero, where x is divided first if the call
// says so. The bounds are whole numbers, so that clamping first gives the same and nothing leaves
// int32. Kernels of vectors saturate at 0 without being told: they clamp from below where kQLow is
// set alone, and NaN becomes 0 where it is not.
struct QgemmRange {
  float low = 0, high = 255;  // before zero is added
  int32_t zero = 0;
  float divisor = 1;
  // Instead of the division, where kQInverse is set: see ByteQuotient. `most` is x's own bound.
  float most = 0;
  alignas(64) float inverse[kQLanes] = {}, rest[kQLanes] = {};
};

// What bytes of a residual stand for: (byte - zero) * scale.
struct QgemmBytes {
  alignas(64) float zero[kQLanes] = {}, scale[kQLanes] = {};
};

// y * scale, then + shift.
struct QgemmAffine {
  alignas(64) float scale[kQLanes] = {}, shift[kQLanes] = {};
};

// Read by generated code through offsetof: plain 8-byte fields only. Strides count bytes.
struct QgemmCall {
  const void* a = nullptr;  // bytes; the units widen and words read 16-bit numbers
  int64_t a_stride = 0;     // from row to row
  const int8_t* b = nullptr;
  int64_t b_stride = 0;  // from panel to panel, where the recipe has several
  void* c = nullptr;     // f32, or u8 where the recipe has bytes; of words: s32
  int64_t c_stride = 0;
  // A row of A is `lines` runs, each of `groups` groups of k (group_of); line_step leads from the
  // end of one to the next. `tail` elements behind them (0 to 3) are read without touching what
  // lies behind; where there are any, there is one line, of at least four elements.
  int64_t groups = 0, lines = 1, line_step = 0, tail = 0;
  // Of fours: where in a row each group of all lines lies, in the order of B; bytes.
  const int32_t* places = nullptr;
  int64_t place_count = 0;
  const int32_t* offset = nullptr;    // [columns], where the sums start
  int64_t offset_stride = 0;          // from row to row; of pairs and fours, others share one row
  const float* multiplier = nullptr;  // [columns]
  const float* bias = nullptr;        // [columns], or none
  const float* residual = nullptr;    // [rows, columns], or none
  int64_t residual_stride = 0;
  const uint8_t* byte_residual = nullptr;  // [rows, columns], or none
  int64_t byte_residual_stride = 0;
  const QgemmBytes* bytes = nullptr;    // of the byte residual
  const QgemmAffine* affine = nullptr;  // two: of kQBefore and kQAfter
  const QgemmRange* range = nullptr;    // where the recipe has bytes
  const int32_t* mask = nullptr;        // masked recipes: -1 for a column of C that exists, else 0
  const void* prefetch = nullptr;       // any address: a prefetch never faults
  int64_t prefetch_step = 0;            // bytes, for each of prefetches_of
  int64_t flags = 0;                    // QgemmFlag
  int64_t tiles = 1;                    // below each other, where the kernel loops (below)
  int64_t rows = 0;                     // read by the portable kernel only
  int64_t panel_bytes = 0;              // read by no kernel: where a panel says its form
};

enum QgemmFlag : int64_t {
  kQRelu = 1,
  kQGelu = 2,    // by erf; not in the portable kernel
  kQDivide = 4,  // by the range's divisor
  // What the portable kernel does in any case.
  kQInverse = 8,  // the same by the range's inverse
  kQLow = 16,     // the range's lowest byte is not 0
  kQZero = 32,    // the range's zero is not 0
  kQCentre = 64,  // the residual's zero is not 0
  // Not in the portable kernel: an affine, the hard swish, an affine.
  kQBefore = 128,
  kQHardSwish = 256,
  kQAfter = 512,
};

// Stored: after(f(before(float(offset + A x B) * multiplier + bias + residual + byte residual))) in
// this order, where f is a ReLU, a GELU or a hard swish, each step rounded; or that as bytes by
// `range`.
using QgemmFn = void (*)(const QgemmCall*);

// What adds products of bytes into int32.
enum class QgemmUnit : uint8_t {
  widen,  // vpmaddwd on both operands widened to 16 bits: groups of two
  pairs,  // vpmaddubsw on panels that are proven not to leave 16 bits (qproofs.h), groups of four
  fours,  // the same, two groups added up in 16 bits; up to five rows
  quads,  // vpmaddwd on bytes widened in registers: any panel, groups of four
  vnni,   // vpdpbusd, groups of four
  tiles,  // tdpbusd, groups of 64: see qtiles.h
  words,  // vpmaddwd or, of AVX-512's vectors, vpdpwssd on numbers of 16 bits, B as well: groups of
          // two; stores nothing but the sums
  sums,   // none: `a` are the sums [rows, columns], as the matrix unit or words leave them
};
constexpr int group_of(QgemmUnit unit) {
  if (unit == QgemmUnit::tiles) return 64;
  return unit == QgemmUnit::widen || unit == QgemmUnit::words ? 2 : 4;
}

// What a kernel of vectors brings to L2 in every four groups, a line each. Words have weights of
// twice the size for few rows.
constexpr int prefetches_of(QgemmUnit unit) { return unit == QgemmUnit::words ? 2 : 1; }

struct QgemmRecipe {
  Isa isa = Isa::avx2;  // avx2: 8 sums a vector, avx512: 16, or 8 where half
  bool half = false;
  QgemmUnit unit = QgemmUnit::vnni;
  int rows = 6;         // of the tile
  int vectors = 2;      // columns of a panel
  int panels = 1;       // neighbouring panels that one call works on
  bool masked = false;  // only the columns of the mask are read and written (see below)
  bool bytes = false;   // u8 output
  auto operator<=>(const QgemmRecipe&) const = default;
};

// AVX2 cannot load or store some bytes of a register: there a masked recipe takes the byte residual
// of all columns of the tile, and stores bytes to all of them.
constexpr bool masks_bytes(Isa isa) { return isa != Isa::avx2; }

// Kernels that take several tiles of their height in one call: where the next one begins while the
// last one ends, less is lost between them than in calls.
constexpr bool loops_over_tiles(const QgemmRecipe& recipe) {
  return recipe.unit != QgemmUnit::sums && recipe.unit != QgemmUnit::tiles;
}

// Generated at the first request, then kept until the process ends. Any thread may ask.
// Throws InternalError for a recipe that does not fit the registers.
QgemmFn qgemm_kernel(const QgemmRecipe& recipe);

// The same contract in C++, for panels of 16 columns in groups of four, or of the two units named.
void qgemm_portable(const QgemmCall* call);
void qgemm_portable_bytes(const QgemmCall* call);
void qgemm_portable_words(const QgemmCall* call);
void qgemm_portable_sums(const QgemmCall* call);
void qgemm_portable_sums_bytes(const QgemmCall* call);
inline constexpr int kQPortableColumns = 16;

}  // namespace planck::jit
