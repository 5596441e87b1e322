#pragma once
#include <optional>
#include <span>

#include "base/dtype.h"
#include "kernels/layout/layout.h"
#include "kernels/simd/row.h"

namespace planck {

using CopyRow = KernelRow<CopyArgs>;
using ConvertRow = KernelRow<ConvertArgs>;

std::span<const CopyRow> copy_rows();
std::span<const ConvertRow> convert_rows();
inline const CopyRow& copy_row(std::string_view name) { return row_of_name(copy_rows(), name); }
inline const ConvertRow& convert_row(std::string_view name) {
  return row_of_name(convert_rows(), name);
}

// A view: the place of its first element and the step of each dim, in elements.
struct CopyView {
  const void* data;
  std::span<const int64_t> strides;
};

// Transpose, Slice, Expand and each input of a Concat are copies between two views of the same
// dims (rank 32 at most). Dims of any order; the walk that is fastest is chosen here.
// Throws InternalError for another element size, rank or a negative extent.
CopyArgs make_copy_args(std::span<const int64_t> dims, int element_bytes, CopyView x, CopyView out);

// Row-major strides of a dense array.
void dense_strides(std::span<const int64_t> dims, std::span<int64_t> strides);

// The conversion between two types, if there is one (kernels/layout/conversions.inc).
std::optional<Conversion> conversion_of(DType from, DType to);

}  // namespace planck
