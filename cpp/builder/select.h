#pragma once
// Choice of a kernel row: all rows come back, the winner first, every loser with its reason.
#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/device.h"
#include "kernels/attention/rows.h"
#include "kernels/matmul/rows.h"
#include "kernels/qmatmul/rows.h"
#include "plan/plan.h"

namespace planck {

template <class Row>
struct Choice {
  const Row* row = nullptr;
  std::vector<Rejected> rejected;
};

// `reason(row)`: why the row cannot run here, empty if it can. `cost(row)`: by arithmetic, in any
// one unit. Ties go to the first row. A forced row wins over cost, not over a reason.
template <class Row>
Choice<Row> choose(std::span<const Row> rows, const std::string& forced, auto&& reason,
                   auto&& cost) {
  struct Candidate {
    const Row* row;
    std::string reason;
    double cost;
  };
  std::vector<Candidate> all;
  for (const Row& row : rows) {
    std::string why = reason(row);
    const double c = why.empty() ? cost(row) : 0;
    all.push_back({&row, std::move(why), c});
  }
  std::ranges::stable_sort(all, [&](const Candidate& a, const Candidate& b) {
    const auto key = [&](const Candidate& c) {
      return std::tuple(!c.reason.empty(), c.row->name != forced, c.cost);
    };
    return key(a) < key(b);
  });
  const bool named = std::ranges::any_of(rows, [&](const Row& r) { return r.name == forced; });
  if (named && all[0].row->name != forced) {
    const auto at = std::ranges::find(all, forced, [](const Candidate& c) { return c.row->name; });
    throw UsageError("the kernel ", forced, " refuses: ", at->reason);
  }
  if (!all[0].reason.empty()) throw InternalError("no kernel row can run: ", all[0].reason);
  Choice<Row> out{all[0].row, {}};
  for (size_t i = 1; i < all.size(); ++i) {
    const Candidate& c = all[i];
    out.rejected.push_back(
        {std::string(c.row->name), !c.reason.empty() ? c.reason
                                   : c.cost > all[0].cost
                                       ? cat("slower by arithmetic: ", c.cost / all[0].cost, " x")
                                       : std::string("same cost, later in the manifest")});
  }
  return out;
}

// For families whose rows differ in nothing but the instruction set: the first that runs here.
template <class Row>
Choice<Row> choose_by_isa(std::span<const Row> rows, const std::string& forced,
                          const Device& device = this_device()) {
  return choose<Row>(
      rows, forced,
      [&](const Row& r) {
        return device.has(r.isa) ? std::string() : cat("this machine has no ", r.isa);
      },
      [](const Row& r) { return -static_cast<double>(r.isa); });
}

// M is symbolic; the choice of a packing has to be made once. 128 rows are a typical batch, and
// the cost of a row relative to another hardly depends on it.
inline constexpr int64_t kTypicalRows = 128;
// Linear layers see sentences as well as paragraphs: where 128 rows hardly prefer one tile, these
// decide.
inline constexpr int64_t kFewRows = 32;

Choice<MatmulRow> select_matmul(int64_t n, int64_t k, bool constant, const std::string& forced);
Choice<MatmulRow> select_linear(int64_t n, int64_t k, const std::string& forced);  // constant B
// `planes`: each channel of the picture lies by itself.
Choice<MatmulRow> select_convolution(const ConvParams& params, const std::string& forced,
                                     bool planes = false);
// `codes` are the weights [k, n], `y` what the step writes, `rows` what is known of M; more than
// kTypicalRows change nothing.
Choice<QmatmulRow> select_qmatmul(const QProductParams& product, std::span<const int8_t> codes,
                                  const PlanValue& y, const std::string& forced,
                                  int64_t rows = kTypicalRows);
Choice<MatmulRow> select_recurrent(const RecurrentParams& params, const std::string& forced);
Choice<AttentionRow> select_attention(int64_t heads, const std::string& forced);

}  // namespace planck
