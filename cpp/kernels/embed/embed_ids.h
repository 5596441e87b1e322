#pragma once
// How ids are read and judged; internal linkage, for ISA files and rows.cpp alike.
#include "kernels/embed/embed.h"

namespace planck {
namespace {

inline int64_t read_id(const EmbedIds& ids, int64_t row) {
  if (!ids.data) return 0;
  const int64_t at = row / ids.inner * ids.outer_stride + row % ids.inner * ids.inner_stride;
  return ids.bytes == 8 ? static_cast<const int64_t*>(ids.data)[at]
                        : static_cast<const int32_t*>(ids.data)[at];
}

// The row of the table that an id names, or -1.
inline int64_t table_row(int64_t id, int64_t rows) {
  if (id < -rows || id >= rows) return -1;
  return id < 0 ? id + rows : id;
}

}  // namespace
}  // namespace planck
