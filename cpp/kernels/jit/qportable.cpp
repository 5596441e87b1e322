#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/jit/qgemm.h"

namespace planck::jit {
namespace {

bool exists(const QgemmCall& call, int column) {
  return call.mask == nullptr || call.mask[column] != 0;
}

constexpr int kGroup = 4;

// `count` elements of one group of k.
void add_group(const uint8_t* a, const int8_t* b, int64_t count, uint32_t* sums) {
  for (int j = 0; j < kQPortableColumns; ++j) {
    for (int64_t k = 0; k < count; ++k) {
      sums[j] += static_cast<uint32_t>(int32_t{a[k]} * b[j * kGroup + k]);
    }
  }
}

// Unsigned, so that sums that the caller lets overflow wrap as vector registers do.
void row_sums(const QgemmCall& call, int64_t row, uint32_t* sums) {
  for (int j = 0; j < kQPortableColumns; ++j) {
    sums[j] = exists(call, j) ? static_cast<uint32_t>(call.offset[j]) : 0;
  }
  const auto* a = static_cast<const uint8_t*>(call.a) + row * call.a_stride;
  const int8_t* b = call.b;
  for (int64_t line = 0; line < call.lines; ++line, a += call.line_step) {
    for (int64_t i = 0; i < call.groups; ++i, a += kGroup, b += kGroup * kQPortableColumns) {
      add_group(a, b, kGroup, sums);
    }
  }
  add_group(a - call.line_step, b, call.tail, sums);
}

float finish(const QgemmCall& call, int64_t row, int column, uint32_t sum) {
  float x = static_cast<float>(static_cast<int32_t>(sum)) * call.multiplier[column];
  if (call.bias != nullptr) x += call.bias[column];
  if (call.residual != nullptr) {
    const char* from = reinterpret_cast<const char*>(call.residual) + row * call.residual_stride;
    x += reinterpret_cast<const float*>(from)[column];
  }
  if (call.byte_residual != nullptr) {
    const uint8_t byte = call.byte_residual[row * call.byte_residual_stride + column];
    x += (static_cast<float>(byte) - call.bytes->zero[0]) * call.bytes->scale[0];
  }
  return (call.flags & kQRelu) != 0 && x < 0 ? 0 : x;
}

uint8_t to_byte(const QgemmCall& call, float x) {
  const QgemmRange& range = *call.range;
  if ((call.flags & (kQDivide | kQInverse)) != 0) x /= range.divisor;
  const float above = x > range.low ? x : range.low;  // NaN becomes low
  const float inside = above < range.high ? above : range.high;
  return static_cast<uint8_t>(static_cast<int32_t>(std::nearbyint(inside)) + range.zero);
}

// What another kernel has left.
void ready_sums(const QgemmCall& call, int64_t row, uint32_t* sums) {
  const char* from = static_cast<const char*>(call.a) + row * call.a_stride;
  for (int j = 0; j < kQPortableColumns; ++j) {
    const auto sum = static_cast<uint32_t>(reinterpret_cast<const int32_t*>(from)[j]);
    sums[j] = exists(call, j) ? sum + static_cast<uint32_t>(call.offset[j]) : 0;
  }
}

template <class Sums, class Store>
void multiply(const QgemmCall& call, Sums sums_of, Store store) {
  for (int64_t i = 0; i < call.rows; ++i) {
    uint32_t sums[kQPortableColumns];
    sums_of(call, i, sums);
    char* c = static_cast<char*>(call.c) + i * call.c_stride;
    for (int j = 0; j < kQPortableColumns; ++j) {
      if (exists(call, j)) store(call, c, j, finish(call, i, j, sums[j]));
    }
  }
}

void store_float(const QgemmCall&, char* c, int j, float x) { reinterpret_cast<float*>(c)[j] = x; }
void store_byte(const QgemmCall& call, char* c, int j, float x) {
  reinterpret_cast<uint8_t*>(c)[j] = to_byte(call, x);
}

// Sums of products of 16 bits, which may wrap.
void word_sums(const QgemmCall& call, int64_t row, uint32_t* sums) {
  constexpr int kWords = group_of(QgemmUnit::words);
  const char* from = static_cast<const char*>(call.a) + row * call.a_stride;
  const auto* a = reinterpret_cast<const int16_t*>(from);
  const auto* b = reinterpret_cast<const int16_t*>(call.b);
  for (int64_t i = 0; i < call.groups; ++i, a += kWords, b += kWords * kQPortableColumns) {
    for (int j = 0; j < kQPortableColumns; ++j) {
      for (int k = 0; k < kWords; ++k) {
        sums[j] += static_cast<uint32_t>(int32_t{a[k]} * b[j * kWords + k]);
      }
    }
  }
}

}  // namespace

void qgemm_portable(const QgemmCall* call) { multiply(*call, row_sums, store_float); }
void qgemm_portable_bytes(const QgemmCall* call) { multiply(*call, row_sums, store_byte); }
void qgemm_portable_sums(const QgemmCall* call) { multiply(*call, ready_sums, store_float); }
void qgemm_portable_sums_bytes(const QgemmCall* call) { multiply(*call, ready_sums, store_byte); }
void qgemm_portable_words(const QgemmCall* call) {
  for (int64_t i = 0; i < call->rows; ++i) {
    uint32_t sums[kQPortableColumns] = {};
    word_sums(*call, i, sums);
    std::memcpy(static_cast<char*>(call->c) + i * call->c_stride, sums, sizeof(sums));
  }
}

}  // namespace planck::jit
