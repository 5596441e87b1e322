#pragma once
// The fp32 GEMM micro-kernel, generated: C tile [rows, columns] = A [rows, k] x B [k, columns].
// Goals: one source for every vector width and tile; one accumulator for each output, to which k is
// added in order, each step one fused multiply-add. So the bits of an output depend on its own row
// of A and column of B alone: not on the tile, on its neighbours, on K blocks or on the ISA.
// Non-goals: choosing tiles, packing, threads (see kernels/matmul).
#include <compare>
#include <cstdint>

#include "base/device.h"
#include "kernels/jit/epilogue.h"

namespace planck::jit {

// Read by generated code through offsetof: plain 8-byte fields only. Strides count elements.
struct GemmCall {
  const float* a = nullptr;
  int64_t a_stride = 0;  // from row to row
  const float* b = nullptr;
  // Packed B: from panel to panel (read where the recipe has several). Strided B: from k to k + 1.
  int64_t b_stride = 0;
  float* c = nullptr;
  int64_t c_stride = 0;
  int64_t k = 0;
  const float* bias = nullptr;      // [columns], or none
  const float* residual = nullptr;  // [rows, columns], or none
  int64_t residual_stride = 0;
  const int32_t* mask = nullptr;   // masked recipes: -1 for a column of C that exists, else 0
  const void* prefetch = nullptr;  // any address: a prefetch never faults
  int64_t prefetch_step = 0;       // bytes from one to the next
  int64_t flags = 0;               // GemmFlag
  int64_t rows = 0;                // read by the portable kernel only
  // What the epilogue of the recipe reads: element [i, j] of this call is element [row + i,
  // column + j] of an operand.
  const EltOperand* operands = nullptr;
  int64_t row = 0, column = 0;
  // Recipes with lines: A comes in so many pieces of k columns, whose starts are a_line elements
  // apart; B goes on from one to the next.
  int64_t lines = 1, a_line = 0;
  // Recipes with scattered rows: where row i of A begins, and at [l * a_line + i] its piece l.
  const float* const* a_places = nullptr;
  // Kernels with rows in lanes: columns of C lie side by side in groups of so many, the groups so
  // far apart; 0: all side by side.
  int64_t c_group = 0, c_group_step = 0;
  // The call goes on with the rows behind these, so many tiles in all; what points at rows then
  // points at those of the last one. One where rows are scattered or B is strided.
  int64_t tiles = 1;
  // Recipes of pairs: from the first row of C of a pair to its second. C may be written twice where
  // pairs overlap, so that kLoadC is not for them.
  int64_t apart = 0;
};

enum GemmFlag : int64_t {
  kLoadC = 1,  // go on from the sums in C: the K blocks after the first
  kRelu = 2,
  kGelu = 4,      // by erf; not in the portable kernel
  kEpilogue = 8,  // of the recipe; not in the portable kernel
  kSigmoid = 16,  // in kernels with rows in lanes alone
};

inline constexpr int kScatteredRows = 6;

// Stored: epilogue(gelu(relu((C or 0) + A x B + bias + residual))), added in this order.
using GemmFn = void (*)(GemmCall*);

struct GemmRecipe {
  Isa isa = Isa::avx2;   // avx2: 8 floats a vector, avx512: 16
  bool half = false;     // avx512: vectors of 8 floats, of which there are 32
  int rows = 6;          // of the tile
  int vectors = 2;       // columns of a panel
  int panels = 1;        // neighbouring panels that one call works on (few rows need more columns)
  bool strided = false;  // B is row-major, read where it lies
  bool masked = false;   // only the columns of the mask are read from and written to C
  int exist = 0;       // avx2, masked: how many columns those are, if not 0; others are not summed
  bool lines = false;  // A in pieces
  // At most kScatteredRows rows of A, which lie anywhere: few enough for a register each.
  bool scattered = false;
  // C goes past the caches: whole lines, of more than they hold. Nothing is masked, and each row of
  // C begins at a multiple of 64 bytes.
  bool streams = false;
  bool once = false;  // B comes from memory and is read once
  // avx512: a row of the tile is a pair of rows of C. Their values of A lie side by side, k by k
  // (two floats for each), and each value of B lies in memory twice, so that a vector has 8 columns
  // of both rows and three have 24. Operands of an epilogue lie along columns or are scalars.
  bool pairs = false;
  Epilogue epilogue = {};
  auto operator<=>(const GemmRecipe&) const = default;
};

// Generated at the first request, then kept until the process ends. Any thread may ask.
// Throws InternalError for a recipe that does not fit the registers. Null only for a recipe with an
// epilogue, where there are too many of those already.
GemmFn gemm_kernel(const GemmRecipe& recipe);

// How often a kernel prefetches what the caller reads later, in every four k.
int prefetches(const GemmRecipe& recipe);

// Floats in a vector; 1 for the portable level.
constexpr int vector_floats(Isa isa) { return isa == Isa::avx2 ? 8 : isa >= Isa::avx512 ? 16 : 1; }
constexpr int vector_floats(const GemmRecipe& r) { return vector_floats(r.isa) / (r.half ? 2 : 1); }
// Columns of C in a vector.
constexpr int vector_columns(const GemmRecipe& r) { return vector_floats(r) / (r.pairs ? 2 : 1); }

// The same contract in C++, for panels of 16 columns: slow, and needs no instruction set.
void gemm_portable(GemmCall* call);
inline constexpr int kPortableColumns = 16;

}  // namespace planck::jit
