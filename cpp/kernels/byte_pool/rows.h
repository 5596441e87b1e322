#pragma once
#include "kernels/byte_pool/byte_pool.h"
#include "kernels/simd/row.h"

namespace planck {

using BytePoolRow = KernelRow<BytePoolArgs>;

std::span<const BytePoolRow> byte_pool_rows();
inline const BytePoolRow& byte_pool_row(std::string_view name) {
  return row_of_name(byte_pool_rows(), name);
}

// Cuts the output into tiles: fills `places`.
void plan_byte_pool(BytePoolArgs& args);

}  // namespace planck
