#include "quant/calibrators.h"

#include <algorithm>

#include "base/error.h"

namespace planck {
namespace {

constexpr Calibrator kCalibrators[] = {
#define PLANCK_CALIBRATOR(name, file, by_type, what) {#name, solve_##name, by_type, what},
#include "quant/calibrators.inc"
#undef PLANCK_CALIBRATOR
};

void expect_one_of(const char* option, const std::string& given, const auto& known) {
  if (std::ranges::find(known, given) != std::end(known)) return;
  throw with(UsageError(option, " is '", given, "'; expected one of ", joined(known)),
             {.expected = joined(known), .got = given});
}

}  // namespace

std::span<const Calibrator> calibrators() { return kCalibrators; }

void check_options(const SolveOptions& options) {
  std::vector<std::string_view> methods;
  for (const Calibrator& c : kCalibrators) methods.push_back(c.name);
  expect_one_of("method", options.method, methods);
  constexpr std::string_view kPolicies[] = {"skip", "keep"};
  expect_one_of("zero_policy", options.zero_policy, kPolicies);
  constexpr std::string_view kGrids[] = {"auto", "s8", "u8"};
  expect_one_of("activation", options.activation, kGrids);
  constexpr std::string_view kShared[] = {"auto", "off"};
  expect_one_of("shared_ranges", options.shared_ranges, kShared);
  if (!(options.percentile > 0 && options.percentile <= 100)) {
    throw with(UsageError("percentile is ", options.percentile, "; expected more than 0, at most ",
                          "100 (99.99, not 0.9999)"),
               {.expected = "(0, 100]", .got = cat(options.percentile)});
  }
  if (!(options.quantile > 0 && options.quantile <= 1)) {
    throw with(UsageError("quantile is ", options.quantile, "; expected more than 0, at most 1"),
               {.expected = "(0, 1]", .got = cat(options.quantile)});
  }
}

}  // namespace planck
