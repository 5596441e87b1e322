#pragma once
#include "kernels/reduce/reduce.h"
#include "kernels/simd/row.h"

namespace planck {

// `run` comes after `parts`, where there are any.
struct ReduceRow : KernelRow<ReduceArgs> {
  TileFn parts;

  Job parts_job(const ReduceArgs& args) const {
    return {parts, &args, args.outer * reduce_parts(args), true};
  }
};

std::span<const ReduceRow> reduce_rows();
inline const ReduceRow& reduce_row(std::string_view name) {
  return row_of_name(reduce_rows(), name);
}

}  // namespace planck
