#pragma once
// Integer products: C = epilogue(offset + A x B) with A in u8, B in s8 and sums in int32, over a
// batch. Kernel rows, packing, tiles. Every row gives the same bits: the sums are exact, and the
// epilogue rounds once for each operation, without contraction.
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/device.h"
#include "kernels/eltwise/eltwise.h"
#include "kernels/jit/qblock.h"
#include "kernels/job.h"
#include "kernels/matmul/windows.h"
#include "kernels/qwinograd/qwinograd.h"

namespace planck {

// What adds up products of bytes; a row belongs to one. winograd2 and winograd4: on words, for
// convolutions of 3 x 3, by patches of 2 x 2 and 4 x 4 outputs (kernels/qwinograd).
enum class QmatmulUnit : uint8_t {
  portable,
  widen,
  pairs,
  winograd2,
  winograd4,
  avx_vnni,
  vnni512,
  amx_int8,
};
constexpr bool is_winograd(QmatmulUnit unit) {
  return unit == QmatmulUnit::winograd2 || unit == QmatmulUnit::winograd4;
}
constexpr QwinogradForm winograd_form(QmatmulUnit unit) {
  return {unit == QmatmulUnit::winograd4 ? 4 : 2};
}

// What a choice among rows looks at.
struct QmatmulProblem {
  int64_t m = 1, n = 1, k = 1, batch = 1;
  // A convolution of 3 x 3 with stride 1: what its sums reach (qwinograd::most_of), outputs of one
  // image, 0: not known.
  struct Winograd {
    bool on = false;
    int64_t most = 0;
    int64_t rows = 0, columns = 0;
  };
  Winograd winograd = {};
};

struct QmatmulRow {
  std::string_view name;
  int tile_m, tile_n, tile_k;  // k of packed weights is padded to a multiple of tile_k
  Isa isa;
  QmatmulUnit unit;
  double ops_per_cycle;  // of one core; a multiplication and an addition are two
};

std::span<const QmatmulRow> qmatmul_rows();
const QmatmulRow& qmatmul_row(std::string_view name);  // UsageError where there is none

// Empty where the row can run on the device; else the reason.
std::string why_not(const QmatmulRow& row, const QmatmulProblem& problem, const Device& device);

// Time by arithmetic alone: tile-padded work over peak, in units of (cycles of one core).
double prior_cycles(const QmatmulRow& row, const QmatmulProblem& problem);

// Packed B. Its size depends on n and k alone; 64-byte aligned by the caller.
int64_t packed_bytes(const QmatmulRow& row, int64_t n, int64_t k);
int64_t panel_bytes(const QmatmulRow& row, int64_t k);  // of tile_n columns
// b[i * row_stride + j * column_stride] is B[i, j], so a transposed weight swaps the strides.
void pack_b(const QmatmulRow& row, int64_t n, int64_t k, const int8_t* b, int64_t row_stride,
            int64_t column_stride, int8_t* packed);
// The exact inverse.
void unpack_b(const QmatmulRow& row, int64_t n, int64_t k, const int8_t* packed, int8_t* b,
              int64_t row_stride, int64_t column_stride);

// Some rows compute without overflow only because of what pack_b has proved about the weights:
// whether that holds for weights that come from a file. True for all other rows.
bool proofs_hold(const QmatmulRow& row, int64_t n, int64_t k, const int8_t* packed);

// One axis of the batch, outermost first. A step of 0 repeats an operand; steps count elements.
struct QmatmulBatch {
  int64_t extent = 1, a = 0, b = 0, c = 0, residual = 0;  // b: bytes of packed weights
  int64_t operands[kEltOperands] = {};
};
inline constexpr int kMaxQmatmulBatch = 6;

// How a product is cut; 0 lets plan_qmatmul choose from the device's caches. Never changes bits.
struct QmatmulCut {
  int64_t m_block = 0;  // rows of A that stay in L2
  int64_t panels = 0;   // of B in one tile
};

// What the team reads after this product, usually the packed weights of the next one. A hint.
struct QmatmulNext {
  const int8_t* weights = nullptr;
  int64_t bytes = 0;
};

// Shapes, strides and cut must not change after plan_qmatmul; pointers may, between runs.
struct QmatmulArgs {
  int64_t m = 0, n = 0, k = 0;
  const uint8_t* a = nullptr;              // or the picture that the windows lie over
  int64_t a_stride = 0;                    // from row to row; the columns of A and C are contiguous
  const MatmulWindows* windows = nullptr;  // steps in elements
  uint8_t zero = 0;                        // what places in the padding of windows read,
  const uint8_t* zero_at = nullptr;        // or where the run finds it
  const int8_t* b = nullptr;               // by pack_b of the same row
  const int32_t* offset = nullptr;         // [n], where every sum starts
  const float* multiplier = nullptr;       // [n]

