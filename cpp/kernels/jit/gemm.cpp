// The generator behind gemm.h. Register plan, with R rows and T vectors of columns in the tile:
//   vector registers: R * T sums first; then the B vectors of one k and scratch for A (B resident),
//     or, where the tile has fewer rows than vectors, the R values of A and scratch for B.
//   rdi: the call; rax: k left; rdx: row stride of A; a_bases: every third row of A, the two rows
//     behind it by [base + rdx] and [base + 2 * rdx]; b_bases: the same for the panels of B.
#include "kernels/jit/gemm.h"

#include <xbyak/xbyak.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <span>

#include "base/error.h"
#include "kernels/jit/code.h"
#include "kernels/simd/gelu_root.h"

namespace planck::jit {
namespace {

constexpr int kUnroll = 4;
constexpr size_t kMaxCodeBytes = 64 << 10;
// B streams from L2 through L1: 16 lines ahead hide the latency of L2.
constexpr int kPrefetchAhead = 1024;

// Constants of the GELU, each repeated over the widest vector.
struct GeluTable {
  static constexpr int kLanes = 16, kTerms = static_cast<int>(std::size(kGeluRoot));
  static constexpr int kEnd = kTerms, kOne = kTerms + 1, kMagnitude = kTerms + 2;
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

#define PLANCK_FIELD(name) qword[call + offsetof(GemmCall, name)]

// One generator object makes one kernel.
class GemmGenerator : public Xbyak::CodeGenerator {
 public:
  GemmGenerator(const GemmRecipe& recipe, std::span<uint8_t> buffer)
      : CodeGenerator(buffer.size(), buffer.data()),
        r_(recipe),
        wide_(recipe.isa >= Isa::avx512),
        floats_(vector_floats(recipe.isa)),
        columns_(recipe.vectors * recipe.panels) {
    check();
    generate();
  }

 private:
  bool b_resident() const { return r_.rows > columns_; }
  int registers() const { return wide_ ? 32 : 16; }

  void check() const {
    const int inputs = b_resident() ? columns_ + 1 : r_.rows + 1;
    const bool fits = r_.rows >= 1 && r_.rows <= 3 * static_cast<int>(std::size(a_bases)) &&
                      columns_ >= 1 && r_.panels <= 3 * static_cast<int>(std::size(b_bases)) &&
                      r_.rows * columns_ + inputs <= registers() && (!r_.masked || masks_fit());
    if (!fits || (r_.strided && r_.panels > 1) || r_.isa < Isa::avx2) {
      throw InternalError("no GEMM kernel of ", r_.rows, " rows, ", r_.vectors, " vectors, ",
                          r_.panels, " panels for ", r_.isa);
    }
  }
  // The store phase keeps a mask for each column vector (k0 is no mask), and one temporary.
  bool masks_fit() const { return wide_ ? columns_ <= 7 : spare() >= columns_ + 1; }
  int spare() const { return registers() - r_.rows * columns_; }

  Xbyak::Xmm vector(int index) const {
    if (wide_) return Xbyak::Zmm(index);
    return Xbyak::Ymm(index);
  }
  Xbyak::Xmm sum(int row, int column) const { return vector(row * columns_ + column); }
  Xbyak::Xmm input(int index) const { return vector(r_.rows * columns_ + index); }
  int vector_bytes() const { return floats_ * 4; }
  int panel_bytes() const { return vector_bytes() * r_.vectors; }

  void generate() {
    push_saved();
    prefetch_output();
    load_pointers();
    load_sums();
    k_loop();
    store_phase();
    vzeroupper();
    pop_saved();
    ret();
  }

  void push_saved() {
    for (const Xbyak::Reg64& reg : saved) push(reg);
  }
  void pop_saved() {
    for (int i = static_cast<int>(std::size(saved)) - 1; i >= 0; --i) pop(saved[i]);
  }

  // What the store phase needs has the whole K loop to arrive. The residual and C of a large layer
  // come from L3, whose latency the 12 loads at the end of a tile could not hide.
  void prefetch_output() {
    Xbyak::Label none;
    mov(pointer, PLANCK_FIELD(residual));
    test(pointer, pointer);
    jz(none, T_NEAR);
    mov(pointer_stride, PLANCK_FIELD(residual_stride));
    prefetch_rows([this](const Xbyak::Address& at) { prefetcht0(at); });
    L(none);
    mov(pointer, PLANCK_FIELD(c));
    mov(pointer_stride, PLANCK_FIELD(c_stride));
    prefetch_rows([this](const Xbyak::Address& at) { prefetchw(at); });
  }
  void prefetch_rows(const auto& prefetch) {
    for (int i = 0; i < r_.rows; ++i) {
      for (int byte = 0; byte < columns_ * vector_bytes(); byte += 64)
        prefetch(ptr[pointer + byte]);
      lea(pointer, ptr[pointer + pointer_stride * 4]);
    }
  }

