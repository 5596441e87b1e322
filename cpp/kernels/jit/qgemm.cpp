// The generator behind qgemm.h. Register plan, with R rows and T vectors of columns in the tile:
//   vector registers: R * T sums first; then what the K loop holds (see one_group); behind the
//     loop those are free for the epilogue.
//   rdi: the call; rax: groups left; rdx: row stride of A; a_bases: every third row of A, the two
//     rows behind it by [base + rdx] and [base + 2 * rdx]; b_bases: the same for the panels of B.
//     Fours have a base for each row, and rdx and rcx are the places of two groups.
#include "kernels/jit/qgemm.h"

#include <xbyak/xbyak.h>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <span>

#include "base/error.h"
#include "kernels/jit/code.h"
#include "kernels/jit/gelu.h"
#include "kernels/jit/gemm.h"

namespace planck::jit {
namespace {

constexpr int kUnroll = 4;
constexpr size_t kMaxCodeBytes = 64 << 10;
// B streams from L2 through L1: 16 lines ahead hide the latency of L2.
constexpr int kPrefetchAhead = 1024;

// A word for every lane: for pairs and fours the ones that add up neighbours, for quads the mask of
// even bytes.
struct Words {
  alignas(64) uint16_t lanes[16];
};
constexpr Words words_of(uint16_t word) {
  Words words{};
  for (uint16_t& lane : words.lanes) lane = word;
  return words;
}
constexpr Words kOnes = words_of(1), kEven = words_of(0xFF);

// Behind packing four vectors to bytes, where 16 bytes of each lane hold four of each vector: the
// places of the first vector's, then of the second's, ...
alignas(64) constexpr uint32_t kUnpacked[16] = {0, 4, 8,  12, 1, 5, 9,  13,
                                                2, 6, 10, 14, 3, 7, 11, 15};
// The same for two rows of two short vectors: the places of one row's, then of the other's.
alignas(32) constexpr uint32_t kUnpackedRows[8] = {0, 4, 1, 5, 2, 6, 3, 7};

// What the hard swish needs: x * min(1, max(0, x / 6 + 1 / 2)).
struct SwishTable {
  alignas(64) float sixth[kQLanes], half[kQLanes], one[kQLanes];
};
constexpr SwishTable make_swish_table() {
  SwishTable table{};
  for (int lane = 0; lane < kQLanes; ++lane) {
    table.sixth[lane] = 1.0F / 6;
    table.half[lane] = 0.5F;
    table.one[lane] = 1;
  }
  return table;
}
constexpr SwishTable kSwishTable = make_swish_table();

#define PLANCK_FIELD(name) qword[call + offsetof(QgemmCall, name)]

// One generator object makes one kernel.
class QgemmGenerator : public Xbyak::CodeGenerator {
 public:
  QgemmGenerator(const QgemmRecipe& recipe, std::span<uint8_t> buffer)
      : CodeGenerator(buffer.size(), buffer.data()),
        r_(recipe),
        evex_(recipe.isa >= Isa::avx512),
        wide_(evex_ && !recipe.half),
        vnni_(recipe.unit == QgemmUnit::vnni),
        // AVX-512 machines before AVX-VNNI know the 256-bit form in their own encoding alone.
        encoding_(!evex_ && this_device().avx_vnni ? Xbyak::VexEncoding : Xbyak::EvexEncoding),
        lanes_(wide_ ? 16 : 8),
        columns_(recipe.vectors * recipe.panels) {
    check();
    generate();
  }

 private:
  int registers() const { return evex_ ? 32 : 16; }
  int spare() const { return registers() - r_.rows * columns_; }
  bool b_resident() const { return r_.rows > columns_; }
  bool fours() const { return r_.unit == QgemmUnit::fours; }
  bool words() const { return r_.unit == QgemmUnit::words; }
  bool proven() const { return r_.unit == QgemmUnit::pairs || fours(); }
  int rows_of_base() const { return fours() ? 1 : 3; }
  // What one_group holds beside the sums.
  int inputs() const {
    if (r_.unit == QgemmUnit::sums) return 1;
    if (r_.unit == QgemmUnit::pairs) return 3;                 // ones, a value of A, a product
    if (words() && evex_) return 1;                            // B; A is an operand in memory
    if (fours()) return 2 + 3 * columns_;                      // and two groups of B, sums of each
    if (r_.unit == QgemmUnit::quads) return 4 + 2 * columns_;  // mask, product, two halves of each
    const int products = vnni_ ? 0 : 1;
    return std::min(r_.rows, columns_) + 1 + products;
  }

