#pragma once
// Constants between the form of a kernel and row-major.
#include <span>
#include <string>

#include "plan/plan.h"

namespace planck {

// [k, n] row-major, f32 or s8, of a packed constant; the tensor itself where it is not packed.
Tensor unpacked(const PlanConstant& constant);

// A row-major [k, n] matrix in the form that the kernel row takes.
PlanConstant packed(const std::string& name, const Tensor& matrix, const std::string& kernel);

// The same of integers, for a row of integer products.
PlanConstant packed_codes(const std::string& name, std::span<const int8_t> matrix, int64_t n,
                          int64_t k, const std::string& kernel);

// Where row `row` of a transpose lies in its initializer [n, c, taps..], whose first axis is the
// columns: elements from the start of a column.
int64_t transposed_place(const Shape& shape, int64_t row);

// The initializer that the weight stands for, in its own type and shape. CorruptError where the
// weight does not lie inside its constant.
Tensor source_weight(const Plan& plan, const SourceWeight& weight);

}  // namespace planck
