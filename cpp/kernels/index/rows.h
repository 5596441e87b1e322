#pragma once
#include "kernels/index/index.h"
#include "kernels/simd/row.h"

namespace planck {

using IndexRow = KernelRow<IndexArgs>;

std::span<const IndexRow> index_rows();
inline const IndexRow& index_row(std::string_view name) { return row_of_name(index_rows(), name); }

// The first index outside its extent, for the check at the door before anything runs.
struct BadIndex {
  int64_t at = -1;  // place among the indices; -1: all are good
  int64_t index = 0, extent = 0;
};
BadIndex first_bad_index(const IndexArgs& args);

}  // namespace planck