  // base, base + 3 strides, base + 6 strides, ...: [base + 2 * stride] reaches the third.
  void load_bases(std::span<const Xbyak::Reg64> bases, int count, const Xbyak::Reg64& stride) {
    for (int i = 1; 3 * i < count; ++i) {
      lea(bases[i], ptr[bases[i - 1] + stride * 2]);
      add(bases[i], stride);
    }
  }

  void load_pointers() {
    mov(a_stride, PLANCK_FIELD(a_stride));
    shl(a_stride, 2);
    mov(a_bases[0], PLANCK_FIELD(a));
    load_bases(a_bases, r_.rows, a_stride);
    mov(b_stride, PLANCK_FIELD(b_stride));
    shl(b_stride, 2);
    mov(b_bases[0], PLANCK_FIELD(b));
    load_bases(b_bases, r_.panels, b_stride);
    mov(next, PLANCK_FIELD(prefetch));
    mov(next_step, PLANCK_FIELD(prefetch_step));
  }

  Xbyak::RegExp based(std::span<const Xbyak::Reg64> bases, const Xbyak::Reg64& stride,
                      int index) const {
    switch (index % 3) {
      case 0:
        return bases[index / 3];
      case 1:
        return bases[index / 3] + stride;
      default:
        return bases[index / 3] + stride * 2;
    }
  }

  Xbyak::Address a_address(int row, int step) const {
    return ptr[based(a_bases, a_stride, row) + 4 * step];
  }
  Xbyak::Address b_address(int column, int step) const {
    const int in_panel = column % r_.vectors * vector_bytes();
    if (r_.strided) return ptr[b_bases[0] + in_panel];  // the base moves with every k
    return ptr[based(b_bases, b_stride, column / r_.vectors) + (in_panel + step * panel_bytes())];
  }

  void one_k(int step) {
    if (b_resident()) {
      for (int j = 0; j < columns_; ++j) vmovups(input(j), b_address(j, step));
      for (int i = 0; i < r_.rows; ++i) {
        // Two scratch registers where there are two: the broadcast need not wait for the last use.
        const Xbyak::Xmm a = input(columns_ + (spare() > columns_ + 1 ? i % 2 : 0));
        vbroadcastss(a, a_address(i, step));
        for (int j = 0; j < columns_; ++j) vfmadd231ps(sum(i, j), a, input(j));
      }
    } else {
      for (int i = 0; i < r_.rows; ++i) vbroadcastss(input(i), a_address(i, step));
      for (int j = 0; j < columns_; ++j) {
        const Xbyak::Xmm b = input(r_.rows + (spare() > r_.rows + 1 ? j % 2 : 0));
        vmovups(b, b_address(j, step));
        for (int i = 0; i < r_.rows; ++i) vfmadd231ps(sum(i, j), input(i), b);
      }
    }
    if (r_.strided) add(b_bases[0], b_stride);
  }

  void advance(int steps) {
    for (int i = 0; 3 * i < r_.rows; ++i) add(a_bases[i], 4 * steps);
    if (r_.strided) return;
    for (int i = 0; 3 * i < r_.panels; ++i) add(b_bases[i], panel_bytes() * steps);
  }

  // One prefetch a line: of the B that this kernel reads next, and of what the caller reads later.
  void prefetch_b(int step) {
    if (r_.strided) return;
    for (int p = 0; p < r_.panels; ++p) {
      for (int line = 0; line < panel_bytes(); line += 64) {
        prefetcht0(
            ptr[based(b_bases, b_stride, p) + (kPrefetchAhead + step * panel_bytes() + line)]);
      }
    }
  }

  void k_loop() {
    Xbyak::Label loop, rest, rest_loop, done;
    mov(count, PLANCK_FIELD(k));
    sub(count, kUnroll);
    jl(rest, T_NEAR);
    align(32);
    L(loop);
    for (int step = 0; step < kUnroll; ++step) {
      one_k(step);
      prefetch_b(step);
    }
    prefetcht1(ptr[next]);
    add(next, next_step);
    advance(kUnroll);
    sub(count, kUnroll);
    jge(loop, T_NEAR);
    L(rest);
    add(count, kUnroll);
    jz(done, T_NEAR);
    L(rest_loop);
    one_k(0);
    advance(1);
    dec(count);
    jnz(rest_loop, T_NEAR);
    L(done);
  }

