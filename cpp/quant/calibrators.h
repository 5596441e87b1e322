#pragma once
// From a histogram to a threshold: the |x| beyond which a symmetric grid saturates.
#include <span>
#include <string>
#include <string_view>

#include "quant/grid_error.h"
#include "quant/magnitudes.h"

namespace planck {

struct SolveOptions {
  std::string method = "auto";         // a row of calibrators.inc
  double percentile = 99.99;           // of 100
  std::string zero_policy = "skip";    // entropy: "skip" takes bin 1 for bin 0; "keep"
  double quantile = 0.9999;            // legacy
  double cutoff = 1.0;                 // legacy: reported, without effect
  bool trt_compat = false;             // entropy: the middle of the last bin may exceed the maximum
  std::string activation = "auto";     // grids: "s8", "u8", or what errs less
  std::string shared_ranges = "auto";  // tensors of a group share a grid; "off": each its own
  bool operator==(const SolveOptions&) const = default;
};

// UsageError: an unknown method, policy or type of grid, a percentile outside (0, 100].
void check_options(const SolveOptions& options);

// What is known of a tensor. `equal` is null unless calibration made two passes.
struct Evidence {
  const Histogram& data;
  const EqualBins* equal;
  const GridError& error;
};

// `dtype`: of the grid that is to be. The tensor holds something other than 0.
using Solver = double (*)(const Evidence& evidence, const SolveOptions& options, DType dtype);
#define PLANCK_CALIBRATOR(name, file, by_type, what) \
  double solve_##name(const Evidence& evidence, const SolveOptions& options, DType dtype);
#include "quant/calibrators.inc"
#undef PLANCK_CALIBRATOR

struct Calibrator {
  std::string_view name;
  Solver solve;
  bool by_type;
  std::string_view what;
};
std::span<const Calibrator> calibrators();

// KL(P || Q) of each threshold (i + 0.5) * width, i = 128 .. counts.size(), in closed form; see
// entropy.cpp. `counts` after the zero policy. Infinite where Q lacks what P has.
std::vector<double> divergences(const std::vector<int64_t>& counts);
inline constexpr int kEntropyLevels = 128;
// Of a tensor's histogram, which it copies.
std::vector<int64_t> after_zero_policy(std::vector<int64_t> counts, std::string_view policy);

// The threshold of least expected error, and that error.
struct LeastError {
  double threshold, error;
};
LeastError least_error(const Evidence& evidence, DType dtype);

}  // namespace planck
