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

bool is_only(const EltProgram& program, EltOp op) {
  return program.instrs == 1 && program.code[0].op == op &&
         program.code[0].in[0] == kEltOperandSource;
}

std::optional<EltType> elt_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return EltType::f32;
    case DType::b8:
      return EltType::b8;
    case DType::u8:
      return EltType::u8;
    case DType::s8:
      return EltType::s8;
    case DType::s32:
      return EltType::s32;
    default:
      return std::nullopt;
  }
}

EltStripFn eltwise_strip(Isa isa) {
  for (const EltwiseRow& row : eltwise_rows()) {
    if (row.isa <= isa) return row.strip;
  }
  throw InternalError("element-wise programs have no ", isa, " row");
}

namespace {

std::vector<int64_t> strides_of(const EltwiseInput& in, std::span<const int64_t> out_dims) {
  std::vector<int64_t> strides = broadcast_strides(in.dims, out_dims);
  if (in.strides.empty()) return strides;
  const size_t lead = out_dims.size() - in.dims.size();
  for (size_t i = 0; i < in.dims.size(); ++i) {
    if (in.dims[i] != 1) strides[lead + i] = in.strides[i];
  }
  return strides;
}

// Columns are neighbours or one element; where an operand steps further, every row has one column.
void need_unit_columns(StridedLoop& loop) {
  const bool unit = std::ranges::all_of(
      loop.strides, [](const std::vector<int64_t>& s) { return s.back() == 0 || s.back() == 1; });
  if (unit) return;
  loop.dims.push_back(1);
  for (auto& s : loop.strides) s.push_back(0);
}

}  // namespace

EltwiseArgs make_eltwise_args(const EltProgram& program, std::span<const EltwiseInput> inputs,
                              void* out, std::span<const int64_t> out_dims, EltType out_type) {
  if (static_cast<int64_t>(inputs.size()) != program.operands) {
    throw InternalError("a tile program of ", program.operands, " operands got ", inputs.size());
  }
  checked_count(out_dims);
  StridedLoop loop{{out_dims.begin(), out_dims.end()}, {}};
  loop.strides.push_back(broadcast_strides(out_dims, out_dims));
  for (const EltwiseInput& in : inputs) {
    loop.strides.push_back(strides_of(in, out_dims));
  }
  loop.collapse();
  loop.pad_to_plane();
  need_unit_columns(loop);
  EltwiseArgs args{};
  args.program = program;
  args.planes = make_planes(loop, kTileElements, 16);
  args.out = out;
  args.out_type = out_type;
  const size_t outer = loop.dims.size() - 2;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const std::vector<int64_t>& strides = loop.strides[i + 1];
    args.operands[i] = {inputs[i].data, strides[outer], strides[outer + 1], inputs[i].type};
    std::copy_n(strides.begin(), outer, args.outer_strides[i]);
  }
  return args;
}

}  // namespace planck
