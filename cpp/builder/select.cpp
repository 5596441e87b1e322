#include "builder/select.h"

#include <initializer_list>

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
      matmul_rows(), forced, [&](const MatmulRow& r) { return why_not(r, problem, this_device()); },
      cost);
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

Choice<QmatmulRow> select_qmatmul(int64_t n, int64_t k, const std::string& forced) {
  const QmatmulProblem problem{kTypicalRows, n, k};
  return choose<QmatmulRow>(
      qmatmul_rows(), forced,
      [&](const QmatmulRow& r) { return why_not(r, problem, this_device()); },
      [&](const QmatmulRow& r) { return prior_cycles(r, problem); });
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