  void check() const {
    const int most = static_cast<int>(std::size(a_bases)) * rows_of_base();
    const bool fits = r_.rows >= 1 && r_.rows <= most && columns_ >= 1 &&
                      r_.panels <= 3 * static_cast<int>(std::size(b_bases)) &&
                      inputs() <= spare() && (!r_.masked || masks_fit());
    if (!fits || r_.isa < Isa::avx2 || !unit_fits()) {
      throw InternalError("no integer kernel of ", r_.rows, " rows, ", r_.vectors, " vectors, ",
                          r_.panels, " panels for ", r_.isa);
    }
  }
  bool unit_fits() const {
    if (r_.unit == QgemmUnit::tiles || (fours() && r_.panels > 1)) return false;
    if (r_.unit == QgemmUnit::words && (r_.masked || r_.bytes)) return false;
    if (words()) return wide_ == evex_ && (!evex_ || columns_ == 1);
    return r_.unit == QgemmUnit::vnni || r_.unit == QgemmUnit::sums || !wide_;
  }
  // The store phase keeps a mask for each column vector (k0 is no mask), and one temporary.
  bool masks_fit() const { return evex_ ? columns_ <= 6 : spare() >= columns_ + 1; }

  Xbyak::Xmm vector(int index) const {
    if (wide_) return Xbyak::Zmm(index);
    return Xbyak::Ymm(index);
  }
  Xbyak::Xmm sum(int row, int column) const { return vector(row * columns_ + column); }
  Xbyak::Xmm input(int index) const { return vector(r_.rows * columns_ + index); }
  int vector_bytes() const { return lanes_ * 4; }
  // Of B: a group of every column of a vector, or of a panel.
  int b_bytes() const { return lanes_ * group_of(r_.unit) * (words() ? 2 : 1); }
  int panel_bytes() const { return b_bytes() * r_.vectors; }

  void generate() {
    Xbyak::Label tile;
    push_saved();
    mov(next, PLANCK_FIELD(prefetch));
    mov(next_step, PLANCK_FIELD(prefetch_step));
    start_tiles();
    L(tile);
    if (!words()) prefetch_output();  // theirs stay near
    load_pointers();
    r_.unit == QgemmUnit::sums ? add_offset() : multiply();
    if (!words()) epilogue();
    r_.bytes ? store_bytes() : store_floats();
    next_tile(tile);
    vzeroupper();
    pop_saved();
    ret();
  }

  // --- tiles below each other: how many are left, and the bytes from the call's places to this
  // tile's, lie on the stack.

  enum Slot : uint8_t { kTiles, kA, kC, kOffset, kResidual, kByteResidual, kSlots };
  static constexpr int kSlotBytes = 8;
  bool loops() const { return loops_over_tiles(r_); }
  Xbyak::Address slot(Slot which) { return qword[rsp + which * kSlotBytes]; }

  void start_tiles() {
    if (!loops()) return;
    sub(rsp, kSlots * kSlotBytes);
    mov(count, PLANCK_FIELD(tiles));
    mov(slot(kTiles), count);
    xor_(count, count);
    for (const Slot which : {kA, kC, kOffset, kResidual, kByteResidual}) mov(slot(which), count);
  }
  void next_tile(const Xbyak::Label& tile) {
    if (!loops()) return;
    const auto move = [this](Slot which, const Xbyak::Address& stride) {
      imul(pointer, stride, r_.rows);
      add(slot(which), pointer);
    };
    move(kA, PLANCK_FIELD(a_stride));
    move(kC, PLANCK_FIELD(c_stride));
    if (proven()) move(kOffset, PLANCK_FIELD(offset_stride));
    if (!words()) {
      move(kResidual, PLANCK_FIELD(residual_stride));
      move(kByteResidual, PLANCK_FIELD(byte_residual_stride));
    }
    dec(slot(kTiles));
    jnz(tile, T_NEAR);
    add(rsp, kSlots * kSlotBytes);
  }
  void to_tile(const Xbyak::Reg64& place, Slot which) {
    if (loops()) add(place, slot(which));
  }

  void multiply() {
    start_sums();
    load_words();
    fours() ? k_loop() : lines_loop();
    k_tail();
  }

  void push_saved() {
    for (const Xbyak::Reg64& reg : saved) push(reg);
  }
  void pop_saved() {
    for (int i = static_cast<int>(std::size(saved)) - 1; i >= 0; --i) pop(saved[i]);
  }

