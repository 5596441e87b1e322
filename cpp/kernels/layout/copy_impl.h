#pragma once
// Copies and conversions for one ISA: included by avx2.cpp and portable.cpp after they have defined
// transpose_block (8x8 elements of 4 bytes or of one), interleave_three, float_of_half and
// half_of_float; internal linkage.
#include "kernels/layout/layout.h"
#include "kernels/simd/planes_impl.h"

namespace planck {
namespace {

// One plane's part of a tile, in elements from the first of each side.
template <class T>
struct PlaneCopy {
  const T* x;
  T* out;
  int64_t rows, columns;
  int64_t x_row, x_column, out_row, out_column;
};

// Pieces of kBytes, the last of which may overlap the one before.
template <int64_t kBytes>
inline void copy_pieces(const char* x, char* out, int64_t bytes) {
  for (int64_t i = 0; i + kBytes < bytes; i += kBytes) __builtin_memcpy(out + i, x + i, kBytes);
  __builtin_memcpy(out + bytes - kBytes, x + bytes - kBytes, kBytes);
}

// A few hundred bytes are copied before memcpy has found out how.
inline void copy_run(const char* x, char* out, int64_t bytes) {
  constexpr int64_t kShort = 512;
  if (bytes > kShort) {
    __builtin_memcpy(out, x, static_cast<size_t>(bytes));
  } else if (bytes >= 32) {
    copy_pieces<32>(x, out, bytes);
  } else if (bytes >= 8) {
    copy_pieces<8>(x, out, bytes);
  } else {
    for (int64_t i = 0; i < bytes; ++i) out[i] = x[i];
  }
}

template <class T>
void copy_runs(const PlaneCopy<T>& p) {
  for (int64_t r = 0; r < p.rows; ++r) {
    const void* from = p.x + r * p.x_row;
    void* to = p.out + r * p.out_row;
    copy_run(static_cast<const char*>(from), static_cast<char*>(to),
             p.columns * static_cast<int64_t>(sizeof(T)));
  }
}

template <class T>
void copy_repeat(const PlaneCopy<T>& p) {
  for (int64_t r = 0; r < p.rows; ++r) {
    const T value = p.x[r * p.x_row];
    T* to = p.out + r * p.out_row;
    for (int64_t c = 0; c < p.columns; ++c) to[c] = value;
  }
}

template <class T>
void copy_scattered(const PlaneCopy<T>& p) {
  for (int64_t r = 0; r < p.rows; ++r) {
    const T* from = p.x + r * p.x_row;
    T* to = p.out + r * p.out_row;
    for (int64_t c = 0; c < p.columns; ++c) to[c * p.out_column] = from[c * p.x_column];
  }
}

// x is dense along rows, out along columns.
template <class T>
void copy_transpose(const PlaneCopy<T>& p) {
  constexpr int64_t kEdge = 8;
  if constexpr (sizeof(T) == 4) {
    if (p.columns == 3) {  // colours
      interleave_three(p.x, p.x_column, p.rows, p.out, p.out_row);
      return;
    }
  }
  for (int64_t r = 0; r < p.rows; r += kEdge) {
    for (int64_t c = 0; c < p.columns; c += kEdge) {
      const int64_t rows = smaller(kEdge, p.rows - r), columns = smaller(kEdge, p.columns - c);
      const T* from = p.x + r + c * p.x_column;
      T* to = p.out + r * p.out_row + c;
      if constexpr (sizeof(T) == 4 || sizeof(T) == 1) {
        if (rows == kEdge && columns == kEdge) {
          transpose_block(from, p.x_column, to, p.out_row);
          continue;
        }
      }
      copy_scattered<T>({from, to, rows, columns, 1, p.x_column, p.out_row, 1});
    }
  }
}

template <class T>
void copy_tile(const CopyArgs& a, int64_t tile) {
  const PlaneArea area = area_of(a.planes, tile);
  for (int64_t plane = area.first_plane; plane < area.last_plane; ++plane) {
    const int64_t from =
        outer_offset(a.planes, a.x_outer, plane) + area.row * a.x_row + area.column * a.x_column;
    const int64_t to = outer_offset(a.planes, a.out_outer, plane) + area.row * a.out_row +
                       area.column * a.out_column;
    const PlaneCopy<T> p = {static_cast<const T*>(a.x) + from,
                            static_cast<T*>(a.out) + to,
                            area.rows,
                            area.columns,
                            a.x_row,
                            a.x_column,
                            a.out_row,
                            a.out_column};
    switch (a.kind) {
      case CopyKind::runs:
        copy_runs(p);
        break;
      case CopyKind::repeat:
        copy_repeat(p);
        break;
      case CopyKind::transpose:
        copy_transpose(p);
        break;
      case CopyKind::scattered:
        copy_scattered(p);
        break;
    }
  }
}

void run_copy(const CopyArgs& a, int64_t tile) {
  switch (a.element_bytes) {
    case 1:
      return copy_tile<uint8_t>(a, tile);
    case 2:
      return copy_tile<uint16_t>(a, tile);
    case 4:
      return copy_tile<uint32_t>(a, tile);
    default:
      return copy_tile<uint64_t>(a, tile);
  }
}

struct Bool8 {
  uint8_t value;
};
struct Half16 {
  uint16_t bits;
};
struct Brain16 {
  uint16_t bits;
};

template <class To, class From>
inline To converted(From x) {
  if constexpr (requires { x.value; }) {
    return static_cast<To>(x.value != 0);
  } else if constexpr (sizeof(To) == 1) {
    return To{x != 0};
  } else if constexpr (From(0.5f) != 0 && To(0.5f) == 0) {  // float to integer
    constexpr To kLowest = To(1) << (sizeof(To) * 8 - 2) << 1;
    constexpr From kEnd = -static_cast<From>(kLowest);
    return x >= -kEnd && x < kEnd ? static_cast<To>(x) : kLowest;
  } else {
    return static_cast<To>(x);
  }
}

inline uint32_t bits_of(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  return bits;
}
inline float float_of(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof(x));
  return x;
}

template <>
inline float converted(Half16 x) {
  return float_of_half(x.bits);
}
template <>
inline Half16 converted(float x) {
  return {half_of_float(x)};
}
template <>
inline float converted(Brain16 x) {
  return float_of(uint32_t{x.bits} << 16);
}
template <>
inline Brain16 converted(float x) {
  const uint32_t bits = bits_of(x);
  const uint32_t quiet = bits >> 16 | 0x40;  // of NaN
  const uint32_t nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return {static_cast<uint16_t>(x != x ? quiet : nearest)};
}

template <class From, class To>
void convert(const void* x, void* out, int64_t first, int64_t last) {
  const From* from = static_cast<const From*>(x);
  To* to = static_cast<To*>(out);
  for (int64_t i = first; i < last; ++i) to[i] = converted<To>(from[i]);
}

void run_convert(const ConvertArgs& a, int64_t tile) {
  const int64_t first = tile * kConvertTile;
  const int64_t last = smaller(first + kConvertTile, a.count);
  switch (a.conversion) {
#define PLANCK_CONVERSION(name, from, to) \
  case Conversion::name:                  \
    return convert<from, to>(a.x, a.out, first, last);
#include "kernels/layout/conversions.inc"
#undef PLANCK_CONVERSION
  }
}

}  // namespace
}  // namespace planck
