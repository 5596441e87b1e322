#pragma once
#include <cstdint>

#include "kernels/job.h"
#include "kernels/simd/planes.h"

namespace planck {

// How the planes of a copy are walked.
enum class CopyKind : uint8_t {
  runs,       // the columns are dense on both sides: memcpy
  repeat,     // the columns are dense in `out`, one element in `x`
  transpose,  // the columns are dense in `out`, the rows in `x`
  scattered,  // neither
};

// out[i...] = x[i...] for elements of 1, 2, 4 or 8 bytes with any strides, made by make_copy_args.
// The two must not overlap. Strides count elements; 0 repeats, negative ones walk backwards.
struct CopyArgs {
  Planes planes;
  CopyKind kind;
  int32_t element_bytes;
  const void* x;
  void* out;
  int64_t x_outer[kPlanesRank], out_outer[kPlanesRank];
  int64_t x_row, x_column, out_row, out_column;
};

// from -> to of one dense array; what each pair does is said in layout/rows.h.
enum class Conversion : uint8_t {
#define PLANCK_CONVERSION(name, from, to) name,
#include "kernels/layout/conversions.inc"
#undef PLANCK_CONVERSION
};

inline constexpr int64_t kConvertTile = 8192;  // elements

struct ConvertArgs {
  Conversion conversion;
  const void* x;
  void* out;  // must not overlap x
  int64_t count;
};

#define PLANCK_COPY(name, isa) void name(const void* args, int64_t tile, const Worker& worker);
#define PLANCK_CONVERT(name, isa) void name(const void* args, int64_t tile, const Worker& worker);
#include "kernels/layout/kernels.inc"
#undef PLANCK_COPY
#undef PLANCK_CONVERT

}  // namespace planck
