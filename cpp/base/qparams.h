#pragma once
// Where a tensor's numbers lie when it is quantised: real = scale * (q - zero_point).
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/dtype.h"

namespace planck {

// What the placement of int8 in a float model makes of a tensor's name: the tensor on its grid.
inline constexpr std::string_view kDequantizedSuffix = "_DequantizeLinear";

struct QParams {
  DType dtype = DType::s8;
  std::vector<float> scale;         // one, or one for each index along `axis`
  std::vector<int32_t> zero_point;  // as many
  int64_t axis = -1;                // -1: one scale for the tensor
  int64_t block = 0;                // 0: no blocks along the axis
  bool operator==(const QParams&) const = default;
  static void fields(auto& s, auto& visit) {
    visit("dtype", s.dtype);
    visit("scale", s.scale);
    visit("zero_point", s.zero_point);
    visit("axis", s.axis);
    visit("block", s.block);
  }
};

}  // namespace planck
