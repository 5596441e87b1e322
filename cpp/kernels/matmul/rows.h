#pragma once
// Matrix products: C = epilogue(A x B), over a batch. Kernel rows, packing, tiles.
// Every f32 row gives the same bits: one fused multiply-add for each k, in order (kernels/jit).
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/device.h"
#include "base/dtype.h"
#include "kernels/eltwise/eltwise.h"
#include "kernels/jit/block.h"
#include "kernels/job.h"
#include "kernels/matmul/windows.h"

namespace planck {

// What a choice among rows looks at.
struct MatmulProblem {
  DType a = DType::f32, b = DType::f32, c = DType::f32;
  int64_t m = 1, n = 1, k = 1, batch = 1;
  bool b_is_constant = true;  // packed once, when the plan is built
  // Of a convolution; extents may be those of any picture.
  std::optional<MatmulWindows> windows = {};
  bool planes = false;  // each channel lies by itself; only pairs read it so
};

// What the lanes of a vector are: columns of C, rows, or columns of two outputs of a line (as pairs
// in jit::GemmRecipe: for windows alone).
enum class Lanes : uint8_t { columns, rows, pairs };

struct MatmulRow {
  std::string_view name;
  DType a, b, c;
  int tile_m, tile_n, tile_k;
  Isa isa;
  double ops_per_cycle;  // of one core; a multiplication and an addition are two
  Lanes lanes;
  std::string (*refuse)(const MatmulProblem&);
  constexpr bool pairs() const { return lanes == Lanes::pairs; }
};

std::span<const MatmulRow> matmul_rows();
// Those for windows as well: first the rows for any product.
std::span<const MatmulRow> convolution_rows();
const MatmulRow& matmul_row(std::string_view name);  // any of them; UsageError where there is none

// Empty where the row can run the problem on the device; else the reason.
std::string why_not(const MatmulRow& row, const MatmulProblem& problem, const Device& device);

// The kernels of a row; those that no plan has specialised.
jit::GemmTile tile_of(const MatmulRow& row, jit::Stream stream = jit::Stream::none);

// Time by arithmetic alone: tile-padded work over peak, in units of (cycles of one core).
double prior_cycles(const MatmulRow& row, const MatmulProblem& problem);

// Whether groups of so many columns are whole panels, of which a product can store each apart.
bool groups_panels(const MatmulRow& row, int64_t columns);

// Packed B: [ceil(n / tile_n)][k][tile_n], zeros where n ends, and for pairs each element twice;
// 64-byte aligned by the caller.
int64_t packed_floats(const MatmulRow& row, int64_t n, int64_t k);
// b[i * row_stride + j * column_stride] is B[i, j], so a transposed weight swaps the strides.
void pack_b(const MatmulRow& row, int64_t n, int64_t k, const float* b, int64_t row_stride,
            int64_t column_stride, float* packed);
void unpack_b(const MatmulRow& row, int64_t n, int64_t k, const float* packed, float* b,
              int64_t row_stride, int64_t column_stride);

// What is done to a block of C while it is still in the core's cache, in this order.
struct MatmulEpilogue {
  const float* bias = nullptr;      // [n]
  const float* residual = nullptr;  // [m, n]
  int64_t residual_stride = 0;      // from row to row
  bool relu = false;
  // Operand 0 of the program is the product so far; the others are operands[1] and up, whose
  // element for C [row, column] is data[row * row_stride + column * column_stride].
  const EltProgram* program = nullptr;
  EltOperand operands[kEltOperands] = {};
  // Where the program ends in bytes, it writes them here; C is then floats of one tile, which
  // nobody sees. Not for batches.
  void* bytes = nullptr;
  int64_t bytes_stride = 0;  // from row to row
  EltType bytes_type{};
};

// One axis of the batch, outermost first. A step of 0 repeats an operand; steps count elements.
struct MatmulBatch {
  int64_t extent = 1, a = 0, b = 0, c = 0, residual = 0;
  int64_t operands[kEltOperands] = {};
};
inline constexpr int kMaxMatmulBatch = 6;

// How a product is cut; 0 lets plan_matmul choose from the device's caches. Never changes bits.
struct MatmulCut {
  int64_t m_block = 0;  // rows of A that stay in L2
  int64_t k_block = 0;
  int64_t panels = 0;  // of B in one tile
};

// What the team reads after this product, usually the packed weights of the next one: the last
// tiles bring its beginning into L2, so that no step starts cold. A hint: any range does.
struct MatmulNext {
  const float* weights = nullptr;
  int64_t floats = 0;
};

// Shapes, strides and cut must not change after plan_matmul; pointers may, between runs.
struct MatmulArgs {
  int64_t m = 0, n = 0, k = 0;
  const float* a = nullptr;  // or the picture that the windows lie over
  int64_t a_stride = 0;      // rows; the columns of A and C are contiguous
  const MatmulWindows* windows = nullptr;
  const float* b = nullptr;
  bool b_packed = true;                           // by pack_b of the same row
  int64_t b_row_stride = 0, b_column_stride = 1;  // where it is not packed
  float* c = nullptr;
  int64_t c_stride = 0;
  // Columns of C lie side by side in groups of c_group, c_group_step floats apart; 0: all of them.
  // For rows with rows in their lanes, one panel, no residual, floats.
  int64_t c_group = 0, c_group_step = 0;
  MatmulEpilogue epilogue;
  int batch_rank = 0;
  MatmulBatch batch[kMaxMatmulBatch];
  MatmulCut cut;
  MatmulNext next;

  // Filled by plan_matmul.
  struct Plan {
    jit::GemmTile tile;
    int64_t items = 1, m_blocks = 1, n_panels = 1, n_groups = 1, scratch_bytes = 0;
    int64_t gather_pitch = 0, gather_offset = 0;  // floats; where windows are gathered in scratch
    int64_t c_pitch = 0, c_offset = 0;            // floats; where C lies in scratch before bytes
    // Windows that are read from a band: `bands` of an image, each at most `band_rows` of outputs.
    int64_t bands = 0, band_rows = 0;
    bool in_place = false;       // the picture itself is the band
    bool keeps_weights = false;  // in every core's L2
    int64_t line = 0;            // rows of a tile that a line of outputs makes, or pairs of them
    // Of a line of outputs, those with windows inside; the others alone are copied where kernels
    // take windows by their places. Nothing inside: bands are copied.
    int64_t inner_from = 0, inner_to = 0;
    bool scattered = false;      // kernels take windows of several rows of outputs, by their places
    int64_t places_offset = 0;   // bytes; where the places lie in scratch
    EltStripFn strip = nullptr;  // runs the program, unless the kernel itself ends in it
    bool gelu = false, relu = false, sigmoid = false;
    bool epilogue = false;   // the kernels of the tile end in the program
    bool along = false;      // the next tile is this worker's too
    bool own_rows = false;   // each tile has all columns, and weights stay in L2
    bool next_rows = false;  // the next tile's rows, not its weights, are asked for meanwhile
    // The same kernels, which write C past the caches, for C that begins at a line; or none.
    jit::GemmTile streaming;
  } plan;
};

// Chooses the cut, generates the kernels, and returns the job whose args is `args` itself.
// Throws InternalError where the args contradict themselves.
Job plan_matmul(const MatmulRow& row, MatmulArgs& args);
inline int64_t scratch_bytes(const MatmulArgs& args) { return args.plan.scratch_bytes; }

}  // namespace planck