  // --- C: rows are walked by one pointer; the registers of A and B are free in these phases.

  Xbyak::Xmm mask(int column) const { return vector(registers() - 1 - column); }
  Xbyak::Opmask opmask(int column) const { return Xbyak::Opmask(1 + column); }
  Xbyak::Xmm temporary() const { return input(0); }

  void load_masks() {
    if (!r_.masked) return;
    mov(pointer, PLANCK_FIELD(mask));
    for (int j = 0; j < columns_; ++j) {
      if (wide_) {
        vmovups(temporary(), ptr[pointer + j * vector_bytes()]);
        vptestmd(opmask(j), temporary(), temporary());
      } else {
        vmovups(mask(j), ptr[pointer + j * vector_bytes()]);
      }
    }
  }

  void load(const Xbyak::Xmm& to, const Xbyak::Reg64& row, int column) {
    const Xbyak::Address from = ptr[row + column * vector_bytes()];
    if (!r_.masked) {
      vmovups(to, from);
    } else if (wide_) {
      vmovups(to | opmask(column) | T_z, from);
    } else {
      vmaskmovps(to, mask(column), from);
    }
  }
  void store(const Xbyak::Reg64& row, int column, const Xbyak::Xmm& value) {
    const Xbyak::Address to = ptr[row + column * vector_bytes()];
    if (!r_.masked) {
      vmovups(to, value);
    } else if (wide_) {
      vmovups(to | opmask(column), value);
    } else {
      vmaskmovps(to, mask(column), value);
    }
  }

  void zero_sums() {
    for (int i = 0; i < r_.rows * columns_; ++i) {
      if (wide_) {
        vpxord(vector(i), vector(i), vector(i));
      } else {
        vxorps(vector(i), vector(i), vector(i));
      }
    }
  }

  void load_sums() {
    Xbyak::Label fresh, loaded;
    load_masks();
    test(byte[call + offsetof(GemmCall, flags)], kLoadC);
    jz(fresh, T_NEAR);
    mov(pointer, PLANCK_FIELD(c));
    mov(pointer_stride, PLANCK_FIELD(c_stride));
    for (int i = 0; i < r_.rows; ++i) {
      for (int j = 0; j < columns_; ++j) load(sum(i, j), pointer, j);
      lea(pointer, ptr[pointer + pointer_stride * 4]);
    }
    jmp(loaded, T_NEAR);
    L(fresh);
    zero_sums();
    L(loaded);
  }

  void add_bias() {
    Xbyak::Label none;
    mov(pointer, PLANCK_FIELD(bias));
    test(pointer, pointer);
    jz(none, T_NEAR);
    for (int j = 0; j < columns_; ++j) {
      load(temporary(), pointer, j);
      for (int i = 0; i < r_.rows; ++i) vaddps(sum(i, j), sum(i, j), temporary());
    }
    L(none);
  }

  void add_residual() {
    Xbyak::Label none;
    mov(pointer, PLANCK_FIELD(residual));
    test(pointer, pointer);
    jz(none, T_NEAR);
    mov(pointer_stride, PLANCK_FIELD(residual_stride));
    for (int i = 0; i < r_.rows; ++i) {
      for (int j = 0; j < columns_; ++j) {
        load(temporary(), pointer, j);
        vaddps(sum(i, j), sum(i, j), temporary());
      }
      lea(pointer, ptr[pointer + pointer_stride * 4]);
    }
    L(none);
  }

  void apply_relu() {
    Xbyak::Label none;
    test(byte[call + offsetof(GemmCall, flags)], kRelu);
    jz(none, T_NEAR);
    const Xbyak::Xmm zero = temporary();
    if (wide_) {
      vpxord(zero, zero, zero);
    } else {
      vxorps(zero, zero, zero);
    }
    // The second source is returned where one is NaN, so NaN stays NaN.
    for (int i = 0; i < r_.rows * columns_; ++i) vmaxps(vector(i), zero, vector(i));
    L(none);
  }

  Xbyak::Address gelu_constant(int index) const {
    return ptr[pointer + index * static_cast<int>(sizeof(GeluTable::lanes[0]))];
  }

