#pragma once
#include "kernels/dynamic_quantize/dynamic_quantize.h"
#include "kernels/simd/row.h"

namespace planck {

// `run` quantizes; `range` comes before it, with the same tiles.
struct DynamicQuantizeRow : KernelRow<DynamicQuantizeArgs> {
  TileFn range;

  Job range_job(const DynamicQuantizeArgs& args) const { return {range, &args, tiles(args)}; }
};

std::span<const DynamicQuantizeRow> dynamic_quantize_rows();
inline const DynamicQuantizeRow& dynamic_quantize_row(std::string_view name) {
  return row_of_name(dynamic_quantize_rows(), name);
}

// Arguments for so many elements; pointers stay null, `ranges` takes args.parts elements.
DynamicQuantizeArgs make_dynamic_quantize_args(int64_t count);

}  // namespace planck