  // v = float(sum) * multiplier, + bias, + residual; each step rounded.
  const float* bias = nullptr;      // [n], or none
  const float* residual = nullptr;  // [m, n], or none
  int64_t residual_stride = 0;
  bool relu = false;  // of v
  // Then the program: operand 0 is v, the others are operands[1] and up, whose element for C
  // [row, column] is data[row * row_stride + column * column_stride].
  const EltProgram* program = nullptr;
  EltOperand operands[kEltOperands] = {};
  // Stored as f32 to c; or, where requantize is set, as bytes to c_bytes:
  // clamp(rne(v) + out_zero, low, high), where NaN becomes low, and the program may only be a GELU
  // or a ReLU; or as the bytes to c_bytes that the program ends in.
  float* c = nullptr;
  uint8_t* c_bytes = nullptr;
  EltType bytes_type = EltType::u8;  // that the program ends in
  int64_t c_stride = 0;              // elements
  bool requantize = false;
  int32_t out_zero = 0, low = 0, high = 255;

  int batch_rank = 0;
  QmatmulBatch batch[kMaxQmatmulBatch];
  QmatmulCut cut;
  QmatmulNext next;

  // Of rows with a unit of Winograd: blocks of patches.
  struct Winograd {
    QwinogradForm form{2};
    jit::QgemmTile words;
    void (*input)(const QwinogradInput&) = nullptr;
    void (*output)(const QwinogradOutput&) = nullptr;
    int64_t patches_down = 0, patches_across = 0;  // of a picture
    int64_t down = 0, across = 0, patches = 0;     // of a block; patches: at most
    int64_t blocks_down = 0, blocks_across = 0;
    int64_t pitch = 0;                                    // numbers of 16 bits from patch to patch
    int64_t v_offset = 0, m_offset = 0, sums_offset = 0;  // bytes of scratch in front of them
  };

  // Filled by plan_qmatmul.
  struct Plan {
    // Where a tile reads its rows of A.
    enum class Source : uint8_t {
      rows,     // where they lie, a_stride apart
      copy,     // rows or windows copied beside each other
      band,     // windows, out of a copy of whole lines with their padding
      picture,  // windows, out of the picture itself: no padding
    };
    Source source = Source::rows;
    jit::QgemmTile tile;
    jit::QgemmRange range;
    jit::QgemmBytes bytes;  // of a residual of bytes, which is operand 1 of the program
    jit::QgemmAffine affine[2];
    int64_t packed_k = 0;       // k of packed weights
    int64_t panel_bytes = 0;    // of them
    int64_t group = 4;          // elements of k that the kernel takes at a time
    int64_t a_stride = 0;       // of rows and copies
    int64_t widened_bytes = 0;  // of scratch, in front of copies; 0: the kernel reads bytes
    int64_t items = 1, m_blocks = 1, n_panels = 1, n_groups = 1, scratch_bytes = 0;
    int64_t band_rows = 0;      // band, picture: rows of outputs of one image in a tile
    int64_t chunk = 0;          // columns of C that are finished before the next ones
    int64_t stage_offset = 0;   // bytes of scratch in front of the floats of a chunk
    int64_t starts_offset = 0;  // and in front of where corrected sums start
    int64_t places_offset = 0, corrections_offset = 0;
    EltStripFn strip = nullptr;  // runs the program, unless the kernel itself ends in it
    bool byte_residual = false;
    bool staged = false;  // the program makes bytes out of the floats of a chunk
    int64_t flags = 0;    // of the kernel
    Winograd winograd;
  } plan;
};

// Chooses the cut, generates the kernels, and returns the job whose args is `args` itself.
// Throws InternalError where the args contradict themselves.
Job plan_qmatmul(const QmatmulRow& row, QmatmulArgs& args);
// What the padding of windows reads in this run.
inline uint8_t padding_byte(const QmatmulArgs& args) {
  return args.zero_at != nullptr ? *args.zero_at : args.zero;
}
inline int64_t scratch_bytes(const QmatmulArgs& args) { return args.plan.scratch_bytes; }

}  // namespace planck
