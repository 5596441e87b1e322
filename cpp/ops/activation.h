#pragma once
// Scalar functions in double that several references share.
#include <algorithm>
#include <cmath>
#include <string_view>

#include "base/error.h"

namespace planck {

inline double sigmoid(double x) {  // the exponential never overflows
  const double e = std::exp(-std::abs(x));
  return (x >= 0 ? 1 : e) / (1 + e);
}

inline double gelu(double x) { return 0.5 * x * std::erfc(-x * M_SQRT1_2); }

// D. Hendrycks, K. Gimpel, "Gaussian Error Linear Units", arXiv 1606.08415.
inline double gelu_tanh(double x) {
  const double inner = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
  return 0.5 * x * (1 + std::tanh(inner));
}

inline double swish(double x) { return x * sigmoid(x); }
inline double hard_swish(double x) { return x * std::min(std::max(x / 6 + 0.5, 0.0), 1.0); }

// Names of activations at the end of products; empty is none.
using Activation = double (*)(double);
inline Activation activation_named(std::string_view name) {
  if (name.empty()) return [](double x) { return x; };
  if (name == "relu") return [](double x) { return std::max(x, 0.0); };
  if (name == "gelu") return gelu;
  if (name == "gelu_tanh") return gelu_tanh;
  if (name == "tanh") return [](double x) { return std::tanh(x); };
  if (name == "sigmoid") return sigmoid;
  if (name == "swish") return swish;
  if (name == "hard_swish") return hard_swish;
  throw GraphError("'", name,
                   "' is no activation, expected relu, gelu, gelu_tanh, tanh, sigmoid, swish, "
                   "hard_swish or ''");
}

}  // namespace planck
