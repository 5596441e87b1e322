#pragma once
// A plan's structure as CBOR, through the field visitors of plan.h; tensors stay outside.
#include <cstddef>
#include <span>
#include <vector>

#include "plan/plan.h"

namespace planck {

// Place of a constant's bytes inside the weights of a file.
struct ConstantPlace {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
  Packing packing;
  int64_t offset = 0;
  static void fields(auto& s, auto& visit) {
    visit("name", s.name);
    visit("dtype", s.dtype);
    visit("shape", s.shape);
    visit("packing", s.packing);
    visit("offset", s.offset);
  }
};

// Everything but tensors and the source graph. The same plan gives the same bytes.
std::vector<std::byte> write_archive(const Plan& plan, std::span<const ConstantPlace> places);

// The reverse; plan.constants stay empty. CorruptError where a field is missing, unknown, of
// another type or out of its range.
Plan read_archive(std::span<const std::byte> bytes, std::vector<ConstantPlace>& places);

}  // namespace planck