  // The instructions of simd/math.h's gelu_erf, so the bits are its bits; several sums side by side
  // hide the latency of the polynomial. Works in all registers behind the sums, masks included.
  void apply_gelu() {
    Xbyak::Label none;
    test(byte[call + offsetof(GemmCall, flags)], kGelu);
    jz(none, T_NEAR);
    mov(pointer, reinterpret_cast<size_t>(&kGeluTable));
    const int sums = r_.rows * columns_, together = std::min(spare() / 2, 4);
    for (int at = 0; at < sums; at += together) gelu_of(at, std::min(together, sums - at));
    load_masks();
    L(none);
  }

  // For `count` sums from `first` on: the tail of the normal distribution at |x| in `tail`.
  void gelu_of(int first, int count) {
    const auto x = [&](int i) { return vector(first + i); };
    const auto magnitude = [&](int i) { return input(2 * i); };
    const auto tail = [&](int i) { return input(2 * i + 1); };
    for (int i = 0; i < count; ++i) {
      keep_magnitude(magnitude(i), x(i));
      vmovups(tail(i), gelu_constant(GeluTable::kEnd));
      vminps(magnitude(i), tail(i), magnitude(i));  // keeps NaN
      vmovups(tail(i), gelu_constant(GeluTable::kTerms - 1));
    }
    for (int term = GeluTable::kTerms - 2; term >= 0; --term) {
      for (int i = 0; i < count; ++i) vfmadd213ps(tail(i), magnitude(i), gelu_constant(term));
    }
    for (int squaring = 0; squaring < 3; ++squaring) {
      for (int i = 0; i < count; ++i) vmulps(tail(i), tail(i), tail(i));
    }
    for (int i = 0; i < count; ++i) {
      vmovups(magnitude(i), gelu_constant(GeluTable::kOne));
      vsubps(magnitude(i), magnitude(i), tail(i));
      take_where_negative(magnitude(i), tail(i), x(i));
      vmulps(x(i), x(i), magnitude(i));
    }
  }

  void keep_magnitude(const Xbyak::Xmm& to, const Xbyak::Xmm& x) {
    if (wide_) {
      vpandd(to, x, gelu_constant(GeluTable::kMagnitude));
    } else {
      vandps(to, x, gelu_constant(GeluTable::kMagnitude));
    }
  }

  // to = sign of x ? other : to
  void take_where_negative(const Xbyak::Xmm& to, const Xbyak::Xmm& other, const Xbyak::Xmm& x) {
    if (wide_) {
      const Xbyak::Opmask negative(7);
      vpmovd2m(negative, x);
      vblendmps(to | negative, to, other);
    } else {
      vblendvps(to, to, other, x);
    }
  }

  void store_phase() {
    load_masks();  // the K loop has used their registers
    add_bias();
    add_residual();
    apply_relu();
    apply_gelu();
    mov(pointer, PLANCK_FIELD(c));
    mov(pointer_stride, PLANCK_FIELD(c_stride));
    for (int i = 0; i < r_.rows; ++i) {
      for (int j = 0; j < columns_; ++j) store(pointer, j, sum(i, j));
      lea(pointer, ptr[pointer + pointer_stride * 4]);
    }
  }

  const Xbyak::Reg64 call = rdi, count = rax, a_stride = rdx, b_stride = rcx, next = r8,
                     next_step = r9, pointer = r10, pointer_stride = r11;
  const Xbyak::Reg64 a_bases[5] = {rsi, rbx, r12, r13, r14};
  const Xbyak::Reg64 b_bases[2] = {r15, rbp};
  const Xbyak::Reg64 saved[6] = {rbx, rbp, r12, r13, r14, r15};

  const GemmRecipe r_;
  const bool wide_;
  const int floats_;
  const int columns_;  // vectors of columns in the whole tile
};

#undef PLANCK_FIELD

ExecutableCode generate(const GemmRecipe& recipe) {
  // Ordinary memory: nothing here is executable before ExecutableCode has copied it.
  const auto buffer = std::make_unique<uint8_t[]>(kMaxCodeBytes);
  const GemmGenerator generator(recipe, {buffer.get(), kMaxCodeBytes});
  return ExecutableCode({buffer.get(), generator.getSize()});
}

}  // namespace

GemmFn gemm_kernel(const GemmRecipe& recipe) {
  static std::mutex mutex;
  // Never destroyed: worker threads may outlive static destructors.
  static auto& kernels = *new std::map<GemmRecipe, ExecutableCode>;
  const std::lock_guard lock(mutex);
  auto at = kernels.find(recipe);
  if (at == kernels.end()) at = kernels.emplace(recipe, generate(recipe)).first;
  return at->second.entry<GemmFn>();
}

}  // namespace planck::jit
