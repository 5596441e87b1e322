#include "kernels/jit/gelu.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <iterator>

#include "kernels/simd/gelu_root.h"

namespace planck::jit {
namespace {

// Constants, each repeated over the widest vector.
struct GeluTable {
  static constexpr int kLanes = 16, kTerms = static_cast<int>(std::size(kGeluRoot));
  static constexpr int kEnd = kTerms, kOne = kTerms + 1, kMagnitude = kTerms + 2;
  static constexpr int kRowBytes = kLanes * static_cast<int>(sizeof(float));
  alignas(64) float lanes[kTerms + 3][kLanes];
};

constexpr GeluTable make_gelu_table() {
  GeluTable table{};
  for (int lane = 0; lane < GeluTable::kLanes; ++lane) {
    for (int i = 0; i < GeluTable::kTerms; ++i) table.lanes[i][lane] = kGeluRoot[i];
    table.lanes[GeluTable::kEnd][lane] = kGeluEnd;
    table.lanes[GeluTable::kOne][lane] = 1;
    table.lanes[GeluTable::kMagnitude][lane] = std::bit_cast<float>(INT32_MAX);
  }
  return table;
}
constexpr GeluTable kGeluTable = make_gelu_table();

class Gelu {
 public:
  Gelu(Xbyak::CodeGenerator& code, const GeluRegisters& registers, const Xbyak::Reg64& pointer)
      : code_(code), r_(registers), pointer_(pointer) {}

  // For `count` sums from `first` on: the tail of the normal distribution at |x| in `tail`.
  void apply(int first, int count) {
    const auto x = [&](int i) { return vector(first + i); };
    const auto magnitude = [&](int i) { return vector(r_.sums + 2 * i); };
    const auto tail = [&](int i) { return vector(r_.sums + 2 * i + 1); };
    for (int i = 0; i < count; ++i) {
      keep_magnitude(magnitude(i), x(i));
      code_.vmovups(tail(i), constant(GeluTable::kEnd));
      code_.vminps(magnitude(i), tail(i), magnitude(i));  // keeps NaN
      code_.vmovups(tail(i), constant(GeluTable::kTerms - 1));
    }
    for (int term = GeluTable::kTerms - 2; term >= 0; --term) {
      for (int i = 0; i < count; ++i) code_.vfmadd213ps(tail(i), magnitude(i), constant(term));
    }
    for (int squaring = 0; squaring < 3; ++squaring) {
      for (int i = 0; i < count; ++i) code_.vmulps(tail(i), tail(i), tail(i));
    }
    for (int i = 0; i < count; ++i) {
      code_.vmovups(magnitude(i), constant(GeluTable::kOne));
      code_.vsubps(magnitude(i), magnitude(i), tail(i));
      take_where_negative(magnitude(i), tail(i), x(i));
      code_.vmulps(x(i), x(i), magnitude(i));
    }
  }

 private:
  Xbyak::Xmm vector(int index) const {
    if (r_.lanes == 16) return Xbyak::Zmm(index);
    return Xbyak::Ymm(index);
  }
  Xbyak::Address constant(int index) const {
    return code_.ptr[pointer_ + index * GeluTable::kRowBytes];
  }

  void keep_magnitude(const Xbyak::Xmm& to, const Xbyak::Xmm& x) {
    if (r_.evex) {
      code_.vpandd(to, x, constant(GeluTable::kMagnitude));
    } else {
      code_.vandps(to, x, constant(GeluTable::kMagnitude));
    }
  }

  // to = sign of x ? other : to
  void take_where_negative(const Xbyak::Xmm& to, const Xbyak::Xmm& other, const Xbyak::Xmm& x) {
    if (r_.evex) {
      const Xbyak::Opmask negative(7);
      code_.vpmovd2m(negative, x);
      code_.vblendmps(to | negative, to, other);
    } else {
      code_.vblendvps(to, to, other, x);
    }
  }

  Xbyak::CodeGenerator& code_;
  const GeluRegisters r_;
  const Xbyak::Reg64 pointer_;
};

}  // namespace

void emit_gelu(Xbyak::CodeGenerator& code, const GeluRegisters& registers,
               const Xbyak::Reg64& pointer) {
  code.mov(pointer, reinterpret_cast<size_t>(&kGeluTable));
  // Several side by side hide the latency of the polynomial.
  const int sums = registers.sums, together = std::min(registers.spare / 2, 4);
  Gelu gelu(code, registers, pointer);
  for (int at = 0; at < sums; at += together) gelu.apply(at, std::min(together, sums - at));
}

}  // namespace planck::jit
