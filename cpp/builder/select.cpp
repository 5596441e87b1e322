#include "builder/select.h"

namespace planck {

Choice<MatmulRow> select_matmul(int64_t n, int64_t k, bool constant, const std::string& forced) {
  MatmulProblem problem;
  problem.m = kTypicalRows;
  problem.n = n;
  problem.k = k;
  problem.b_is_constant = constant;
  return choose<MatmulRow>(
      matmul_rows(), forced, [&](const MatmulRow& r) { return why_not(r, problem, this_device()); },
      [&](const MatmulRow& r) { return prior_cycles(r, problem); });
}

Choice<QmatmulRow> select_qmatmul(int64_t n, int64_t k, const std::string& forced, int64_t rows) {
  const QmatmulProblem problem{std::clamp<int64_t>(rows, 1, kTypicalRows), n, k};
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
