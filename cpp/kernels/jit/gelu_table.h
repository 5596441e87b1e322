#pragma once
// Constants of the GELU for generated code, each repeated over the widest vector.
#include <bit>
#include <cstdint>
#include <iterator>

#include "kernels/simd/gelu_root.h"

namespace planck::jit {

struct GeluTable {
  static constexpr int kLanes = 16, kTerms = static_cast<int>(std::size(kGeluRoot));
  static constexpr int kEnd = kTerms, kOne = kTerms + 1, kMagnitude = kTerms + 2;
  static constexpr int kRowBytes = kLanes * static_cast<int>(sizeof(float));
  alignas(64) float lanes[kTerms + 3][kLanes];
};

constexpr GeluTable make_gelu_table() {
  GeluTable table{};
  for (int lane = 0; lane < GeluTable::kLanes; ++lane) {
    for (int i = 0; i < GeluTable::kTerms; ++i) table.lanes[i][lane] = kGeluRoot[i];
    table.lanes[GeluTable::kEnd][lane] = kGeluEnd;
    table.lanes[GeluTable::kOne][lane] = 1;
    table.lanes[GeluTable::kMagnitude][lane] = std::bit_cast<float>(INT32_MAX);
  }
  return table;
}

}  // namespace planck::jit
