#include "kernels/attention/rows.h"

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"

namespace planck {
namespace {

using enum DType;
using enum Isa;

#define PLANCK_ATTENTION(name, type, m, n, isa, ...)                                  \
  static_assert(std::string_view(#name) == "attention_" #type "_" #m "x" #n "_" #isa, \
                "a kernel's name carries its facts");
#include "kernels/attention/kernels.inc"
#undef PLANCK_ATTENTION

constexpr AttentionRow kRows[] = {
#define PLANCK_ATTENTION(name, type, m, n, isa, ops) \
  {#name,                                            \
   type,                                             \
   m,                                                \
   n,                                                \
   isa,                                              \
   ops,                                              \
   attention_pack_keys_##isa,                        \
   attention_pack_values_##isa,                      \
   attention_softmax_rows_##isa,                     \
   attention_scale_rows_##isa,                       \
   attention_mark_keys_##isa,                        \
   attention_largest_##isa},
#include "kernels/attention/kernels.inc"
#undef PLANCK_ATTENTION
};

}  // namespace

std::span<const AttentionRow> attention_rows() { return kRows; }

const AttentionRow& attention_row(std::string_view name) {
  const auto* at = std::ranges::find(kRows, name, &AttentionRow::name);
  if (at == std::end(kRows)) throw UsageError("there is no kernel row ", name);
  return *at;
}

std::string why_not(const AttentionRow& row, const AttentionProblem& p, const Device& device) {
  if (row.dtype != p.dtype) return cat("it computes in ", row.dtype, ", not ", p.dtype);
  if (!device.has(row.isa)) return cat("this machine has no ", row.isa);
  return "";
}

double prior_cycles(const AttentionRow& row, const AttentionProblem& p) {
  // Both products, padded to whole panels, and an exp for each score at about 30 operations.
  constexpr double kSoftmaxOps = 30;
  const auto keys = static_cast<double>(round_up(std::max<int64_t>(p.lk, 1), row.tile_n));
  const auto values = static_cast<double>(round_up(std::max<int64_t>(p.dv, 1), row.tile_n));
  const double products =
      2 * (keys * static_cast<double>(p.d) + values * static_cast<double>(p.lk));
  const auto rows = static_cast<double>(p.batch) * static_cast<double>(p.heads * p.lq);
  return rows * (products + kSoftmaxOps * keys) / row.ops_per_cycle;
}

}  // namespace planck
