// The generator behind gemm.h. Register plan, with R rows and T vectors of columns in the tile:
//   vector registers: R * T sums first; then the B vectors of one k and scratch for A (B resident),
//     or, where the tile has fewer rows than vectors, the R values of A and scratch for B.
//   rdi: the call; rax: k left; rdx: row stride of A; a_bases: every third row of A, the two rows
//     behind it by [base + rdx] and [base + 2 * rdx]; b_bases: the same for the panels of B.
//     Scattered rows have a register each, and rdx is the way that all of them have come.
// Pairs are rows of the tile like any other, whose values are 64 bits; only bias, residual and C
// know of the two rows.
#include "kernels/jit/gemm.h"

#include <xbyak/xbyak.h>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/vector_units.h"
#include "kernels/jit/code.h"
#include "kernels/jit/gelu.h"

namespace planck::jit {
namespace {

constexpr int kUnroll = 4;
constexpr size_t kMaxCodeBytes = 64 << 10;
// B streams from L2 through L1: 16 lines ahead hide the latency of L2.
constexpr int kPrefetchAhead = 1024;
// B that is read once streams from memory, as several panels or as one.
constexpr int kPrefetchFarAhead = 2048, kPrefetchFarthestAhead = 4096;
// Kernels with an epilogue: those of a few hundred layers. A process that binds ever new programs
// and shapes goes on with the interpreted ones.
constexpr size_t kMaxEpilogueKernels = 4096;

#define PLANCK_FIELD(name) qword[call + offsetof(GemmCall, name)]

// One generator object makes one kernel.
class GemmGenerator : public Xbyak::CodeGenerator {
 public:
  GemmGenerator(const GemmRecipe& recipe, std::span<uint8_t> buffer)
      : CodeGenerator(buffer.size(), buffer.data()),
        r_(recipe),
        evex_(recipe.isa >= Isa::avx512),
        floats_(vector_floats(recipe)),
        columns_(summed(recipe)) {
    check();
    generate();
  }

 private:
  static int summed(const GemmRecipe& r) {
    const int floats = vector_floats(r);
    return r.exist > 0 ? (r.exist + floats - 1) / floats : r.vectors * r.panels;
  }
  bool b_resident() const { return r_.rows > columns_; }
  int registers() const { return evex_ ? 32 : 16; }

  void check() const {
    const int inputs = b_resident() ? columns_ + 1 : r_.rows + 1;
    const bool fits = r_.rows >= 1 && r_.rows <= 3 * static_cast<int>(std::size(a_bases)) &&
                      columns_ >= 1 && r_.panels <= 3 * static_cast<int>(std::size(b_bases)) &&
                      (!r_.scattered || scattered_fit()) &&
                      r_.rows * columns_ + inputs <= registers() && (!r_.masked || masks_fit()) &&
                      epilogue_fits();
    const bool exists = r_.exist == 0 || (r_.masked && r_.panels == 1 && !evex_ && r_.exist > 0 &&
                                          columns_ <= r_.vectors);
    if (!fits || !exists || (r_.streams && r_.masked) || (r_.strided && r_.panels > 1) ||
        r_.isa < Isa::avx2 || (r_.half && r_.isa < Isa::avx512) || (r_.pairs && !pairs_fit())) {
      throw InternalError("no GEMM kernel of ", r_.rows, " rows, ", r_.vectors, " vectors, ",
                          r_.panels, " panels for ", r_.isa);
    }
  }
  // The store phase keeps a mask for each column vector (k0 is no mask), and one temporary.
  bool masks_fit() const {
    return evex_ ? columns_ <= (ends_in_epilogue() ? 3 : 7) : spare() >= columns_ + 1;
  }
  // The last of their registers is also one for panels.
  bool scattered_fit() const {
    return r_.rows < kScatteredRows || (r_.rows == kScatteredRows && r_.panels <= 3);
  }
  bool pairs_fit() const {
    return evex_ && !r_.half && !r_.strided && !r_.scattered && !r_.streams && !stepping();
  }
  int spare() const { return registers() - r_.rows * columns_; }

  Xbyak::Xmm vector(int index) const {
    if (floats_ == 16) return Xbyak::Zmm(index);
    return Xbyak::Ymm(index);
  }
  Xbyak::Xmm sum(int row, int column) const { return vector(row * columns_ + column); }
  Xbyak::Xmm input(int index) const { return vector(r_.rows * columns_ + index); }
  int vector_bytes() const { return floats_ * 4; }
  int panel_bytes() const { return vector_bytes() * r_.vectors; }
  // Of C, for a vector and for the tile; of A, for a k.
  int column_bytes() const { return vector_columns(r_) * 4; }
  int row_bytes() const { return columns_ * column_bytes(); }
  int a_bytes() const { return r_.pairs ? 8 : 4; }

