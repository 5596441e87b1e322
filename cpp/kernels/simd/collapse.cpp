#include "kernels/simd/collapse.h"

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"

namespace planck {
namespace {

// Whether dims i - 1 and i are one dim to every operand.
bool joins(const StridedLoop& loop, size_t i) {
  return std::ranges::all_of(
      loop.strides, [&](const std::vector<int64_t>& s) { return s[i - 1] == s[i] * loop.dims[i]; });
}

void erase_dim(StridedLoop& loop, size_t i) {
  loop.dims.erase(loop.dims.begin() + static_cast<ptrdiff_t>(i));
  for (auto& s : loop.strides) s.erase(s.begin() + static_cast<ptrdiff_t>(i));
}

}  // namespace

void StridedLoop::collapse() {
  for (size_t i = dims.size(); i-- > 0;) {
    if (dims[i] == 1) erase_dim(*this, i);
  }
  for (size_t i = dims.size(); i-- > 1;) {
    if (!joins(*this, i)) continue;
    dims[i - 1] = checked_mul(dims[i - 1], dims[i]);
    for (auto& s : strides) s[i - 1] = s[i];
    erase_dim(*this, i);
  }
}

void StridedLoop::pad_to_plane() {
  while (dims.size() < 2) {
    dims.insert(dims.begin(), 1);
    for (auto& s : strides) s.insert(s.begin(), 0);
  }
}

Planes make_planes(const StridedLoop& loop, int64_t elements, int64_t step) {
  const size_t outer = loop.dims.size() - 2;
  if (outer > kPlanesRank) {
    throw UnsupportedError("a tensor of ", loop.dims.size(),
                           " axes that do not join; kernels walk ", kPlanesRank + 2, " at most");
  }
  Planes p{};
  p.rank = static_cast<int32_t>(outer);
  std::copy_n(loop.dims.begin(), outer, p.dims);
  p.count = checked_count({loop.dims.data(), outer});
  p.rows = loop.dims[outer];
  p.columns = loop.dims[outer + 1];
  const int64_t columns = std::max<int64_t>(p.columns, 1), rows = std::max<int64_t>(p.rows, 1);
  p.column_block = std::min(columns, std::max(step, elements / step * step));
  p.row_block = std::clamp<int64_t>(elements / p.column_block, 1, rows);
  const bool whole = p.column_block == columns && p.row_block == rows;
  p.plane_block = whole ? std::max<int64_t>(1, elements / (rows * columns)) : 1;
  p.tiles =
      checked_mul(ceil_div(p.count, p.plane_block),
                  checked_mul(ceil_div(p.rows, p.row_block), ceil_div(p.columns, p.column_block)));
  return p;
}

std::vector<int64_t> broadcast_strides(std::span<const int64_t> dims,
                                       std::span<const int64_t> out_dims) {
  std::vector<int64_t> strides(out_dims.size(), 0);
  if (dims.size() > out_dims.size()) {
    throw InternalError("shape [", joined(dims), "] has more dims than [", joined(out_dims), "]");
  }
  const size_t lead = out_dims.size() - dims.size();
  int64_t step = 1;
  for (size_t i = dims.size(); i-- > 0;) {
    if (dims[i] != 1 && dims[i] != out_dims[lead + i]) {
      throw InternalError("shape [", joined(dims), "] does not broadcast to [", joined(out_dims),
                          "]");
    }
    if (dims[i] != 1) strides[lead + i] = step;
    step *= dims[i];
  }
  return strides;
}

}  // namespace planck
