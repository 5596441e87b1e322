#pragma once
// What calibration ends in, and every reader of a scale file: a grid for each tensor by its name.
#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "base/qparams.h"

namespace planck {

struct TensorScale {
  std::string name;
  QParams params;
  double threshold =
      std::numeric_limits<double>::quiet_NaN();  // |x| that saturates; NaN: not known
  std::string note;                              // "dead" and the like
};

struct Scales {
  std::string kind;                  // where it came from: "calibration", "trt_cache", ...
  std::string method;                // how thresholds were found; empty where a file does not say
  std::string model_hash;            // SHA-256 of the model file, hexadecimal; empty: not known
  std::vector<TensorScale> tensors;  // in the model's order, names unique
  std::vector<std::string> notes;    // warnings and what was assumed
};

// The scale of a symmetric s8 grid that saturates at |x| = threshold: threshold / 127, not below
// the smallest normal number. 1 for a threshold of 0, a tensor without life.
inline float symmetric_scale(double threshold) {
  if (!(threshold > 0)) return 1.0F;
  const double scale = threshold / 127.0;
  return static_cast<float>(std::max<double>(scale, std::numeric_limits<float>::min()));
}

}  // namespace planck
