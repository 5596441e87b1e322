#include "kernels/jit/gelu.h"

#include <bit>
#include <cstdint>
#include <iterator>

#include "kernels/simd/gelu_root.h"

namespace planck::jit {
namespace {

// Constants one after the other, in one line of cache.
struct GeluTable {
  static constexpr int kTerms = static_cast<int>(std::size(kGeluRoot));
  static constexpr int kEnd = kTerms, kOne = kTerms + 1, kMagnitude = kTerms + 2;
  alignas(64) float values[16];
};

constexpr GeluTable make_gelu_table() {
  GeluTable table{};
  for (int i = 0; i < GeluTable::kTerms; ++i) table.values[i] = kGeluRoot[i];
  table.values[GeluTable::kEnd] = kGeluEnd;
  table.values[GeluTable::kOne] = 1;
  table.values[GeluTable::kMagnitude] = std::bit_cast<float>(INT32_MAX);
  return table;
}
constexpr GeluTable kGeluTable = make_gelu_table();

// All sums take each step together: twelve and more of them hide the latency of the polynomial,
// which the processor's own window would not, as it is about as long as two of them. What a sum
// needs beside its register lies on the stack: |x| is read by each term, x at the end.
class Gelu {
 public:
  Gelu(Xbyak::CodeGenerator& code, const GeluRegisters& registers, const Xbyak::Reg64& pointer)
      : code_(code), r_(registers), pointer_(pointer) {}

  void generate() {
    const int bytes = 2 * r_.sums * vector_bytes();
    code_.mov(pointer_, code_.rsp);
    code_.and_(code_.rsp, -64);
    code_.sub(code_.rsp, bytes + 64);
    code_.mov(code_.ptr[code_.rsp + bytes], pointer_);
    code_.mov(pointer_, reinterpret_cast<size_t>(&kGeluTable));
    put_down();
    polynomial();
    drop_negative();
    for (int squaring = 0; squaring < 3; ++squaring) {
      for (int i = 0; i < r_.sums; ++i) code_.vmulps(sum(i), sum(i), sum(i));
    }
    for (int i = 0; i < r_.sums; ++i) times_x(i);
    code_.mov(code_.rsp, code_.ptr[code_.rsp + bytes]);
  }

 private:
  int vector_bytes() const { return 4 * r_.lanes; }
  Xbyak::Xmm vector(int index) const {
    if (r_.lanes == 16) return Xbyak::Zmm(index);
    return Xbyak::Ymm(index);
  }
  Xbyak::Xmm sum(int index) const { return vector(index); }
  Xbyak::Xmm spare(int index) const { return vector(r_.sums + index); }
  Xbyak::Address x(int index) const { return code_.ptr[code_.rsp + index * vector_bytes()]; }
  Xbyak::Address magnitude(int index) const { return x(r_.sums + index); }
  void repeat(const Xbyak::Xmm& to, int constant) {
    code_.vbroadcastss(to, code_.ptr[pointer_ + constant * static_cast<int>(sizeof(float))]);
  }

  // x and its magnitude, which stays in the sum's register too.
  void put_down() {
    const Xbyak::Xmm sign_off = spare(0), end = spare(1);
    repeat(sign_off, GeluTable::kMagnitude);
    repeat(end, GeluTable::kEnd);
    for (int i = 0; i < r_.sums; ++i) {
      code_.vmovups(x(i), sum(i));
      if (r_.evex) {
        code_.vpandd(sum(i), sum(i), sign_off);
      } else {
        code_.vandps(sum(i), sum(i), sign_off);
      }
      code_.vminps(sum(i), end, sum(i));  // keeps NaN
      code_.vmovups(magnitude(i), sum(i));
    }
  }

  void polynomial() {
    const Xbyak::Xmm first = spare(0), term = spare(1);
    repeat(first, GeluTable::kTerms - 1);
    repeat(term, GeluTable::kTerms - 2);
    for (int i = 0; i < r_.sums; ++i) code_.vfmadd213ps(sum(i), first, term);
    for (int at = GeluTable::kTerms - 3; at >= 0; --at) {
      repeat(term, at);
      for (int i = 0; i < r_.sums; ++i) code_.vfmadd132ps(sum(i), term, magnitude(i));
    }
  }

  void drop_negative() {
    const Xbyak::Xmm zero = spare(0);
    if (r_.evex) {
      code_.vpxord(zero, zero, zero);
    } else {
      code_.vxorps(zero, zero, zero);
    }
    for (int i = 0; i < r_.sums; ++i) code_.vmaxps(sum(i), zero, sum(i));  // keeps NaN
  }

  // The sum is the tail of the normal distribution at |x|.
  void times_x(int i) {
    const Xbyak::Xmm share = spare(0), value = spare(1);
    repeat(share, GeluTable::kOne);
    code_.vsubps(share, share, sum(i));
    code_.vmovups(value, x(i));
    take_where_negative(share, sum(i), value);
    code_.vmulps(sum(i), value, share);
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
  Gelu(code, registers, pointer).generate();
}

}  // namespace planck::jit
