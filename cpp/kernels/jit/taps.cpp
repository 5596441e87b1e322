// The generator behind taps.h. Register plan, with n outputs: n sums, then the weights of so many
// taps of a row as there is room for, then two places by turns. A row with more taps goes in runs.
#include "kernels/jit/taps.h"

#include <xbyak/xbyak.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <span>

#include "base/error.h"
#include "kernels/jit/code.h"

namespace planck::jit {
namespace {

constexpr size_t kMaxCodeBytes = 64 << 10;
// Those of a few hundred layers.
constexpr size_t kMaxKernels = 4096;
constexpr int kPlaces = 2;  // registers that places are loaded to

#define PLANCK_FIELD(name) qword[call + offsetof(TapsCall, name)]

class TapsGenerator : public Xbyak::CodeGenerator {
 public:
  TapsGenerator(const TapsRecipe& recipe, std::span<uint8_t> buffer)
      : CodeGenerator(buffer.size(), buffer.data()),
        r_(recipe),
        evex_(recipe.isa >= Isa::avx512),
        floats_(taps_floats(recipe.isa)),
        run_(run_of(recipe.taps, registers() - recipe.outputs - kPlaces)) {
    if (r_.isa < Isa::avx2 || r_.outputs < 1 || r_.outputs > taps_outputs(r_.isa) || r_.lanes < 1 ||
        r_.lanes > floats_ || r_.taps < 1 || r_.taps > kMostTaps) {
      throw InternalError("no kernel of ", r_.outputs, " outputs, ", r_.taps, " taps, ", r_.lanes,
                          " lanes for ", r_.isa);
    }
    generate();
  }

 private:
  // Even runs of at most `most` taps.
  static int run_of(int taps, int most) {
    const int runs = (taps + most - 1) / most;
    return (taps + runs - 1) / runs;
  }

  int registers() const { return evex_ ? 32 : 16; }
  bool masked() const { return r_.lanes < floats_; }
  Xbyak::Xmm vector(int index) const {
    if (evex_) return Xbyak::Zmm(index);
    return Xbyak::Ymm(index);
  }
  Xbyak::Xmm sum(int output) const { return vector(output); }
  Xbyak::Xmm weight(int tap) const { return vector(r_.outputs + tap); }
  Xbyak::Xmm place_register(int place) const { return vector(registers() - 1 - place % kPlaces); }
  // Free once all taps are done.
  Xbyak::Xmm spare(int index) const { return vector(r_.outputs + index); }
  // AVX2: what a mask is lies in memory, where it is read before every use.
  Xbyak::Opmask lanes_mask() const { return k1; }

  void generate() {
    Xbyak::Label group;
    begin();
    align(32);
    L(group);
    zero_sums();
    add_rows();
    finish();
    add(group_x, imm(r_.place_step * r_.stride * r_.outputs));
    dec(groups);
    jnz(group, T_NEAR);
    vzeroupper();
    for (int i = kSaved - 1; i >= 0; --i) pop(saved[i]);
    ret();
    place_constants();
  }

  static uint32_t imm(int64_t bytes) { return static_cast<uint32_t>(bytes); }

  void begin() {
    for (const Xbyak::Reg64& reg : saved) push(reg);
    if (masked() && evex_) {
      mov(row_x.cvt32(), (1U << r_.lanes) - 1);
      kmovw(lanes_mask(), row_x.cvt32());
    }
    mov(group_x, PLANCK_FIELD(x));
    mov(weights, PLANCK_FIELD(w));
    mov(out, PLANCK_FIELD(out));
    mov(row_step, PLANCK_FIELD(row_step));
    mov(rows, PLANCK_FIELD(rows));
    if (r_.bias) mov(bias, PLANCK_FIELD(bias));
    if (r_.residual) mov(residual, PLANCK_FIELD(residual));
    if (r_.prefetches > 0) mov(ahead, PLANCK_FIELD(ahead));
    mov(groups, PLANCK_FIELD(groups));  // in place of the call
  }

  void zero(const Xbyak::Xmm& v) { evex_ ? vpxord(v, v, v) : vxorps(v, v, v); }
  void zero_sums() {
    for (int i = 0; i < r_.outputs; ++i) zero(sum(i));
  }

