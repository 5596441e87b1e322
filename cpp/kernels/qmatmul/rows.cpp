#include "kernels/qmatmul/rows.h"

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"
#include "base/vector_units.h"
#include "kernels/jit/qpanels.h"
#include "kernels/qwinograd/rows.h"

namespace planck {
namespace {

constexpr QmatmulRow kRows[] = {
#define PLANCK_QMATMUL(name, m, n, k, isa, unit, ops) \
  {#name, m, n, k, Isa::isa, QmatmulUnit::unit, ops},
#include "kernels/qmatmul/kernels.inc"
#undef PLANCK_QMATMUL
};

// Elements of k that lie side by side in packed weights.
int64_t group_of(const QmatmulRow& row) { return row.unit == QmatmulUnit::widen ? 2 : 4; }

jit::QPanelShape shape_of(const QmatmulRow& row, int64_t n, int64_t k) {
  return {n, k, row.tile_n, group_of(row), row.tile_k, row.unit == QmatmulUnit::pairs};
}

QwinogradWeights weights_of(const QmatmulRow& row, int64_t n, int64_t k) {
  return {winograd_form(row.unit), n, k};
}

// What the machine lacks, beside the level.
std::string missing_unit(const QmatmulRow& row, const Device& device) {
  const QmatmulUnit unit = row.unit;
  const bool vnni = unit == QmatmulUnit::vnni512 || (is_winograd(unit) && row.isa == Isa::avx512);
  if (vnni && !device.vnni512) return "avx512_vnni";
  if (unit == QmatmulUnit::avx_vnni && !device.avx_vnni && !device.vnni512) return "avx_vnni";
  if (unit == QmatmulUnit::amx_int8 && !device.amx_int8) return "amx_int8";
  return "";
}

}  // namespace

std::span<const QmatmulRow> qmatmul_rows() { return kRows; }

const QmatmulRow& qmatmul_row(std::string_view name) {
  const auto* at = std::ranges::find(kRows, name, &QmatmulRow::name);
  if (at == std::end(kRows)) throw UsageError("there is no kernel row ", name);
  return *at;
}

std::string why_not(const QmatmulRow& row, const QmatmulProblem& problem, const Device& device) {
  if (is_winograd(row.unit)) {
    if (!problem.winograd.on) return "it is no convolution of 3 x 3 with stride 1";
    const int64_t bound = qwinograd::bound_of(winograd_form(row.unit));
    if (problem.winograd.most > bound) return cat("its sums could leave +-", bound);
    if (problem.winograd.rows * problem.winograd.columns == 0) {
      return "the size of its pictures is not known";
    }
  }
  if (const std::string unit = missing_unit(row, device); !unit.empty()) {
    return cat("this machine has no ", unit);
  }
  if (!device.has(row.isa)) return cat("this machine has no ", row.isa);
  return "";
}

double prior_cycles(const QmatmulRow& row, const QmatmulProblem& p) {
  const bool wide = row.isa == Isa::avx512 && row.tile_n % 16 == 0;
  const double halves = wide && halves_512() ? 2 : 1;
  if (is_winograd(row.unit)) {
    const QwinogradShape shape{winograd_form(row.unit), p.n, p.k / 9, p.winograd.rows,
                               p.winograd.columns};
    const double one = qwinograd::cycles(shape, row.ops_per_cycle / 2 / halves, row);
    const double outputs = static_cast<double>(shape.rows * shape.columns);
    return one * static_cast<double>(p.m * p.batch) / outputs;
  }
  // Corrections of a panel cost as much for one row as for many: as if there were more rows.
  constexpr double kCorrections = 6;
  const double columns = static_cast<double>(round_up(std::max<int64_t>(p.n, 1), row.tile_n));
  const double depth = static_cast<double>(round_up(std::max<int64_t>(p.k, 1), row.tile_k));
  const double more = row.unit == QmatmulUnit::pairs ? kCorrections : 0;
  const double products = (static_cast<double>(p.m) + more) * columns * depth;
  // A full tile is reached only when there are that many rows: a lower one reads B as often.
  const double fill = static_cast<double>(p.m) / static_cast<double>(round_up(p.m, row.tile_m));
  const double low_tile = p.m < row.tile_m ? 1 : 0.9 + 0.1 * fill;
  return 2 * halves * products * static_cast<double>(p.batch) / (row.ops_per_cycle * low_tile);
}

int64_t packed_bytes(const QmatmulRow& row, int64_t n, int64_t k) {
  if (is_winograd(row.unit)) return qwinograd::packed_bytes(weights_of(row, n, k));
  return jit::packed_bytes(shape_of(row, n, k));
}

int64_t panel_bytes(const QmatmulRow& row, int64_t k) {
  if (is_winograd(row.unit)) return qwinograd::panel_bytes(weights_of(row, row.tile_n, k));
  return jit::panel_bytes(shape_of(row, row.tile_n, k));
}

void pack_b(const QmatmulRow& row, int64_t n, int64_t k, const int8_t* b, int64_t row_stride,
            int64_t column_stride, int8_t* packed) {
  if (is_winograd(row.unit)) {
    return qwinograd::pack(weights_of(row, n, k), b, row_stride, column_stride, packed);
  }
  jit::pack_panels(shape_of(row, n, k), b, row_stride, column_stride, packed);
}

bool proofs_hold(const QmatmulRow& row, int64_t n, int64_t k, const int8_t* packed) {
  if (is_winograd(row.unit)) return qwinograd::proofs_hold(weights_of(row, n, k), packed);
  return jit::proofs_hold(shape_of(row, n, k), packed);
}

void unpack_b(const QmatmulRow& row, int64_t n, int64_t k, const int8_t* packed, int8_t* b,
              int64_t row_stride, int64_t column_stride) {
  if (is_winograd(row.unit)) {
    return qwinograd::unpack(weights_of(row, n, k), packed, b, row_stride, column_stride);
  }
  jit::unpack_panels(shape_of(row, n, k), packed, b, row_stride, column_stride);
}

}  // namespace planck
