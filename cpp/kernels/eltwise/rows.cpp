#include "kernels/eltwise/rows.h"

#include <algorithm>

#include "base/checked.h"
#include "kernels/simd/collapse.h"

namespace planck {
namespace {

#define PLANCK_ELTWISE(name, isa) static_assert(std::string_view(#name) == "eltwise_f32_16_" #isa);
#include "kernels/eltwise/kernels.inc"
#undef PLANCK_ELTWISE

constexpr int64_t kTileElements = 8192;  // 32 KB of output: far above a ticket's cost

int64_t tiles(const EltwiseArgs& args) { return args.planes.tiles; }

}  // namespace

std::span<const EltwiseRow> eltwise_rows() {
  static constexpr EltwiseRow kRows[] = {
#define PLANCK_ELTWISE(name, isa) {{#name, Isa::isa, 0, tiles, name}, name##_strip},
#include "kernels/eltwise/kernels.inc"
#undef PLANCK_ELTWISE
  };
  return kRows;
}

EltStripFn eltwise_strip(Isa isa) {
  for (const EltwiseRow& row : eltwise_rows()) {
    if (row.isa <= isa) return row.strip;
  }
  throw InternalError("element-wise programs have no ", isa, " row");
}

EltwiseArgs make_eltwise_args(const EltProgram& program, std::span<const EltwiseInput> inputs,
                              float* out, std::span<const int64_t> out_dims) {
  if (static_cast<int64_t>(inputs.size()) != program.operands) {
    throw InternalError("a tile program of ", program.operands, " operands got ", inputs.size());
  }
  checked_count(out_dims);
  StridedLoop loop{{out_dims.begin(), out_dims.end()}, {}};
  loop.strides.push_back(broadcast_strides(out_dims, out_dims));
  for (const EltwiseInput& in : inputs) {
    loop.strides.push_back(broadcast_strides(in.dims, out_dims));
  }
  loop.collapse();
  loop.pad_to_plane();
  EltwiseArgs args{};
  args.program = program;
  args.planes = make_planes(loop, kTileElements, 16);
  args.out = out;
  const size_t outer = loop.dims.size() - 2;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const std::vector<int64_t>& strides = loop.strides[i + 1];
    args.operands[i] = {inputs[i].data, strides[outer], strides[outer + 1], inputs[i].bools};
    std::copy_n(strides.begin(), outer, args.outer_strides[i]);
  }
  return args;
}

}  // namespace planck