  void generate() {
    Xbyak::Label tile, done;
    push_saved();
    L(tile);
    prefetch_output();
    load_pointers();
    load_sums();
    k_loop();
    mov(PLANCK_FIELD(prefetch), next);
    store_phase();
    if (goes_on()) {
      sub(PLANCK_FIELD(tiles), 1);
      jle(done, T_NEAR);
      move_rows();
      jmp(tile, T_NEAR);
    }
    L(done);
    vzeroupper();
    pop_saved();
    ret();
    place_constants();
  }

  bool goes_on() const { return !r_.scattered && !r_.strided; }
  // To the rows of the next tile. In the call itself: it costs less than a call from outside, and
  // no register.
  void move_rows() {
    Xbyak::Label none;
    imul(pointer, PLANCK_FIELD(a_stride), 4 * r_.rows);
    add(PLANCK_FIELD(a), pointer);
    imul(pointer, PLANCK_FIELD(c_stride), 4 * r_.rows);
    add(PLANCK_FIELD(c), pointer);
    add(PLANCK_FIELD(row), r_.rows);
    cmp(PLANCK_FIELD(residual), 0);
    je(none);
    imul(pointer, PLANCK_FIELD(residual_stride), 4 * r_.rows);
    add(PLANCK_FIELD(residual), pointer);
    L(none);
  }

  void push_saved() {
    for (const Xbyak::Reg64& reg : saved) push(reg);
  }
  void pop_saved() {
    for (int i = static_cast<int>(std::size(saved)) - 1; i >= 0; --i) pop(saved[i]);
  }

  // What the store phase needs has the whole K loop to arrive. The residual and C of a large layer
  // come from L3, whose latency the 12 loads at the end of a tile could not hide. A row for every
  // four k: all at once would hold up the first loads of A and B. Where the loop is too short for
  // that, before it.
  bool spreads_prefetch() const {
    constexpr int kFew = 12;  // lines, which hold up nothing
    const int lines = r_.rows * (row_bytes() + 63) / 64;
    return !r_.lines && !r_.scattered && r_.panels <= 3 && lines > kFew;
  }
  int spread_k() const { return kUnroll * r_.rows; }

