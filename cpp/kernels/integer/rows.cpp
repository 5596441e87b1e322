#include "kernels/integer/rows.h"

#include <algorithm>

#include "base/checked.h"
#include "kernels/simd/collapse.h"

namespace planck {
namespace {

#define PLANCK_INTEGER(name, isa) static_assert(std::string_view(#name) == "integer_any_1_" #isa);
#include "kernels/integer/kernels.inc"
#undef PLANCK_INTEGER

constexpr int64_t kTileElements = 8192;

int64_t tiles(const IntegerArgs& args) { return args.planes.tiles; }

}  // namespace

std::span<const IntegerRow> integer_rows() {
  static constexpr IntegerRow kRows[] = {
#define PLANCK_INTEGER(name, isa) {#name, Isa::isa, 0, tiles, name},
#include "kernels/integer/kernels.inc"
#undef PLANCK_INTEGER
  };
  return kRows;
}

IntegerArgs make_integer_args(IntegerOp op, int bytes, bool floats,
                              std::span<const std::span<const int64_t>> dims,
                              std::span<const int64_t> out_dims) {
  const bool select = op == IntegerOp::select;
  const bool good =
      select ? bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8 : bytes == 4 || bytes == 8;
  if (!good || dims.size() != (select ? 3U : 2U)) {
    throw InternalError(dims.size(), " operands of ", bytes, " bytes");
  }
  checked_count(out_dims);
  StridedLoop loop{{out_dims.begin(), out_dims.end()}, {}};
  loop.strides.push_back(broadcast_strides(out_dims, out_dims));
  for (const auto& in : dims) loop.strides.push_back(broadcast_strides(in, out_dims));
  loop.collapse();
  loop.pad_to_plane();
  IntegerArgs args{};
  args.op = op;
  args.bytes = bytes;
  args.floats = floats;
  args.planes = make_planes(loop, kTileElements, 16);
  const size_t outer = loop.dims.size() - 2;
  for (size_t i = 0; i < dims.size(); ++i) {
    const std::vector<int64_t>& strides = loop.strides[i + 1];
    args.rows[i] = strides[outer];
    args.columns[i] = strides[outer + 1];
    std::copy_n(strides.begin(), outer, args.outer[i]);
  }
  return args;
}

}  // namespace planck
