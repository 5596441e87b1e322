#include "builder/select.h"

#include <algorithm>
#include <initializer_list>

#include "backends/kernel_rows.h"
#include "kernels/qwinograd/rows.h"
#include "kernels/recurrent/rows.h"

namespace planck {

namespace {

// The cost of a row of A, each count of rows weighing the same.
Choice<MatmulRow> select_for(std::initializer_list<int64_t> rows, MatmulProblem problem,
                             const std::string& forced) {
  const auto cost = [&](const MatmulRow& r) {
    double sum = 0;
    for (const int64_t m : rows) {
      problem.m = m;
      sum += prior_cycles(r, problem) / static_cast<double>(m);
    }
    return sum;
  };
  return choose<MatmulRow>(
      problem.windows ? convolution_rows() : matmul_rows(), forced,
      [&](const MatmulRow& r) { return why_not(r, problem, this_device()); }, cost);
}

MatmulProblem product_of(int64_t n, int64_t k, bool constant) {
  MatmulProblem problem;
  problem.n = n;
  problem.k = k;
  problem.b_is_constant = constant;
  return problem;
}

}  // namespace

Choice<MatmulRow> select_matmul(int64_t n, int64_t k, bool constant, const std::string& forced) {
  return select_for({kTypicalRows}, product_of(n, k, constant), forced);
}

Choice<MatmulRow> select_linear(int64_t n, int64_t k, const std::string& forced) {
  return select_for({kFewRows, kTypicalRows}, product_of(n, k, true), forced);
}

Choice<MatmulRow> select_convolution(const ConvParams& params, const std::string& forced,
                                     bool planes) {
  MatmulProblem problem = problem_of(params);
  problem.planes = planes;
  return select_for({kTypicalRows}, problem, forced);
}

namespace {

// Pictures whose size only a run knows are taken by other forms.
QmatmulProblem::Winograd winograd_of(const QProductParams& p, std::span<const int8_t> codes,
                                     const PlanValue& y) {
  const auto fits = [](const WindowParams& w) {
    return w.kernel == 3 && w.stride == 1 && w.dilation == 1;
  };
  if (p.windows.size() != 2 || !std::ranges::all_of(p.windows, fits) || y.shape.size() != 4) {
    return {};
  }
  QmatmulProblem::Winograd out{true, qwinograd::most_of(p.n, p.k(), codes.data(), p.n, 1)};
  out.rows = y.shape[1].known().value_or(0);
  out.columns = y.shape[2].known().value_or(0);
  return out;
}

}  // namespace

Choice<QmatmulRow> select_qmatmul(const QProductParams& product, std::span<const int8_t> codes,
                                  const PlanValue& y, const std::string& forced, int64_t rows) {
  QmatmulProblem problem{std::clamp<int64_t>(rows, 1, kTypicalRows), product.n, product.k()};
  problem.winograd = winograd_of(product, codes, y);
  return choose<QmatmulRow>(
      qmatmul_rows(), forced,
      [&](const QmatmulRow& r) { return why_not(r, problem, this_device()); },
      [&](const QmatmulRow& r) { return prior_cycles(r, problem); });
}

Choice<MatmulRow> select_recurrent(const RecurrentParams& params, const std::string& forced) {
  constexpr int64_t kTypicalSamples = 8;
  MatmulProblem problem = product_of(params.n(), params.hidden, true);
  problem.m = kTypicalSamples;
  return choose<MatmulRow>(
      matmul_rows(), forced,
      [&](const MatmulRow& r) {
        if (!takes_recurrent(r)) return std::string("its panels are no part of a gate");
        return why_not(r, problem, this_device());
      },
      [&](const MatmulRow& r) { return prior_cycles(r, problem); });
}

Choice<AttentionRow> select_attention(int64_t heads, const std::string& forced) {
  AttentionProblem problem;
  problem.heads = heads;
  problem.lq = problem.lk = kTypicalRows;
  problem.d = problem.dv = 64;
  return choose<AttentionRow>(
      attention_rows(), forced,
      [&](const AttentionRow& r) { return why_not(r, problem, this_device()); },
      [&](const AttentionRow& r) { return prior_cycles(r, problem); });
}

}  // namespace planck