  // What the store phase needs has the whole K loop to arrive.
  void prefetch_output() {
    Xbyak::Label none;
    mov(pointer, PLANCK_FIELD(residual));
    test(pointer, pointer);
    jz(none, T_NEAR);
    mov(pointer_stride, PLANCK_FIELD(residual_stride));
    to_tile(pointer, kResidual);
    prefetch_rows(columns_ * vector_bytes(), [this](const auto& at) { prefetcht0(at); });
    L(none);
    prefetch_byte_residual();
    mov(pointer, PLANCK_FIELD(c));
    mov(pointer_stride, PLANCK_FIELD(c_stride));
    to_tile(pointer, kC);
    prefetch_rows(columns_ * lanes_ * (r_.bytes ? 1 : 4),
                  [this](const auto& at) { prefetchw(at); });
  }
  void prefetch_byte_residual() {
    Xbyak::Label none;
    mov(pointer, PLANCK_FIELD(byte_residual));
    test(pointer, pointer);
    jz(none, T_NEAR);
    mov(pointer_stride, PLANCK_FIELD(byte_residual_stride));
    to_tile(pointer, kByteResidual);
    prefetch_rows(columns_ * lanes_, [this](const auto& at) { prefetcht0(at); });
    L(none);
  }
  void prefetch_rows(int bytes, const auto& prefetch) {
    for (int i = 0; i < r_.rows; ++i) {
      for (int byte = 0; byte < bytes; byte += 64) prefetch(ptr[pointer + byte]);
      add(pointer, pointer_stride);
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
    mov(a_bases[0], PLANCK_FIELD(a));
    to_tile(a_bases[0], kA);
    if (fours()) {
      for (int i = 1; i < r_.rows; ++i) lea(a_bases[i], ptr[a_bases[i - 1] + a_stride]);
    } else {
      load_bases(a_bases, r_.rows, a_stride);
    }
    mov(b_stride, PLANCK_FIELD(b_stride));
    mov(b_bases[0], PLANCK_FIELD(b));
    load_bases(b_bases, r_.panels, b_stride);
    if (fours()) mov(places, PLANCK_FIELD(places));
  }

  // Every row of sums starts at the columns' offsets, or at its own; those of words at 0.
  void start_sums() {
    if (words()) {
      each_sum([this](const Xbyak::Xmm& x) { zero(x); });
      return;
    }
    load_masks();
    mov(pointer, PLANCK_FIELD(offset));
    if (proven()) {
      mov(pointer_stride, PLANCK_FIELD(offset_stride));
      to_tile(pointer, kOffset);
      for (int i = 0; i < r_.rows; ++i) {
        for (int j = 0; j < columns_; ++j) load(sum(i, j), pointer, j);
        add(pointer, pointer_stride);
      }
      return;
    }
    for (int j = 0; j < columns_; ++j) load(sum(0, j), pointer, j);
    for (int i = 1; i < r_.rows; ++i) {
      for (int j = 0; j < columns_; ++j) vmovaps(sum(i, j), sum(0, j));
    }
  }

  // The sums are all there; columns that do not exist are any.
  void add_offset() {
    load_masks();
    mov(pointer, PLANCK_FIELD(offset));
    for (int j = 0; j < columns_; ++j) {
      load(temporary(), pointer, j);
      for (int i = 0; i < r_.rows; ++i) {
        const Xbyak::RegExp row = based(a_bases, a_stride, i);
        vpaddd(sum(i, j), temporary(), ptr[row + j * vector_bytes()]);
      }
    }
  }

  // --- the K loop

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
  // A group of A fills 32 bits: four bytes, or two of 16 bits.
  Xbyak::RegExp a_place(int row, int step) const {
    if (fours()) return a_bases[row] + place_of(step);
    return based(a_bases, a_stride, row) + 4 * step;
  }
  Xbyak::Address a_address(int row, int step) const { return ptr[a_place(row, step)]; }
  Xbyak::Address a_broadcast(int row, int step) const { return ptr_b[a_place(row, step)]; }
  Xbyak::Address b_address(int column, int step) const {
    const int in_panel = column % r_.vectors * b_bytes();
    return ptr[based(b_bases, b_stride, column / r_.vectors) + (in_panel + step * panel_bytes())];
  }

  // Of the first group of a step, and of the one behind.
  const Xbyak::Reg64& place_of(int step) const { return step % 2 == 0 ? a_stride : b_stride; }
  void load_place(int step) { mov(place_of(step).cvt32(), dword[places + 4 * step]); }

  void load_a(const Xbyak::Xmm& to, int row, int step) { vpbroadcastd(to, a_address(row, step)); }
  void load_b(const Xbyak::Xmm& to, int column, int step) {
    if (r_.unit == QgemmUnit::widen) {
      vpmovsxbw(to, b_address(column, step));
    } else {
      vmovups(to, b_address(column, step));
    }
  }
  void load_words() {
    if (!proven() && r_.unit != QgemmUnit::quads) return;
    const Words& words = proven() ? kOnes : kEven;
    mov(pointer, reinterpret_cast<size_t>(&words));
    vmovups(input(0), ptr[pointer]);
  }

  void accumulate(const Xbyak::Xmm& sum, const Xbyak::Xmm& a, const Xbyak::Xmm& b) {
    if (vnni_) {
      vpdpbusd(sum, a, b, encoding_);
    } else {
      const Xbyak::Xmm product = input(inputs() - 1);
      vpmaddwd(product, a, b);
      vpaddd(sum, sum, product);
    }
  }

  // One group of k; load(to, row) brings the row's part of A.
  void one_group(int step, const auto& load) {
    if (proven()) return one_group_in_pairs(step, load);
    if (r_.unit == QgemmUnit::quads) return one_group_in_quads(step, load);
    if (words() && evex_) return one_group_of_words(step);
    if (b_resident()) {
      for (int j = 0; j < columns_; ++j) load_b(input(j), j, step);
      for (int i = 0; i < r_.rows; ++i) {
        // Two scratch registers where there are two: the broadcast need not wait for the last use.
        const Xbyak::Xmm a = input(columns_ + (spare() > inputs() && vnni_ ? i % 2 : 0));
        load(a, i);
        for (int j = 0; j < columns_; ++j) accumulate(sum(i, j), a, input(j));
      }
    } else {
      for (int i = 0; i < r_.rows; ++i) load(input(i), i);
      for (int j = 0; j < columns_; ++j) {
        const Xbyak::Xmm b = input(r_.rows + (spare() > inputs() && vnni_ ? j % 2 : 0));
        load_b(b, j, step);
        for (int i = 0; i < r_.rows; ++i) accumulate(sum(i, j), input(i), b);
      }
    }
  }
  // Numbers of 16 bits have a sign, so that either operand may be the one in memory.
  void one_group_of_words(int step) {
    load_b(input(0), 0, step);
    for (int i = 0; i < r_.rows; ++i) vpdpwssd(sum(i, 0), input(0), a_broadcast(i, step));
  }
  // Sums of two products fit 16 bits (the packing has proved it), so that B can stay in memory.
  void one_group_in_pairs(int step, const auto& load) {
    const Xbyak::Xmm ones = input(0), a = input(1), product = input(2);
    for (int i = 0; i < r_.rows; ++i) {
      load(a, i);
      for (int j = 0; j < columns_; ++j) {
        vpmaddubsw(product, a, b_address(j, step));
        vpmaddwd(product, product, ones);
        vpaddd(sum(i, j), sum(i, j), product);
      }
    }
  }

  // Of two groups, four products fit 16 bits. Broadcasts of A are loads, which there is room for
  // beside so many multiplications; registers there are not.
  void two_groups_in_fours(int step) {
    const Xbyak::Xmm ones = input(0), a = input(1);
    const auto total = [&](int j) { return input(2 + j); };
    const auto b = [&](int group, int j) { return input(2 + columns_ + group * columns_ + j); };
    for (int group = 0; group < 2; ++group) {
      load_place(step + group);
      for (int j = 0; j < columns_; ++j) load_b(b(group, j), j, step + group);
    }
    for (int i = 0; i < r_.rows; ++i) {
      load_a(a, i, step);
      for (int j = 0; j < columns_; ++j) vpmaddubsw(total(j), a, b(0, j));
      for (int j = 0; j < columns_; ++j) {
        load_a(a, i, step + 1);
        vpmaddubsw(a, a, b(1, j));
        vpaddw(total(j), total(j), a);
        vpmaddwd(total(j), total(j), ones);
        vpaddd(sum(i, j), sum(i, j), total(j));
      }
    }
  }

  // The even bytes of A and B as 16 bits, times each other, then the odd ones.
  void one_group_in_quads(int step, const auto& load) {
    const Xbyak::Xmm mask = input(0), product = input(1), a_even = input(2), a_odd = input(3);
    const auto b_even = [&](int j) { return input(4 + 2 * j); };
    const auto b_odd = [&](int j) { return input(5 + 2 * j); };
    for (int j = 0; j < columns_; ++j) {
      load_b(b_odd(j), j, step);
      vpsllw(b_even(j), b_odd(j), 8);
      vpsraw(b_even(j), b_even(j), 8);
      vpsraw(b_odd(j), b_odd(j), 8);
    }
    for (int i = 0; i < r_.rows; ++i) {
      load(a_odd, i);
      vpand(a_even, a_odd, mask);
      vpsrlw(a_odd, a_odd, 8);
      for (int j = 0; j < columns_; ++j) {
        vpmaddwd(product, a_even, b_even(j));
        vpaddd(sum(i, j), sum(i, j), product);
        vpmaddwd(product, a_odd, b_odd(j));
        vpaddd(sum(i, j), sum(i, j), product);
      }
    }
  }

  void advance(int steps) {
    if (fours()) {
      add(places, 4 * steps);
    } else {
      for (int i = 0; 3 * i < r_.rows; ++i) add(a_bases[i], 4 * steps);
    }
    for (int i = 0; 3 * i < r_.panels; ++i) add(b_bases[i], panel_bytes() * steps);
  }

  // One prefetch a line: of the B that this kernel reads next. Fours leave no room for more loads.
  void prefetch_b() {
    if (fours()) return;
    const int bytes = panel_bytes() * kUnroll;
    for (int p = 0; p < r_.panels; ++p) {
      for (int line = 0; line < bytes; line += 64) {
        prefetcht0(ptr[based(b_bases, b_stride, p) + (kPrefetchAhead + line)]);
      }
    }
  }

  void k_loop() {
    Xbyak::Label loop, rest, rest_loop, done;
    const auto load = [this](int step) {
      return [this, step](const Xbyak::Xmm& to, int row) { load_a(to, row, step); };
    };
    mov(count,
        qword[call + (fours() ? offsetof(QgemmCall, place_count) : offsetof(QgemmCall, groups))]);
    sub(count, kUnroll);
    jl(rest, T_NEAR);
    align(32);
    L(loop);
    if (fours()) {
      for (int step = 0; step < kUnroll; step += 2) two_groups_in_fours(step);
    } else {
      for (int step = 0; step < kUnroll; ++step) one_group(step, load(step));
    }
    prefetch_b();
    for (int i = 0; i < prefetches_of(r_.unit); ++i) {
      prefetcht1(ptr[next]);
      add(next, next_step);
    }
    advance(kUnroll);
    sub(count, kUnroll);
    jge(loop, T_NEAR);
    L(rest);
    add(count, kUnroll);
    jz(done, T_NEAR);
    L(rest_loop);
    if (fours()) load_place(0);
    one_group(0, load(0));
    advance(1);
    dec(count);
    jnz(rest_loop, T_NEAR);
    L(done);
  }

  // B goes on from line to line; A jumps.
  void lines_loop() {
    Xbyak::Label loop;
    mov(pointer, PLANCK_FIELD(lines));
    align(16);
    L(loop);
    k_loop();
    for (int i = 0; 3 * i < r_.rows; ++i) add(a_bases[i], PLANCK_FIELD(line_step));
    dec(pointer);
    jnz(loop, T_NEAR);
  }

  // The last one to three elements: the four that end with them, shifted down.
  void k_tail() {
    if (r_.unit == QgemmUnit::widen || words()) return;  // their A has been padded
    Xbyak::Label none;
    mov(pointer, PLANCK_FIELD(tail));
    test(pointer, pointer);
    jz(none, T_NEAR);
    sub(pointer, 4);
    mov(pointer_stride, pointer);
    if (fours()) {
      mov(a_stride, PLANCK_FIELD(place_count));
      lea(a_stride, ptr[pointer_stride + a_stride * 4]);
    } else {
      // The lines' loop has stepped once too often.
      sub(pointer_stride, PLANCK_FIELD(line_step));
      for (int i = 0; 3 * i < r_.rows; ++i) add(a_bases[i], pointer_stride);
    }
    neg(pointer);
    shl(pointer, 3);
    one_group(0, [this](const Xbyak::Xmm& to, int row) {
      const Xbyak::RegExp at = fours() ? a_bases[row] + place_of(0) : based(a_bases, a_stride, row);
      shrx(count.cvt32(), dword[at], pointer.cvt32());
      if (evex_) {
        vpbroadcastd(to, count.cvt32());
      } else {
        vmovd(Xbyak::Xmm(to.getIdx()), count.cvt32());
        vpbroadcastd(to, Xbyak::Xmm(to.getIdx()));
      }
    });
    L(none);
  }

  // --- the epilogue: rows are walked by one pointer; the registers behind the sums are free.

  Xbyak::Xmm mask(int column) const { return vector(registers() - 1 - column); }
  Xbyak::Opmask opmask(int column) const { return Xbyak::Opmask(1 + column); }
  Xbyak::Xmm temporary() const { return input(0); }

  void load_masks() {
    if (!r_.masked) return;
    mov(pointer, PLANCK_FIELD(mask));
    for (int j = 0; j < columns_; ++j) {
      if (evex_) {
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
    } else if (evex_) {
      vmovups(to | opmask(column) | T_z, from);
    } else {
      vmaskmovps(to, mask(column), from);
    }
  }

  void epilogue() {
    load_masks();  // the K loop has used their registers
    scale();
    add_bias();
    add_residual();
    add_byte_residual();
    apply_affine(kQBefore, 0);
    apply_relu();
    apply_gelu();
    apply_hard_swish();
    apply_affine(kQAfter, 1);
  }

  void scale() {
    mov(pointer, PLANCK_FIELD(multiplier));
    for (int j = 0; j < columns_; ++j) {
      load(temporary(), pointer, j);
      for (int i = 0; i < r_.rows; ++i) {
        vcvtdq2ps(sum(i, j), sum(i, j));
        vmulps(sum(i, j), sum(i, j), temporary());
      }
    }
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
    to_tile(pointer, kResidual);
    for (int i = 0; i < r_.rows; ++i) {
      for (int j = 0; j < columns_; ++j) {
        load(temporary(), pointer, j);
        vaddps(sum(i, j), sum(i, j), temporary());
      }
      add(pointer, pointer_stride);
    }
    L(none);
  }

  // Emits code that runs where the call has the flag.
  void where(QgemmFlag flag, const auto& emit) {
    Xbyak::Label none;
    test(dword[call + offsetof(QgemmCall, flags)], static_cast<uint32_t>(flag));
    jz(none, T_NEAR);
    emit();
    L(none);
  }

  void add_byte_residual() {
    Xbyak::Label none;
    mov(pointer, PLANCK_FIELD(byte_residual));
    test(pointer, pointer);
    jz(none, T_NEAR);
    mov(pointer_stride, PLANCK_FIELD(byte_residual_stride));
    to_tile(pointer, kByteResidual);
    mov(bytes, PLANCK_FIELD(bytes));
    where(kQCentre, [this, &none] {
      add_bytes(true);
      jmp(none, T_NEAR);
    });
    add_bytes(false);
    L(none);
  }
  void add_bytes(bool centre) {
    const Xbyak::Xmm x = temporary();
    for (int i = 0; i < r_.rows; ++i) {
      for (int j = 0; j < columns_; ++j) {
        const bool some = r_.masked && evex_;
        vpmovzxbd(some ? x | opmask(j) | T_z : x, ptr[pointer + j * lanes_]);
        vcvtdq2ps(x, x);
        if (centre) vsubps(x, x, ptr[bytes + offsetof(QgemmBytes, zero)]);
        vmulps(x, x, ptr[bytes + offsetof(QgemmBytes, scale)]);
        vaddps(sum(i, j), sum(i, j), x);
      }
      add(pointer, pointer_stride);
    }
  }

  void zero(const Xbyak::Xmm& to) {
    if (evex_) {
      vpxord(to, to, to);
    } else {
      vxorps(to, to, to);
    }
  }

  void apply_relu() {
    where(kQRelu, [this] {
      zero(temporary());
      // The second source is returned where one is NaN, so NaN stays NaN.
      each_sum([this](const Xbyak::Xmm& x) { vmaxps(x, temporary(), x); });
    });
  }

  void apply_gelu() {
    where(kQGelu, [this] {
      emit_gelu(*this, {r_.rows * columns_, spare(), lanes_, evex_}, pointer);
      load_masks();  // their registers are among the spare ones
    });
  }

  void apply_affine(QgemmFlag flag, int which) {
    where(flag, [this, which] {
      mov(pointer, PLANCK_FIELD(affine));
      add(pointer, which * static_cast<int>(sizeof(QgemmAffine)));
      each_sum([this](const Xbyak::Xmm& x) {
        vmulps(x, x, ptr[pointer + offsetof(QgemmAffine, scale)]);
        vaddps(x, x, ptr[pointer + offsetof(QgemmAffine, shift)]);
      });
    });
  }

  // As in simd/math.h: where one source is NaN the second is taken.
  void apply_hard_swish() {
    where(kQHardSwish, [this] {
      const Xbyak::Xmm nought = input(0), one = input(1), ramp = input(2);
      mov(pointer, reinterpret_cast<size_t>(&kSwishTable));
      zero(nought);
      vmovups(one, ptr[pointer + offsetof(SwishTable, one)]);
      each_sum([&](const Xbyak::Xmm& x) {
        vmovups(ramp, ptr[pointer + offsetof(SwishTable, sixth)]);
        vfmadd213ps(ramp, x, ptr[pointer + offsetof(SwishTable, half)]);
        vmaxps(ramp, nought, ramp);
        vminps(ramp, one, ramp);
        vmulps(x, x, ramp);
      });
      load_masks();  // their registers are among the spare ones
    });
  }

  void each_sum(const auto& emit) {
    for (int i = 0; i < r_.rows * columns_; ++i) emit(vector(i));
  }

  void store_floats() {
    mov(pointer, PLANCK_FIELD(c));
    mov(pointer_stride, PLANCK_FIELD(c_stride));
    to_tile(pointer, kC);
    for (int i = 0; i < r_.rows; ++i) {
      for (int j = 0; j < columns_; ++j) store(ptr[pointer + j * vector_bytes()], j, sum(i, j));
      add(pointer, pointer_stride);
    }
  }
  void store(const Xbyak::Address& to, int column, const Xbyak::Xmm& value) {
    if (!r_.masked) {
      vmovups(to, value);
    } else if (evex_) {
      vmovups(to | opmask(column), value);
    } else {
      vmaskmovps(to, mask(column), value);
    }
  }

  void store_bytes() {
    to_integers();
    const bool packed = wide_ && !r_.masked, rows = !evex_ && columns_ == 2;
    if (packed) mov(bytes, reinterpret_cast<size_t>(kUnpacked));
    if (rows) mov(bytes, reinterpret_cast<size_t>(kUnpackedRows));
    mov(pointer, PLANCK_FIELD(c));
    mov(pointer_stride, PLANCK_FIELD(c_stride));
    to_tile(pointer, kC);
    if (packed) return store_packed();
    if (rows) return store_rows();
    if (evex_) zero(temporary());
    for (int i = 0; i < r_.rows; ++i) {
      for (int j = 0; j < columns_; ++j) store_low_bytes(j, sum(i, j));
      add(pointer, pointer_stride);
    }
  }

  // To what saturates to the byte. Where one is NaN the second source is returned: the lower bound,
  // or NaN again, of which a number far below 0 is made, as of what leaves int32 from below.
  void to_integers() {
    mov(pointer, PLANCK_FIELD(range));
    Xbyak::Label bounded;
    where(kQInverse, [this, &bounded] {
      multiply_by_inverse();
      jmp(bounded, T_NEAR);
    });
    where(kQDivide, [this] {
      broadcast(offsetof(QgemmRange, divisor));
      each_sum([this](const Xbyak::Xmm& x) { vdivps(x, x, temporary()); });
    });
    where(kQLow, [this] {
      broadcast(offsetof(QgemmRange, low));
      each_sum([this](const Xbyak::Xmm& x) { vmaxps(x, x, temporary()); });
    });
    broadcast(offsetof(QgemmRange, high));
    each_sum([this](const Xbyak::Xmm& x) { vminps(x, temporary(), x); });
    L(bounded);
    each_sum([this](const Xbyak::Xmm& x) { vcvtps2dq(x, x); });
    where(kQZero, [this] {
      vpbroadcastd(temporary(), ptr[pointer + offsetof(QgemmRange, zero)]);
      each_sum([this](const Xbyak::Xmm& x) { vpaddd(x, x, temporary()); });
    });
  }
  void broadcast(size_t field) { vbroadcastss(temporary(), ptr[pointer + field]); }
  void multiply_by_inverse() {
    broadcast(offsetof(QgemmRange, most));
    each_sum([this](const Xbyak::Xmm& x) { vminps(x, temporary(), x); });
    each_sum([this](const Xbyak::Xmm& x) {
      vmulps(temporary(), x, ptr[pointer + offsetof(QgemmRange, rest)]);
      vfmadd132ps(x, temporary(), ptr[pointer + offsetof(QgemmRange, inverse)]);
    });
  }

  void store_low_bytes(int column, const Xbyak::Xmm& value) {
    const Xbyak::Address to = ptr[pointer + column * lanes_];
    if (evex_) {
      vpmaxsd(value, value, temporary());
      vpmovusdb(r_.masked ? to | opmask(column) : to, value);
      return;
    }
    const Xbyak::Xmm low(value.getIdx()), high(temporary().getIdx());
    vextracti128(high, Xbyak::Ymm(value.getIdx()), 1);
    vpackusdw(low, low, high);
    vpackuswb(low, low, low);
    vmovq(to, low);
  }

  // 16 bytes of each row, two rows at a time; the last one alone is filled up with itself.
  void store_rows() {
    const Xbyak::Ymm places(temporary().getIdx());
    vmovups(places, ptr[bytes]);
    for (int i = 0; i < r_.rows; i += 2) {
      const Xbyak::Ymm first(sum(i, 0).getIdx());
      const Xbyak::Ymm second(sum(std::min(i + 1, r_.rows - 1), 0).getIdx());
      vpackusdw(first, first, sum(i, 1));
      if (i + 1 < r_.rows) vpackusdw(second, second, sum(i + 1, 1));
      vpackuswb(first, first, second);
      vpermd(first, places, first);
      vmovups(ptr[pointer], Xbyak::Xmm(first.getIdx()));
      if (i + 1 < r_.rows) vextracti128(ptr[pointer + pointer_stride], first, 1);
      lea(pointer, ptr[pointer + pointer_stride * 2]);
    }
  }

  // Four vectors at a time, row after row; the last ones are filled up with the last.
  void store_packed() {
    const int sums = r_.rows * columns_;
    const Xbyak::Zmm places(temporary().getIdx());
    vmovups(places, ptr[bytes]);
    for (int at = 0; at < sums; at += kPacked) {
      const auto source = [&](int i) { return Xbyak::Zmm(std::min(at + i, sums - 1)); };
      const Xbyak::Zmm first = source(0), third(input(1).getIdx());
      vpackusdw(third, source(2), source(3));
      vpackusdw(first, first, source(1));
      vpackuswb(first, first, third);
      vpermd(first, places, first);
      store_lanes(first, at, std::min(kPacked, sums - at));
    }
  }
  // 16 bytes of each of `count` vectors from `at` on, those beside each other in one go.
  void store_lanes(const Xbyak::Zmm& packed, int at, int count) {
    for (int lane = 0; lane < count;) {
      const int column = (at + lane) % columns_;
      const int run = std::min({columns_ - column, count - lane, lane == 0 ? kPacked : 2});
      const Xbyak::Address to = ptr[pointer + column * lanes_];
      const int stored = store_run(to, packed, lane, run);
      lane += stored;
      if (column + stored == columns_) add(pointer, pointer_stride);
    }
  }
  int store_run(const Xbyak::Address& to, const Xbyak::Zmm& packed, int lane, int run) {
    if (run == kPacked) {
      vmovups(to, packed);
      return kPacked;
    }
    if (run >= 2 && lane % 2 == 0) {
      lane == 0 ? vmovups(to, Xbyak::Ymm(packed.getIdx())) : vextracti64x4(to, packed, 1);
      return 2;
    }
    lane == 0 ? vmovups(to, Xbyak::Xmm(packed.getIdx()))
              : vextracti32x4(to, packed, static_cast<uint8_t>(lane));
    return 1;
  }
  static constexpr int kPacked = 4;

  const Xbyak::Reg64 call = rdi, count = rax, a_stride = rdx, b_stride = rcx, next = r8,
                     next_step = r9, pointer = r10, pointer_stride = r11, bytes = count;
  const Xbyak::Reg64 a_bases[5] = {rsi, rbx, r12, r13, r14};
  const Xbyak::Reg64 b_bases[2] = {r15, rbp};
  const Xbyak::Reg64& places = b_bases[1];  // of fours, which have one panel
  const Xbyak::Reg64 saved[6] = {rbx, rbp, r12, r13, r14, r15};

  const QgemmRecipe r_;
  const bool evex_;  // AVX-512's encodings, masks and count of registers
  const bool wide_;  // and its vectors
  const bool vnni_;
  const Xbyak::PreferredEncoding encoding_;
  const int lanes_;
  const int columns_;  // vectors of columns in the whole tile
};

#undef PLANCK_FIELD

ExecutableCode generate(const QgemmRecipe& recipe) {
  // Ordinary memory: nothing here is executable before ExecutableCode has copied it.
  const auto buffer = std::make_unique<uint8_t[]>(kMaxCodeBytes);
  const QgemmGenerator generator(recipe, {buffer.get(), kMaxCodeBytes});
  return ExecutableCode({buffer.get(), generator.getSize()});
}

}  // namespace

QgemmFn qgemm_kernel(const QgemmRecipe& recipe) {
  static std::mutex mutex;
  // Never destroyed: worker threads may outlive static destructors.
  static auto& kernels = *new std::map<QgemmRecipe, ExecutableCode>;
  const std::lock_guard lock(mutex);
  auto at = kernels.find(recipe);
  if (at == kernels.end()) at = kernels.emplace(recipe, generate(recipe)).first;
  return at->second.entry<QgemmFn>();
}

}  // namespace planck::jit
