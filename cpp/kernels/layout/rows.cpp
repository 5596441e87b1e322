#include "kernels/layout/rows.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <optional>
#include <vector>

#include "base/checked.h"
#include "kernels/simd/collapse.h"

namespace planck {
namespace {

#define PLANCK_COPY(name, isa) static_assert(std::string_view(#name) == "copy_any_8x8_" #isa);
#define PLANCK_CONVERT(name, isa) static_assert(std::string_view(#name) == "convert_any_1_" #isa);
#include "kernels/layout/kernels.inc"
#undef PLANCK_COPY
#undef PLANCK_CONVERT

constexpr int64_t kTileBytes = 32 << 10;
constexpr int64_t kTransposeEdge = 64;  // a 64 x 64 block of floats touches 128 pages at most

int64_t copy_tiles(const CopyArgs& args) { return args.planes.tiles; }
int64_t convert_tiles(const ConvertArgs& args) { return ceil_div(args.count, kConvertTile); }

enum Side : size_t { kX, kOut };

// The dims in the order of the output's memory, so that writes are as dense as they can be.
StridedLoop in_order_of_output(std::span<const int64_t> dims, std::span<const int64_t> x,
                               std::span<const int64_t> out) {
  std::vector<size_t> order(dims.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order,
                           [&](size_t a, size_t b) { return std::abs(out[a]) > std::abs(out[b]); });
  StridedLoop loop{{}, {{}, {}}};
  for (const size_t i : order) {
    loop.dims.push_back(dims[i]);
    loop.strides[kX].push_back(x[i]);
    loop.strides[kOut].push_back(out[i]);
  }
  return loop;
}

// Moves the dim along which x is dense, if there is one, next to the columns.
bool bring_dense_rows(StridedLoop& loop) {
  const size_t rows = loop.dims.size() - 2;
  for (size_t i = 0; i <= rows; ++i) {
    if (loop.strides[kX][i] != 1) continue;
    const auto move = [&](std::vector<int64_t>& v) {
      std::rotate(v.begin() + static_cast<ptrdiff_t>(i), v.begin() + static_cast<ptrdiff_t>(i) + 1,
                  v.end() - 1);
    };
    move(loop.dims);
    for (auto& s : loop.strides) move(s);
    return true;
  }
  return false;
}

CopyKind kind_of(StridedLoop& loop) {
  const int64_t x = loop.strides[kX].back(), out = loop.strides[kOut].back();
  if (loop.dims.back() == 1) return CopyKind::scattered;
  if (out == 1 && x == 1) return CopyKind::runs;
  if (out == 1 && x == 0) return CopyKind::repeat;
  return out == 1 && bring_dense_rows(loop) ? CopyKind::transpose : CopyKind::scattered;
}

Planes cut(const StridedLoop& loop, CopyKind kind, int element_bytes) {
  Planes p = make_planes(loop, kTileBytes / element_bytes, 16);
  if (kind != CopyKind::transpose || p.plane_block > 1) return p;
  p.column_block = std::min(std::max<int64_t>(p.columns, 1), kTransposeEdge);
  // Few columns: as many elements in a block, since all of its rows lie side by side.
  const int64_t edge = kTransposeEdge * kTransposeEdge / p.column_block;
  p.row_block = std::min(std::max<int64_t>(p.rows, 1), edge);
  p.tiles = checked_mul(
      p.count, checked_mul(ceil_div(p.rows, p.row_block), ceil_div(p.columns, p.column_block)));
  return p;
}

void check_copy(std::span<const int64_t> dims, int element_bytes, const CopyView& x,
                const CopyView& out) {
  if (element_bytes != 1 && element_bytes != 2 && element_bytes != 4 && element_bytes != 8) {
    throw InternalError("a copy of elements of ", element_bytes, " bytes");
  }
  if (x.strides.size() != dims.size() || out.strides.size() != dims.size()) {
    throw InternalError("a copy of ", dims.size(), " dims with ", x.strides.size(), " and ",
                        out.strides.size(), " strides");
  }
  checked_count(dims, "copy");
}

}  // namespace

std::span<const CopyRow> copy_rows() {
  static constexpr CopyRow kRows[] = {
#define PLANCK_COPY(name, isa) {#name, Isa::isa, 0, copy_tiles, name},
#define PLANCK_CONVERT(name, isa)
#include "kernels/layout/kernels.inc"
#undef PLANCK_COPY
#undef PLANCK_CONVERT
  };
  return kRows;
}

std::span<const ConvertRow> convert_rows() {
  static constexpr ConvertRow kRows[] = {
#define PLANCK_COPY(name, isa)
#define PLANCK_CONVERT(name, isa) {#name, Isa::isa, 0, convert_tiles, name},
#include "kernels/layout/kernels.inc"
#undef PLANCK_COPY
#undef PLANCK_CONVERT
  };
  return kRows;
}

void dense_strides(std::span<const int64_t> dims, std::span<int64_t> strides) {
  int64_t step = 1;
  for (size_t i = dims.size(); i-- > 0;) {
    strides[i] = step;
    step = checked_mul(step, std::max<int64_t>(dims[i], 1));
  }
}

CopyArgs make_copy_args(std::span<const int64_t> dims, int element_bytes, CopyView x,
                        CopyView out) {
  check_copy(dims, element_bytes, x, out);
  StridedLoop loop = in_order_of_output(dims, x.strides, out.strides);
  loop.collapse();
  loop.pad_to_plane();
  CopyArgs args{};
  args.kind = kind_of(loop);
  args.planes = cut(loop, args.kind, element_bytes);
  args.element_bytes = element_bytes;
  args.x = x.data;
  args.out = const_cast<void*>(out.data);  // a view's pointer serves both sides
  const size_t outer = loop.dims.size() - 2;
  std::copy_n(loop.strides[kX].begin(), outer, args.x_outer);
  std::copy_n(loop.strides[kOut].begin(), outer, args.out_outer);
  args.x_row = loop.strides[kX][outer];
  args.x_column = loop.strides[kX][outer + 1];
  args.out_row = loop.strides[kOut][outer];
  args.out_column = loop.strides[kOut][outer + 1];
  return args;
}

std::optional<Conversion> conversion_of(DType from, DType to) {
  const std::string name = cat(dtype_name(from), "_to_", dtype_name(to));
#define PLANCK_CONVERSION(row, from, to) \
  if (name == #row) return Conversion::row;
#include "kernels/layout/conversions.inc"
#undef PLANCK_CONVERSION
  return std::nullopt;
}

}  // namespace planck
