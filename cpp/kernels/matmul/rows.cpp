#include "kernels/matmul/rows.h"

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"
#include "base/vector_units.h"
#include "kernels/jit/panels.h"
#include "kernels/matmul/narrow.h"

namespace planck {
namespace {

using enum DType;
using enum Isa;
using enum Lanes;

std::string never(const MatmulProblem&) { return ""; }

bool overlaps(const WindowSteps& axis) {
  return axis.dilation == 1 && axis.stride >= 1 && axis.stride <= axis.kernel && axis.begin >= 0 &&
         axis.begin < axis.kernel;
}

// Pairs are copied: what few windows read is faster where it lies.
std::string no_lines(const MatmulProblem& p) {
  constexpr int64_t kFewestTaps = 4;
  if (!p.windows) return "it takes two outputs of a line at a time: only convolutions have lines";
  const WindowSteps &y = p.windows->y, &x = p.windows->x;
  if (!overlaps(y) || !overlaps(x) || y.kernel * x.kernel < kFewestTaps) {
    return "its lines serve neighbouring windows, and these do not overlap enough";
  }
  return "";
}

std::string many(const MatmulProblem& p) {
  // Rows of a tile, read side by side, fit L1.
  constexpr int64_t kLongest = 512;
  if (p.n > kNarrowColumns) return cat("it has lanes for rows, and the product ", p.n, " columns");
  if (p.k > kLongest) return cat("its rows of ", p.k, " do not fit L1");
  return p.b_is_constant ? "" : "its panels are packed once";
}

// What a row's name promises.
#define PLANCK_MATMUL(name, a, b, c, m, n, k, isa, ...)                                      \
  static_assert(std::string_view(#name) == "matmul_" #a #b #c "_" #m "x" #n "x" #k "_" #isa, \
                "a kernel's name carries its facts");
#define PLANCK_MATMUL_PAIRS PLANCK_MATMUL
#include "kernels/matmul/kernels.inc"
#include "kernels/matmul/pairs.inc"
#undef PLANCK_MATMUL_PAIRS
#undef PLANCK_MATMUL

constexpr MatmulRow kRows[] = {
#define PLANCK_MATMUL_PAIRS(name, a, b, c, m, n, k, isa, ops, refuse) \
  {#name, a, b, c, m, n, k, isa, ops, pairs, refuse},
#define PLANCK_MATMUL(name, a, b, c, m, n, k, isa, ops, lanes, refuse) \
  {#name, a, b, c, m, n, k, isa, ops, lanes, refuse},
#include "kernels/matmul/kernels.inc"
#include "kernels/matmul/pairs.inc"
#undef PLANCK_MATMUL_PAIRS
#undef PLANCK_MATMUL
};
constexpr auto kGeneral = static_cast<size_t>(
    std::ranges::count_if(kRows, [](const MatmulRow& r) { return !r.pairs(); }));

jit::PanelShape panels_of(const MatmulRow& row, int64_t n, int64_t k) {
  return {n, k, row.tile_n, row.pairs() ? 2 : 1};
}

// Cycles that it takes to copy what windows read: for pairs every place of a picture, some lines
// more than once; for others planes, which go through memory.
double copy_cycles(const MatmulRow& row, const MatmulProblem& p) {
  if (!p.windows || (!row.pairs() && !p.planes)) return 0;
  const double each = row.pairs() ? 0.4 : 2;
  const WindowSteps &y = p.windows->y, &x = p.windows->x;
  return each * static_cast<double>(p.m * y.stride * x.stride * p.windows->channels);
}

}  // namespace

std::span<const MatmulRow> matmul_rows() { return std::span(kRows).first(kGeneral); }
std::span<const MatmulRow> convolution_rows() { return kRows; }

const MatmulRow& matmul_row(std::string_view name) {
  const auto* at = std::ranges::find(kRows, name, &MatmulRow::name);
  if (at == std::end(kRows)) throw UsageError("there is no kernel row ", name);
  return *at;
}

std::string why_not(const MatmulRow& row, const MatmulProblem& p, const Device& device) {
  if (row.a != p.a || row.b != p.b || row.c != p.c) {
    return cat("it multiplies ", row.a, " x ", row.b, " -> ", row.c, ", not ", p.a, " x ", p.b,
               " -> ", p.c);
  }
  if (!device.has(row.isa)) return cat("this machine has no ", row.isa);
  return row.refuse(p);
}

jit::GemmTile tile_of(const MatmulRow& row, jit::Stream stream) {
  if (row.pairs()) return jit::pair_tile(row.tile_m / 2, row.tile_n);
  if (row.lanes == Lanes::columns) {
    return jit::gemm_tile(row.isa, row.tile_m, row.tile_n, stream);
  }
  jit::GemmTile tile;
  tile.rows = row.tile_m;
  tile.columns = row.tile_n;
  std::ranges::fill(tile.panels, 1);
  tile.any_rows = row.isa == Isa::avx512 ? narrow_kernels_avx512() : narrow_kernels_avx2();
  return tile;
}

namespace {

// Rows are padded, not columns; to transpose A takes as long as some columns.
double cycles_by_rows(const MatmulRow& row, const MatmulProblem& p) {
  const double transposing = row.isa == Isa::avx512 ? 5 : 3;
  const double columns = static_cast<double>(std::max<int64_t>(p.n, 1)) + transposing;
  const double products =
      static_cast<double>(round_up(p.m, row.tile_m)) * columns * static_cast<double>(p.k);
  const double halves = row.isa == Isa::avx512 && halves_512() ? 2 : 1;
  return 2 * halves * products * static_cast<double>(p.batch) / row.ops_per_cycle;
}

}  // namespace

namespace {

// Where a block of A and a panel do not fit L2 together, the block comes from L3 for each panel; on
// full-width units a narrower panel that fits is then faster. Enough to decide between equals.
constexpr double kFromL3 = 0.95;
bool leaves_l2(const MatmulRow& row, const MatmulProblem& p) {
  constexpr int64_t kBlockRows = 128;
  if (row.isa < Isa::avx512 || halves_512() || p.windows || p.m < kBlockRows) return false;
  return (kBlockRows + row.tile_n) * p.k * int64_t{sizeof(float)} > this_device().l2_bytes;
}

}  // namespace

double prior_cycles(const MatmulRow& row, const MatmulProblem& p) {
  if (row.lanes == Lanes::rows) return cycles_by_rows(row, p);
  // Heights are generated for every m, so that only columns are padded; the portable row's single
  // column of sums is the same case.
  const double columns = static_cast<double>(round_up(std::max<int64_t>(p.n, 1), row.tile_n));
  const double products = static_cast<double>(p.m) * columns * static_cast<double>(p.k);
  // A full tile is reached only when there are that many rows: a lower one reads B as often, and
  // where the full one has no more sums than hide the latency of a step, it waits for itself.
  const double fill = static_cast<double>(p.m) / static_cast<double>(round_up(p.m, row.tile_m));
  const double lost = row.isa >= Isa::avx512 ? 0.1 : 0.3;
  const double low_tile = p.m < row.tile_m ? 1 : 1 - lost * (1 - fill);
  // Only vectors of 512 bits: columns that are no multiple of 16 are read in halves anyway.
  const bool wide = row.isa >= Isa::avx512 && (row.pairs() || row.tile_n % 16 == 0);
  const double halves = wide && halves_512() ? 2 : 1;
  const double sums = 2 * halves * products * static_cast<double>(p.batch) /
                      (row.ops_per_cycle * low_tile * (leaves_l2(row, p) ? kFromL3 : 1));
  return sums + copy_cycles(row, p);
}

bool groups_panels(const MatmulRow& row, int64_t columns) {
  return row.lanes == Lanes::columns && columns > 0 && columns % row.tile_n == 0;
}

int64_t packed_floats(const MatmulRow& row, int64_t n, int64_t k) {
  return checked_mul(round_up(n, row.tile_n) * (row.pairs() ? 2 : 1), k, "packed weights");
}

void pack_b(const MatmulRow& row, int64_t n, int64_t k, const float* b, int64_t row_stride,
            int64_t column_stride, float* packed) {
  jit::pack_panels(panels_of(row, n, k), b, row_stride, column_stride, packed);
}

void unpack_b(const MatmulRow& row, int64_t n, int64_t k, const float* packed, float* b,
              int64_t row_stride, int64_t column_stride) {
  jit::unpack_panels(panels_of(row, n, k), packed, b, row_stride, column_stride);
}

}  // namespace planck
