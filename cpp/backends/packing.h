#pragma once
// Constants between the form of a kernel and row-major.
#include <optional>
#include <span>
#include <string>

#include "plan/plan.h"

namespace planck {

// [k, n] row-major, f32 or s8, of a packed constant; the tensor itself where it is not packed.
Tensor unpacked(const PlanConstant& constant);

// The row-major [k, n] matrix f32 as products read it. Some processors take 150 cycles for a
// product with a subnormal operand, and trained weights that decayed hold many, often all of a
// channel: they become 0 where the matrix has a weight of 2^-100 or more. What changes is less than
// 2^-26 of its largest weight, so that results are still exact ones of a matrix which differs, in
// any norm, by less than a rounding. A matrix of tiny weights alone stays as it is.
Tensor without_subnormals(const Tensor& matrix);

// A row-major [k, n] matrix in the form that the kernel row takes, without_subnormals.
PlanConstant packed(const std::string& name, const Tensor& matrix, const std::string& kernel);

// The same of integers, for a row of integer products.
PlanConstant packed_codes(const std::string& name, std::span<const int8_t> matrix, int64_t n,
                          int64_t k, const std::string& kernel);

// Where row `row` of a transpose lies in its initializer [n, c, taps..], whose first axis is the
// columns: elements from the start of a column.
int64_t transposed_place(const Shape& shape, int64_t row);

// Where the rows of an initializer [sides, gates * hidden, k] are columns of a recurrent layer's
// matrix [k, n]; nothing where no layer of the kind has such weights.
class RecurrentColumns {
 public:
  static std::optional<RecurrentColumns> of(WeightForm form, int64_t kind, const Shape& shape,
                                            const Shape& matrix);
  int64_t at(int64_t row) const;  // of all sides

 private:
  RecurrentColumns(WeightForm form, RecurrentSizes sizes, int64_t rows)
      : form_(form), sizes_(sizes), rows_(rows) {}
  WeightForm form_;
  RecurrentSizes sizes_;
  int64_t rows_;  // of a side
};

// The initializer that the weight stands for, in its own type and shape. CorruptError where the
// weight does not lie inside its constant.
Tensor source_weight(const Plan& plan, const SourceWeight& weight);

}  // namespace planck