  void prefetch_output() {
    Xbyak::Label none, spread;
    if (spreads_prefetch()) {
      cmp(PLANCK_FIELD(k), spread_k());
      jge(spread, T_NEAR);
    }
    mov(pointer, PLANCK_FIELD(residual));
    test(pointer, pointer);
    jz(none, T_NEAR);
    mov(pointer_stride, PLANCK_FIELD(residual_stride));
    prefetch_rows([this](const Xbyak::Address& at) { prefetcht0(at); });
    L(none);
    if (!r_.streams) {
      mov(pointer, PLANCK_FIELD(c));
      mov(pointer_stride, PLANCK_FIELD(c_stride));
      prefetch_rows([this](const Xbyak::Address& at) { prefetchw(at); });
    }
    L(spread);
    prefetch_operands();
  }
  void prefetch_rows(const auto& prefetch) {
    if (r_.pairs) find_second();
    for (int i = 0; i < r_.rows; ++i) {
      for (int byte = 0; byte < row_bytes(); byte += 64) {
        prefetch(ptr[pointer + byte]);
        if (r_.pairs) prefetch(ptr[pointer + second + byte]);
      }
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

  void load_a() {
    if (r_.scattered) {
      if (r_.lines) return;  // each loads its places
      mov(places, PLANCK_FIELD(a_places));
      load_places();
      xor_(a_way, a_way);
      return;
    }
    mov(a_stride, PLANCK_FIELD(a_stride));
    shl(a_stride, 2);
    mov(a_bases[0], PLANCK_FIELD(a));
    load_bases(a_bases, r_.rows, a_stride);
  }

  void load_places() {
    for (int i = 0; i < r_.rows; ++i) mov(a_rows[i], ptr[places + 8 * i]);
  }

  void load_pointers() {
    load_a();
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

  Xbyak::RegExp a_place(int row, int step) const {
    if (r_.scattered) return a_rows[row] + a_way + 4 * step;
    return based(a_bases, a_stride, row) + a_bytes() * step;
  }
  Xbyak::Address a_address(int row, int step) const { return ptr[a_place(row, step)]; }
  Xbyak::Address b_address(int column, int step) const {
    const int in_panel = column % r_.vectors * vector_bytes();
    if (r_.strided) return ptr[b_bases[0] + in_panel];  // the base moves with every k
    return ptr[based(b_bases, b_stride, column / r_.vectors) + (in_panel + step * panel_bytes())];
  }

  void broadcast(const Xbyak::Xmm& to, const Xbyak::Address& from) {
    r_.pairs ? vbroadcastsd(Xbyak::Zmm(to.getIdx()), from) : vbroadcastss(to, from);
  }

  // Each value of A is for one vector of B: an operand of that sum, and needs no register.
  bool a_is_operand() const { return b_resident() && columns_ == 1 && evex_ && !r_.pairs; }

  void one_k(int step) {
    if (a_is_operand()) {
      const Xbyak::Xmm b = input(0);
      vmovups(b, b_address(0, step));
      for (int i = 0; i < r_.rows; ++i) vfmadd231ps(sum(i, 0), b, ptr_b[a_place(i, step)]);
    } else if (b_resident()) {
      for (int j = 0; j < columns_; ++j) vmovups(input(j), b_address(j, step));
      for (int i = 0; i < r_.rows; ++i) {
        // Two scratch registers where there are two: the broadcast need not wait for the last use.
        const Xbyak::Xmm a = input(columns_ + (spare() > columns_ + 1 ? i % 2 : 0));
        broadcast(a, a_address(i, step));
        for (int j = 0; j < columns_; ++j) vfmadd231ps(sum(i, j), a, input(j));
      }
    } else {
      for (int i = 0; i < r_.rows; ++i) broadcast(input(i), a_address(i, step));
      for (int j = 0; j < columns_; ++j) {
        const Xbyak::Xmm b = input(r_.rows + (spare() > r_.rows + 1 ? j % 2 : 0));
        vmovups(b, b_address(j, step));
        for (int i = 0; i < r_.rows; ++i) vfmadd231ps(sum(i, j), input(i), b);
      }
    }
    if (r_.strided) add(b_bases[0], b_stride);
  }

  void advance_a(const auto& bytes) {
    if (r_.scattered) {
      add(a_way, bytes);
      return;
    }
    for (int i = 0; 3 * i < r_.rows; ++i) add(a_bases[i], bytes);
  }

  void advance(int steps) {
    advance_a(a_bytes() * steps);
    if (r_.strided) return;
    for (int i = 0; 3 * i < r_.panels; ++i) add(b_bases[i], panel_bytes() * steps);
  }

  // One prefetch a line: of the B that this kernel reads next, and of what the caller reads later.
  void prefetch_b(int step) {
    if (r_.strided || (r_.once && streams_unasked())) return;
    const int far = r_.panels > 1 ? kPrefetchFarAhead : kPrefetchFarthestAhead;
    const int ahead = r_.once ? far : kPrefetchAhead;
    for (int p = 0; p < r_.panels; ++p) {
      for (int line = 0; line < panel_bytes(); line += 64) {
        prefetcht0(ptr[based(b_bases, b_stride, p) + (ahead + step * panel_bytes() + line)]);
      }
    }
  }

  void k_loop() {
    if (!r_.lines) {
      one_line();
      return;
    }
    Xbyak::Label line;
    mov(lines_left, PLANCK_FIELD(lines));
    if (r_.scattered) {
      mov(places, PLANCK_FIELD(a_places));
    } else {
      mov(a_jump, PLANCK_FIELD(a_line));
      sub(a_jump, PLANCK_FIELD(k));
      if (r_.pairs) sub(a_jump, PLANCK_FIELD(k));
      shl(a_jump, 2);
    }
    L(line);
    if (r_.scattered) {
      mov(a_way, PLANCK_FIELD(a_line));
      load_places();
      lea(places, ptr[places + a_way * 8]);  // early: the next line waits for nothing else
      xor_(a_way, a_way);
    }
    one_line();
    if (!r_.scattered) advance_a(a_jump);
    dec(lines_left);
    jnz(line, T_NEAR);
  }

  void four_k() {
    const int later = prefetches(r_);
    for (int step = 0; step < kUnroll; ++step) {
      one_k(step);
      prefetch_b(step);
      for (int i = step * later / kUnroll; i < (step + 1) * later / kUnroll; ++i) {
        prefetcht1(ptr[next]);
        add(next, next_step);
      }
    }
    advance(kUnroll);
    sub(count, kUnroll);
  }

  // The first k, with the prefetches of a row of the output for every four.
  void prefetching_loop(Xbyak::Label& rest) {
    Xbyak::Label loop;
    if (r_.streams) {  // C is not read: in its place what is here anyway
      mov(c_row, PLANCK_FIELD(a));
    } else {
      mov(c_row, PLANCK_FIELD(c));
    }
    mov(residual_row, PLANCK_FIELD(residual));
    test(residual_row, residual_row);
    cmovz(residual_row, c_row);
    align(32);
    L(loop);
    for (int byte = 0; byte < row_bytes(); byte += 64) {
      prefetcht0(ptr[residual_row + byte]);
      if (!r_.streams) prefetchw(ptr[c_row + byte]);
    }
    mov(stride, PLANCK_FIELD(residual_stride));
    lea(residual_row, ptr[residual_row + stride * 4]);
    if (!r_.streams) {
      mov(stride, PLANCK_FIELD(c_stride));
      lea(c_row, ptr[c_row + stride * 4]);
    }
    four_k();
    jl(rest, T_NEAR);
    lea(stride, ptr[count + (spread_k() + kUnroll)]);
    cmp(stride, PLANCK_FIELD(k));
    jg(loop, T_NEAR);
  }

  void one_line() {
    Xbyak::Label loop, rest, rest_loop, done;
    mov(count, PLANCK_FIELD(k));
    sub(count, kUnroll);
    jl(rest, T_NEAR);
    if (spreads_prefetch()) {
      cmp(PLANCK_FIELD(k), spread_k());
      jl(loop, T_NEAR);
      prefetching_loop(rest);
    }
    align(32);
    L(loop);
    four_k();
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
      if (r_.pairs) {
        const Xbyak::Ymm columns(temporary().getIdx());
        vmovups(columns, ptr[pointer + j * column_bytes()]);
        vptestmd(opmask(j), columns, columns);
      } else if (evex_) {
        vmovups(temporary(), ptr[pointer + j * vector_bytes()]);
        vptestmd(opmask(j), temporary(), temporary());
      } else {
        vmovups(mask(j), ptr[pointer + j * vector_bytes()]);
      }
    }
  }

  // --- pairs: eight columns of two rows, which alternate in a vector.

  void find_second() {
    mov(second, PLANCK_FIELD(apart));
    imul(second, pointer_stride);
    shl(second, 2);
  }
  // Floats as the lower halves of 64 bits.
  void load_apart(const Xbyak::Xmm& to, const Xbyak::Address& from, int column) {
    if (r_.masked) {
      vpmovzxdq(to | opmask(column) | T_z, from);
    } else {
      vpmovzxdq(to, from);
    }
  }
  void load_pair(const Xbyak::Xmm& to, const Xbyak::Reg64& row, int column) {
    const Xbyak::Xmm upper = input(1);
    load_apart(to, ptr[row + column * column_bytes()], column);
    load_apart(upper, ptr[row + second + column * column_bytes()], column);
    vpsllq(upper, upper, 32);
    vporq(to, to, upper);
  }
  // The register is not needed any more.
  void store_pair(const Xbyak::Reg64& row, int column, const Xbyak::Xmm& value) {
    const auto store_lower = [&](const Xbyak::Address& to) {
      r_.masked ? vpmovqd(to | opmask(column), value) : vpmovqd(to, value);
    };
    store_lower(ptr[row + column * column_bytes()]);
    vpsrlq(value, value, 32);
    store_lower(ptr[row + second + column * column_bytes()]);
  }

  // What belongs to columns is the same for both rows of a pair.
  void load(const Xbyak::Xmm& to, const Xbyak::Reg64& row, int column) {
    if (r_.pairs) {
      load_apart(to, ptr[row + column * column_bytes()], column);
      return vmovsldup(to, to);
    }
    const Xbyak::Address from = ptr[row + column * vector_bytes()];
    if (!r_.masked) {
      vmovups(to, from);
    } else if (evex_) {
      vmovups(to | opmask(column) | T_z, from);
    } else {
      vmaskmovps(to, mask(column), from);
    }
  }
  void store(const Xbyak::Reg64& row, int column, const Xbyak::Xmm& value) {
    if (r_.pairs) return store_pair(row, column, value);
    const Xbyak::Address to = ptr[row + column * vector_bytes()];
    if (r_.streams) {
      vmovntps(to, value);
    } else if (!r_.masked) {
      vmovups(to, value);
    } else if (evex_) {
      vmovups(to | opmask(column), value);
    } else if (r_.exist > 0) {
      store_first(row, column * vector_bytes(), value, r_.exist - column * floats_);
    } else {
      vmaskmovps(to, mask(column), value);
    }
  }
  // Masked stores of 256 bits are slow on some machines. The register is not needed any more.
  void store_first(const Xbyak::Reg64& row, int byte, const Xbyak::Xmm& value, int floats) {
    const Xbyak::Xmm low(value.getIdx());
    if (floats >= floats_) return vmovups(ptr[row + byte], value);
    if (floats >= 4) {
      vmovups(ptr[row + byte], low);
      vextractf128(low, Xbyak::Ymm(value.getIdx()), 1);
      byte += 16, floats -= 4;
    }
    if (floats >= 2) {
      vmovlps(ptr[row + byte], low);
      vmovhlps(low, low, low);
      byte += 8, floats -= 2;
    }
    if (floats == 1) vmovss(ptr[row + byte], low);
  }

  void zero_sums() {
    for (int i = 0; i < r_.rows * columns_; ++i) {
      if (evex_) {
        vpxord(vector(i), vector(i), vector(i));
      } else {
        vxorps(vector(i), vector(i), vector(i));
      }
    }
  }

  void load_sums() {
    Xbyak::Label fresh, loaded;
    if (r_.pairs) return zero_sums();
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
    if (r_.pairs) find_second();
    for (int i = 0; i < r_.rows; ++i) {
      for (int j = 0; j < columns_; ++j) {
        r_.pairs ? load_pair(temporary(), pointer, j) : load(temporary(), pointer, j);
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
    if (evex_) {
      vpxord(zero, zero, zero);
    } else {
      vxorps(zero, zero, zero);
    }
    // The second source is returned where one is NaN, so NaN stays NaN.
    for (int i = 0; i < r_.rows * columns_; ++i) vmaxps(vector(i), zero, vector(i));
    L(none);
  }

  void apply_gelu() {
    Xbyak::Label none;
    test(byte[call + offsetof(GemmCall, flags)], kGelu);
    jz(none, T_NEAR);
    emit_gelu(*this, {r_.rows * columns_, spare(), floats_, evex_}, pointer);
    load_masks();  // their registers are among the spare ones
    L(none);
  }

  void store_phase() {
    load_masks();  // the K loop has used their registers
    add_bias();
    add_residual();
    apply_relu();
    apply_gelu();
    Xbyak::Label plain, stored;
    if (ends_in_epilogue()) {
      test(byte[call + offsetof(GemmCall, flags)], kEpilogue);
      jz(plain, T_NEAR);
      store_by_epilogue();
      jmp(stored, T_NEAR);
    }
    L(plain);
    mov(pointer, PLANCK_FIELD(c));
    mov(pointer_stride, PLANCK_FIELD(c_stride));
    if (r_.pairs) find_second();
    for (int i = 0; i < r_.rows; ++i) {
      for (int j = 0; j < columns_; ++j) store(pointer, j, sum(i, j));
      lea(pointer, ptr[pointer + pointer_stride * 4]);
    }
    L(stored);
  }

  // --- the epilogue: it runs over a few sums side by side, which hides its latency, in what
  // registers the sums leave. A long one needs more: the sums are then put on the stack, and
  // constants stay in registers.

  bool ends_in_epilogue() const { return !r_.epilogue.code.empty(); }
  int mask_registers() const { return r_.masked && !evex_ ? columns_ : 0; }
  bool epilogue_fits() const { return r_.epilogue.registers < registers() - mask_registers(); }

  // Which registers the epilogue has.
  struct Room {
    bool beside_sums;
    int first, end;  // of what it may use
    int each;        // for each of the sums that it works on
    int together;    // sums
    int constants;   // that are kept
  };
  Room room() const {
    constexpr int kLong = 20, kMostTogether = 4;
    const int needs = r_.epilogue.registers, sums = r_.rows * columns_;
    const auto is_instr = [](const LaneInstr& i) { return i.op != LaneOp::constant; };
    const bool beside = std::ranges::count_if(r_.epilogue.code, is_instr) < kLong &&
                        needs <= spare() - mask_registers();
    Room room{
        beside, beside ? sums : 0, registers() - mask_registers(), beside ? needs : needs + 1, 0,
        0};
    const int most = std::min(kMostTogether, stepping() ? columns_ : sums);
    room.together = room.each == 0 ? most : std::min(most, (room.end - room.first) / room.each);
    room.constants = room.end - room.first - room.together * room.each;
    return room;
  }
  bool stepping() const {
    return std::ranges::any_of(r_.epilogue.code, [](const LaneInstr& instr) {
      return instr.op == LaneOp::load && steps(instr);
    });
  }

  void store_by_epilogue() {
    const Room room = this->room();
    const int sums = r_.rows * columns_;
    point_at_operands();
    if (!room.beside_sums) {
      sub(rsp, sums * vector_bytes());
      for (int i = 0; i < sums; ++i) vmovups(ptr[rsp + i * vector_bytes()], vector(i));
    }
    keep_constants(room);
    mov(pointer, PLANCK_FIELD(c));
    mov(pointer_stride, PLANCK_FIELD(c_stride));
    if (r_.pairs) find_second();
    for (int first = 0, count = 0; first < sums; first += count) {
      const int in_row = columns_ - first % columns_;
      count = std::min({room.together, sums - first, stepping() ? in_row : sums});
      finish(room, first, count);
      for (int i = first; i < first + count; ++i) {
        store(pointer, i % columns_, register_of(room, first, i - first, 0));
        if ((i + 1) % columns_ != 0 || i + 1 == sums) continue;
        lea(pointer, ptr[pointer + pointer_stride * 4]);
        step_operands();
      }
    }
    if (!room.beside_sums) add(rsp, sums * vector_bytes());
  }

  // Register `reg` of the epilogue for sum first + i.
  Xbyak::Xmm register_of(const Room& room, int first, int i, int reg) const {
    if (!room.beside_sums) return vector(room.first + i * room.each + reg);
    return reg == 0 ? vector(first + i) : vector(room.first + i * room.each + reg - 1);
  }

  void finish(const Room& room, int first, int count) {
    const std::vector<LaneInstr>& code = r_.epilogue.code;
    for (int i = 0; i < count && !room.beside_sums; ++i) {
      vmovups(register_of(room, first, i, 0), ptr[rsp + (first + i) * vector_bytes()]);
    }
    for (const LaneInstr& instr : code) {
      for (int i = 0; i < count; ++i) {
        at_ = i;
        const auto reg = [&](int16_t value) {
          return register_of(room, first, i, code[static_cast<size_t>(value)].reg);
        };
        const Xbyak::Xmm to = register_of(room, first, i, instr.reg);
        if (instr.op == LaneOp::load) {
          load_operand(instr, to, (first + i) % columns_);
        } else if (instr.op > LaneOp::constant) {
          emit(instr, to, reg);
        }
      }
    }
  }

  bool is_constant(int16_t value) const {
    return r_.epilogue.code[static_cast<size_t>(value)].op == LaneOp::constant;
  }
  // One for each sum at work; columns have the first ones.
  Xbyak::Opmask chosen() const { return Xbyak::Opmask(7 - at_); }
  int constant_index(int16_t value) const {
    int index = 0;
    for (int16_t i = 0; i < value; ++i) index += is_constant(i);
    return index;
  }
  // Constants lie behind the code, each repeated over a vector; the first ones in registers too.
  Xbyak::Address constant_in_memory(int index) {
    return ptr[rip + constants_ + index * vector_bytes()];
  }
  void keep_constants(const Room& room) {
    const auto all =
        static_cast<int>(std::ranges::count(r_.epilogue.code, LaneOp::constant, &LaneInstr::op));
    kept_ = std::min(room.constants, all);
    first_kept_ = room.first + room.together * room.each;
    for (int i = 0; i < kept_; ++i) vmovups(vector(first_kept_ + i), constant_in_memory(i));
  }
  void place_constants() {
    if (!ends_in_epilogue()) return;
    align(64);
    L(constants_);
    for (const LaneInstr& instr : r_.epilogue.code) {
      if (instr.op != LaneOp::constant) continue;
      for (int i = 0; i < floats_; ++i) dd(instr.bits);
    }
  }

  // Hands the value to `use` as a register or as memory.
  void with_any(int16_t value, const auto& reg, const auto& use) {
    if (!is_constant(value)) return use(reg(value));
    const int index = constant_index(value);
    if (index < kept_) return use(vector(first_kept_ + index));
    return use(constant_in_memory(index));
  }

  void emit(const LaneInstr& instr, const Xbyak::Xmm& to, const auto& reg) {
    const auto any = [&](int16_t value, const auto& use) { with_any(value, reg, use); };
    if (instr.op == LaneOp::copy) {
      return any(instr.a, [&](const auto& from) { vmovups(to, from); });
    }
    const Xbyak::Xmm a = reg(instr.a);
    switch (instr.op) {
      case LaneOp::sqrt:
        return vsqrtps(to, a);
      case LaneOp::exponent:
        return vpslld(to, a, 23);
      case LaneOp::halve:
        return vpsrad(to, a, 1);
      case LaneOp::fma:
      case LaneOp::fnma:
        return emit_fma(instr, to, a, reg(instr.b), any);
      case LaneOp::select_by_sign:
        if (evex_) vpmovd2m(chosen(), a);
        return any(instr.b, [&](const auto& yes) { select(to, a, yes, reg(instr.c)); });
      case LaneOp::select:
        return any(instr.b, [&](const auto& yes) { select(to, a, yes, reg(instr.c)); });
      default:
        return any(instr.b, [&](const auto& b) { emit_binary(instr.op, to, a, b); });
    }
  }

  // The mask is chosen() on wide vectors, a vector on others.
  void select(const Xbyak::Xmm& to, const Xbyak::Xmm& mask, const auto& yes, const Xbyak::Xmm& no) {
    if (evex_) {
      vblendmps(to | chosen(), no, yes);
    } else {
      vblendvps(to, no, yes, mask);
    }
  }

  // One of the factors or the sum is overwritten: the one that `to` is, or a copy of a.
  void emit_fma(const LaneInstr& instr, const Xbyak::Xmm& to, const Xbyak::Xmm& a,
                const Xbyak::Xmm& b, const auto& any) {
    const bool negative = instr.op == LaneOp::fnma;
    const bool c_is_to =
        !is_constant(instr.c) && r_.epilogue.code[static_cast<size_t>(instr.c)].reg == instr.reg;
    const bool is_a = to.getIdx() == a.getIdx(), is_b = to.getIdx() == b.getIdx();
    if (c_is_to && !is_a && !is_b) {
      return negative ? vfnmadd231ps(to, a, b) : vfmadd231ps(to, a, b);
    }
    if (!is_a && !is_b) vmovaps(to, a);
    const Xbyak::Xmm& factor = is_b ? a : b;
    any(instr.c, [&](const auto& c) {
      negative ? vfnmadd213ps(to, factor, c) : vfmadd213ps(to, factor, c);
    });
  }

  void emit_binary(LaneOp op, const Xbyak::Xmm& to, const Xbyak::Xmm& a, const Xbyak::Operand& b) {
    switch (op) {
      case LaneOp::add:
        return vaddps(to, a, b);
      case LaneOp::sub:
        return vsubps(to, a, b);
      case LaneOp::mul:
        return vmulps(to, a, b);
      case LaneOp::div:
        return vdivps(to, a, b);
      case LaneOp::min:
        return vminps(to, a, b);
      case LaneOp::max:
        return vmaxps(to, a, b);
      case LaneOp::bit_and:
        return evex_ ? vpandd(to, a, b) : vandps(to, a, b);
      case LaneOp::bit_or:
        return evex_ ? vpord(to, a, b) : vorps(to, a, b);
      case LaneOp::bit_xor:
        return evex_ ? vpxord(to, a, b) : vxorps(to, a, b);
      case LaneOp::int_add:
        return vpaddd(to, a, b);
      case LaneOp::int_sub:
        return vpsubd(to, a, b);
      case LaneOp::less:
        return compare(to, a, b, kLess);
      case LaneOp::less_equal:
        return compare(to, a, b, kLessEqual);
      case LaneOp::equal:
        return compare(to, a, b, kEqual);
      case LaneOp::unordered:
        return compare(to, a, b, kUnordered);
      default:
        throw InternalError("an epilogue has the unknown operation ", static_cast<int>(op));
    }
  }

  // Quiet ones, false for NaN (the last: true).
  static constexpr uint8_t kLess = 17, kLessEqual = 18, kEqual = 0, kUnordered = 3;
  void compare(const Xbyak::Xmm& to, const Xbyak::Xmm& a, const Xbyak::Operand& b, uint8_t how) {
    if (evex_) {
      vcmpps(chosen(), a, b, how);
    } else {
      vcmpps(to, a, b, how);
    }
  }

  // What operands are read by, each once; their pointers need every register that is free now.
  std::vector<const LaneInstr*> operand_loads() const {
    std::vector<const LaneInstr*> loads;
    for (const LaneInstr& instr : r_.epilogue.code) {
      const auto same = [&](const LaneInstr* l) { return l->operand == instr.operand; };
      if (instr.op == LaneOp::load && std::ranges::none_of(loads, same)) loads.push_back(&instr);
    }
    return loads;
  }
  static bool steps(const LaneInstr& instr) {
    return instr.kind == LaneOperand::full || instr.kind == LaneOperand::per_row;
  }
  static bool has_columns(const LaneInstr& instr) {
    return instr.kind == LaneOperand::full || instr.kind == LaneOperand::per_column;
  }
  static int field_of(const LaneInstr& instr, size_t field) {
    return static_cast<int>(instr.operand * sizeof(EltOperand) + field);
  }

  // The element of an operand that belongs to the first of the tile.
  void point_at(const LaneInstr& instr, const Xbyak::Reg64& to, const Xbyak::Reg64& scratch) {
    mov(scratch, PLANCK_FIELD(operands));
    mov(to, ptr[scratch + field_of(instr, offsetof(EltOperand, data))]);
    if (has_columns(instr)) {
      mov(scratch, PLANCK_FIELD(column));
      lea(to, ptr[to + scratch * 4]);
    }
    if (!steps(instr)) return;
    mov(scratch, PLANCK_FIELD(operands));
    mov(scratch, ptr[scratch + field_of(instr, offsetof(EltOperand, row_stride))]);
    imul(scratch, PLANCK_FIELD(row));
    lea(to, ptr[to + scratch * 4]);
  }

  void point_at_operands() {
    for (const LaneInstr* load : operand_loads()) {
      point_at(*load, operand_pointers[load->operand - 1], scratch_);
    }
    mov(operand_table, PLANCK_FIELD(operands));
  }
  void step_operands() {
    for (const LaneInstr* load : operand_loads()) {
      if (!steps(*load)) continue;
      const Xbyak::Reg64& at = operand_pointers[load->operand - 1];
      mov(scratch_, ptr[operand_table + field_of(*load, offsetof(EltOperand, row_stride))]);
      lea(at, ptr[at + scratch_ * 4]);
    }
  }

  void load_operand(const LaneInstr& instr, const Xbyak::Xmm& to, int column) {
    const Xbyak::Reg64& at = operand_pointers[instr.operand - 1];
    if (has_columns(instr)) {
      load(to, at, column);
    } else {
      vbroadcastss(to, ptr[at]);
    }
  }

  void prefetch_operands() {
    if (!ends_in_epilogue()) return;
    Xbyak::Label none;
    test(byte[call + offsetof(GemmCall, flags)], kEpilogue);
    jz(none, T_NEAR);
    for (const LaneInstr* load : operand_loads()) {
      if (load->kind != LaneOperand::full) continue;
      point_at(*load, pointer, pointer_stride);
      mov(pointer_stride, PLANCK_FIELD(operands));
      mov(pointer_stride, ptr[pointer_stride + field_of(*load, offsetof(EltOperand, row_stride))]);
      prefetch_rows([this](const Xbyak::Address& at) { prefetcht0(at); });
    }
    L(none);
  }

  const Xbyak::Reg64 call = rdi, count = rax, a_stride = rdx, b_stride = rcx, next = r8,
                     next_step = r9, pointer = r10, pointer_stride = r11;
  const Xbyak::Reg64 a_bases[5] = {rsi, rbx, r12, r13, r14};
  const Xbyak::Reg64 b_bases[2] = {r15, rbp};
  const Xbyak::Reg64 saved[6] = {rbx, rbp, r12, r13, r14, r15};
  const Xbyak::Reg64 a_rows[kScatteredRows] = {rsi, rbx, r12, r13, r14, rbp}, a_way = rdx;
  // In the K loop.
  const Xbyak::Reg64 lines_left = pointer, a_jump = pointer_stride, places = pointer_stride;
  const Xbyak::Reg64 residual_row = pointer, stride = pointer_stride, c_row = rbp;
  // In the store phase, where nothing else is needed any more.
  const Xbyak::Reg64 operand_pointers[kEltOperands - 1] = {rax, rdx, rcx, r8, r9, rsi, rbx};
  const Xbyak::Reg64 operand_table = rbp, scratch_ = r15;
  // From the first row of a pair to its second, in bytes; before and behind the K loop.
  const Xbyak::Reg64 second = r12;
  Xbyak::Label constants_;
  int kept_ = 0, first_kept_ = 0;  // constants in registers
  int at_ = 0;                     // among the sums that the epilogue works on

  const GemmRecipe r_;
  const bool evex_;  // 32 vectors, and masks of their own
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

// Half of the lines of B that it reads: a block of rows that does not fit one tile has two at
// least. Or as many as it reads of A, where B is narrow, the rows are many, and memory has to be
// asked.
int prefetches(const GemmRecipe& r) {
  const auto lines = [](int floats) { return (kUnroll * floats * 4 + 63) / 64; };
  const int of_b = lines(r.vectors * r.panels * vector_floats(r));
  const int of_a = streams_unasked() ? 0 : lines(r.rows);
  return r.once ? 0 : std::max({1, of_b / 2, of_a});
}

GemmFn gemm_kernel(const GemmRecipe& recipe) {
  static std::mutex mutex;
  // Never destroyed: worker threads may outlive static destructors.
  static auto& kernels = *new std::map<GemmRecipe, ExecutableCode>;
  static size_t with_epilogue = 0;
  const std::lock_guard lock(mutex);
  auto at = kernels.find(recipe);
  if (at == kernels.end()) {
    const bool counts = !recipe.epilogue.code.empty();
    if (counts && with_epilogue == kMaxEpilogueKernels) return nullptr;
    at = kernels.emplace(recipe, generate(recipe)).first;
    with_epilogue += counts;
  }
  return at->second.entry<GemmFn>();
}

}  // namespace planck::jit