  void add_rows() {
    Xbyak::Label row, none;
    mov(row_x, group_x);
    mov(row_w, weights);
    mov(left, rows);
    test(left, left);
    jz(none, T_NEAR);
    if (r_.prefetches > 0) lea(next, ptr[group_x + ahead]);
    align(32);
    L(row);
    for (int first = 0; first < r_.taps; first += run_) {
      add_run(first, std::min(run_, r_.taps - first));
    }
    if (r_.prefetches > 0) prefetch_some();
    add(row_x, row_step);
    add(row_w, imm(r_.tap_step * r_.taps));
    dec(left);
    jnz(row, T_NEAR);
    L(none);
  }

  void prefetch_some() {
    for (int i = 0; i < r_.prefetches; ++i) prefetcht1(ptr[next + imm(r_.place_step * i)]);
    add(next, imm(r_.place_step * r_.prefetches));
  }

  // Taps [first, first + count) of a row. Place by place, an output would have one product in
  // every `count`, sooner than its sum is ready; so its neighbours are taken in turns with others
  // that lie further on.
  void add_run(int first, int count) {
    for (int t = 0; t < count; ++t) {
      load(weight(t), ptr[row_w + imm(r_.tap_step * (first + t))]);
    }
    constexpr int kApart = 8;  // products between two of a sum: two a cycle, of four cycles each
    const int parts = std::min((kApart + count - 1) / count, r_.outputs);
    const auto begin = [&](int part) { return part * r_.outputs / parts; };
    const int most = (r_.outputs + parts - 1) / parts;
    for (int step = 0; step < (most - 1) * r_.stride + count; ++step) {
      for (int part = 0; part < parts; ++part) {
        add_place(begin(part), begin(part + 1), first, count, step);
      }
    }
  }

  // The products of place `step` of outputs [begin, end), counted from the first one's tap `first`.
  void add_place(int begin, int end, int first, int count, int step) {
    const int place = first + begin * r_.stride + step;
    if (place < r_.from || place >= r_.to) return;
    const Xbyak::Xmm x = place_register(places_++);
    bool loaded = false;
    for (int i = begin; i < end; ++i) {
      const int t = step - (i - begin) * r_.stride;
      if (t < 0 || t >= count) continue;
      if (!loaded) load(x, ptr[row_x + imm(r_.place_step * place)]);
      loaded = true;
      vfmadd231ps(sum(i), x, weight(t));
    }
  }

  // --- the end of a group

  void finish() {
    if (r_.bias) {
      load(spare(0), ptr[bias]);
      for (int i = 0; i < r_.outputs; ++i) vaddps(sum(i), sum(i), spare(0));
    }
    if (r_.residual) add_residual();
    apply(r_.before, before_);
    apply_function();
    apply(r_.after, after_);
    for (int i = 0; i < r_.outputs; ++i) store(r_.out_step * i, sum(i));
    add(out, imm(r_.out_step * r_.outputs));
  }

  void add_residual() {
    for (int i = 0; i < r_.outputs; ++i) {
      load(spare(0), ptr[residual + imm(r_.residual_step * i)]);
      vaddps(sum(i), sum(i), spare(0));
    }
    add(residual, imm(r_.residual_step * r_.outputs));
  }

  void apply(const TapsAffine& affine, const Xbyak::Label& numbers) {
    if (!affine.used) return;
    vbroadcastss(spare(0), ptr[rip + numbers]);
    vbroadcastss(spare(1), ptr[rip + numbers + 4]);
    for (int i = 0; i < r_.outputs; ++i) vmulps(sum(i), sum(i), spare(0));
    for (int i = 0; i < r_.outputs; ++i) vaddps(sum(i), sum(i), spare(1));
  }

  // As in simd/math.h; the second source of max and min is returned where one is NaN.
  void apply_function() {
    if (r_.function == TapsFunction::none) return;
    const Xbyak::Xmm nothing = spare(0), one = spare(1), slope = spare(2), half = spare(3);
    zero(nothing);
    if (r_.function == TapsFunction::relu) {
      for (int i = 0; i < r_.outputs; ++i) vmaxps(sum(i), nothing, sum(i));
      return;
    }
    vbroadcastss(one, ptr[rip + swish_]);
    vbroadcastss(slope, ptr[rip + swish_ + 4]);
    vbroadcastss(half, ptr[rip + swish_ + 8]);
    for (int i = 0; i < r_.outputs; ++i) {
      const Xbyak::Xmm ramp = place_register(i);
      vmovaps(ramp, sum(i));
      vfmadd213ps(ramp, slope, half);
      vmaxps(ramp, nothing, ramp);
      vminps(ramp, one, ramp);
      vmulps(sum(i), sum(i), ramp);
    }
  }

  void place_constants() {
    const auto place = [&](Xbyak::Label& label, std::initializer_list<uint32_t> numbers) {
      L(label);
      for (const uint32_t bits : numbers) dd(bits);
    };
    align(32);
    place(before_, {r_.before.scale, r_.before.shift});
    place(after_, {r_.after.scale, r_.after.shift});
    place(swish_, {std::bit_cast<uint32_t>(1.0F), std::bit_cast<uint32_t>(1.0F / 6),
                   std::bit_cast<uint32_t>(0.5F)});
    // Whose lanes exist.
    L(mask_);
    for (int i = 0; i < floats_; ++i) dd(i < r_.lanes ? ~0U : 0U);
  }

  // --- the lanes that exist

  void load(const Xbyak::Xmm& to, const Xbyak::Address& from) {
    if (!masked()) {
      vmovups(to, from);
    } else if (evex_) {
      vmovups(to | lanes_mask() | T_z, from);
    } else {
      vmovups(to, ptr[rip + mask_]);
      vmaskmovps(to, to, from);
    }
  }
  void store(int64_t byte, const Xbyak::Xmm& value) {
    const Xbyak::Address to = ptr[out + imm(byte)];
    if (!masked()) {
      vmovups(to, value);
    } else if (evex_) {
      vmovups(to | lanes_mask(), value);
    } else {
      store_first(byte, value);
    }
  }
  // Masked stores of 256 bits are slow on some machines. The register is not needed any more.
  void store_first(int64_t byte, const Xbyak::Xmm& value) {
    const Xbyak::Xmm low(value.getIdx());
    if ((r_.lanes & 4) != 0) {
      vmovups(ptr[out + imm(byte)], low);
      vextractf128(low, Xbyak::Ymm(value.getIdx()), 1);
      byte += 16;
    }
    if ((r_.lanes & 2) != 0) {
      vmovlps(ptr[out + imm(byte)], low);
      vmovhlps(low, low, low);
      byte += 8;
    }
    if ((r_.lanes & 1) != 0) vmovss(ptr[out + imm(byte)], low);
  }

  const Xbyak::Reg64 call = rdi, groups = rdi, group_x = rsi, out = rdx, weights = rcx,
                     row_step = r8, rows = r9, bias = r10, residual = r11, row_x = rax, row_w = rbx,
                     left = rbp, ahead = r12, next = r13;
  static constexpr int kSaved = 4;
  const Xbyak::Reg64 saved[kSaved] = {rbx, rbp, r12, r13};
  Xbyak::Label before_, after_, swish_, mask_;
  int places_ = 0;  // loaded so far

  const TapsRecipe r_;
  const bool evex_;  // 32 vectors, and masks of their own
  const int floats_;
  const int run_;  // taps whose weights are in registers together
};

#undef PLANCK_FIELD

// Distances are signed numbers of 32 bits.
bool fits(const TapsRecipe& r) {
  constexpr int64_t kMost = int64_t{1} << 31;
  const int64_t places = int64_t{r.outputs} * r.stride + r.taps;
  return places * r.place_step < kMost && r.taps * r.tap_step < kMost &&
         r.outputs * r.out_step < kMost && r.outputs * r.residual_step < kMost;
}

ExecutableCode generate(const TapsRecipe& recipe) {
  const auto buffer = std::make_unique_for_overwrite<uint8_t[]>(kMaxCodeBytes);
  const TapsGenerator generator(recipe, {buffer.get(), kMaxCodeBytes});
  return ExecutableCode({buffer.get(), generator.getSize()});
}

}  // namespace

TapsFn taps_kernel(const TapsRecipe& recipe) {
  static std::mutex mutex;
  // Never destroyed: worker threads may outlive static destructors.
  static auto& kernels = *new std::map<TapsRecipe, ExecutableCode>;
  if (!fits(recipe)) return nullptr;
  const std::lock_guard lock(mutex);
  auto at = kernels.find(recipe);
  if (at == kernels.end()) {
    if (kernels.size() == kMaxKernels) return nullptr;
    at = kernels.emplace(recipe, generate(recipe)).first;
  }
  return at->second.entry<TapsFn>();
}

}  // namespace planck::jit
