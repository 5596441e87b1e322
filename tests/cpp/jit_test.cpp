// The micro-kernels themselves: every height, one panel and several, masked, strided, from partial
// sums; and the pages that they live in.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "guarded.h"
#include "kernels/jit/block.h"
#include "kernels/jit/code.h"
#include "kernels/jit/gemm.h"
#include "kernels/jit/panels.h"
#include "kernels/simd/gelu_root.h"

namespace planck::jit {
namespace {

std::vector<GemmRecipe> recipes() {
  std::vector<GemmRecipe> all;
  const auto add = [&](Isa isa, int rows, int vectors, bool half = false) {
    if (!this_device().has(isa)) return;
    for (int r = 1; r <= rows; ++r) {
      const GemmRecipe plain{.isa = isa, .half = half, .rows = r, .vectors = vectors};
      for (const bool masked : {false, true}) {
        for (const bool strided : {false, true}) {
          all.push_back(plain);
          all.back().masked = masked;
          all.back().strided = strided;
        }
        all.push_back(plain);
        all.back().masked = masked;
        all.back().lines = true;
        all.push_back(plain);
        all.back().masked = masked;
        all.back().once = true;
        for (int exist = 1; masked && isa == Isa::avx2 && exist < 8 * vectors; exist += 2) {
          all.push_back(plain);
          all.back().masked = true;
          all.back().exist = exist;
        }
        if (r > kScatteredRows) continue;
        for (const bool lines : {false, true}) {
          all.push_back(plain);
          all.back().masked = masked;
          all.back().lines = lines;
          all.back().scattered = true;
        }
      }
      all.push_back(plain);
      all.back().streams = true;
      if (r <= kScatteredRows) {
        all.push_back(all.back());
        all.back().lines = all.back().scattered = true;
      }
      all.push_back(plain);
      all.back().panels = std::min(12 / (r * vectors), 6);
      if (all.back().panels < 2) all.pop_back();
    }
  };
  add(Isa::avx2, 6, 2);
  add(Isa::avx2, 4, 3);
  add(Isa::avx512, 8, 3);
  add(Isa::avx512, 14, 2);
  add(Isa::avx512, 14, 1, true);
  return all;
}

std::string name(const GemmRecipe& r) {
  return cat(r.isa, r.half ? " halves, " : " ", r.rows, " rows, ", r.vectors, " vectors, ",
             r.panels, " panels", r.strided ? ", strided" : "", r.masked ? ", masked" : "",
             r.lines ? ", lines" : "", r.once ? ", once" : "", r.scattered ? ", scattered" : "",
             r.streams ? ", streams" : "", r.exist > 0 ? cat(", ", r.exist, " exist") : "");
}

// x Phi(x), with the roundings of the vector function.
float gelu(float x) {
  const float a = std::min(std::abs(x), kGeluEnd);
  float root = kGeluRoot[std::size(kGeluRoot) - 1];
  for (int i = static_cast<int>(std::size(kGeluRoot)) - 2; i >= 0; --i) {
    root = std::fmaf(root, a, kGeluRoot[i]);
  }
  root = std::isnan(root) ? root : std::max(root, 0.0F);
  const float root2 = root * root, root4 = root2 * root2, tail = root4 * root4;
  return x * (std::signbit(x) ? tail : 1.0F - tail);
}

// What the kernel promises, one output at a time.
float expected(const GemmCall& call, const GemmRecipe& r, const std::vector<float>& before,
               int64_t i, int64_t j) {
  const int width = r.vectors * vector_floats(r);
  const int64_t columns = width * r.panels;
  float sum = (call.flags & kLoadC) != 0 ? before[i * columns + j] : 0;
  for (int64_t k = 0; k < call.lines * call.k; ++k) {
    const float b = r.strided ? call.b[k * call.b_stride + j]
                              : call.b[j / width * call.b_stride + k * width + j % width];
    const int64_t line = k / call.k * call.a_line;
    const float* begin = r.scattered ? call.a_places[line + i] : call.a + i * call.a_stride + line;
    sum = std::fmaf(begin[k % call.k], b, sum);
  }
  if (call.bias != nullptr) sum += call.bias[j];
  if (call.residual != nullptr) sum += call.residual[i * call.residual_stride + j];
  if ((call.flags & kRelu) != 0) sum = std::max(sum, 0.0F);
  return (call.flags & kGelu) != 0 ? gelu(sum) : sum;
}

void check(const GemmRecipe& r, int64_t k, int64_t flags, bool extras, int64_t tiles = 1) {
  const int64_t rows = r.rows * tiles;
  const int64_t width = r.vectors * vector_floats(r), columns = width * r.panels;
  const int64_t lines = r.lines ? 3 : 1, a_pitch = lines * k + (r.lines ? 5 : 0);
  // Columns of C.
  const int64_t exist = r.exist > 0 ? r.exist : r.masked ? columns - 3 : columns;
  const int64_t b_pitch = columns + 5;  // strided B; its last row ends the buffer
  GuardedFloats a((rows - 1) * a_pitch + (lines - 1) * (k + 1) + k),
      c((rows - 1) * columns + exist), bias(exist);
  GuardedFloats b(r.strided && k > 0 ? (k - 1) * b_pitch + columns : lines * k * columns);
  GuardedFloats residual((rows - 1) * columns + exist);
  a.randomize(1), b.randomize(2), c.randomize(3), bias.randomize(4), residual.randomize(5);
  std::vector<int32_t> mask(columns, -1);
  std::fill(mask.begin() + exist, mask.end(), 0);
  std::vector<float> before(c.data(), c.data() + c.size());
  before.resize(rows * columns);
  GemmCall call;
  call.a = a.data(), call.a_stride = a_pitch, call.k = k;
  call.lines = lines, call.a_line = k + 1;
  std::vector<const float*> places(lines * (r.rows + 1));  // the rows the other way round
  for (int64_t line = 0; line < lines; ++line) {
    for (int64_t i = 0; i < r.rows; ++i) {
      places[line * (r.rows + 1) + i] = a.data() + (r.rows - 1 - i) * a_pitch + line * (k + 1);
    }
  }
  if (r.scattered) call.a_places = places.data(), call.a_line = r.rows + 1;
  call.b = b.data(), call.b_stride = r.strided ? b_pitch : k * width;
  call.c = c.data(), call.c_stride = columns;
  if (extras) call.bias = bias.data(), call.residual = residual.data();
  call.residual_stride = columns;
  call.mask = r.masked ? mask.data() : nullptr;
  call.prefetch = c.data();
  call.flags = flags;
  call.rows = r.rows;
  call.tiles = tiles;
  GemmCall moved = call;
  gemm_kernel(r)(&moved);
  EXPECT_EQ(moved.row, (tiles - 1) * r.rows);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      if (i * columns + j >= c.size()) continue;
      const float want = j < exist ? expected(call, r, before, i, j) : before[i * columns + j];
      ASSERT_EQ(c[i * columns + j], want) << "row " << i << " column " << j << " k " << k;
    }
  }
}

TEST(Gemm, EveryRecipeBitForBit) {
  for (const GemmRecipe& recipe : recipes()) {
    SCOPED_TRACE(name(recipe));
    for (const int64_t k : {0, 1, 2, 3, 4, 5, 7, 8, 31, 64}) {
      check(recipe, k, 0, false);
      check(recipe, k, kLoadC, false);
      check(recipe, k, kRelu, true);
      check(recipe, k, kLoadC | kRelu, true);
      check(recipe, k, kGelu, true);
      if (!recipe.scattered && !recipe.strided) check(recipe, k, kLoadC | kRelu, true, 3);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Gemm, RefusesWhatDoesNotFit) {
  EXPECT_THROW(gemm_kernel({.isa = Isa::avx2, .rows = 7, .vectors = 2}), InternalError);
  EXPECT_THROW(gemm_kernel({.isa = Isa::avx2, .rows = 0, .vectors = 2}), InternalError);
  EXPECT_THROW(gemm_kernel({.isa = Isa::portable, .rows = 1, .vectors = 1}), InternalError);
  EXPECT_THROW(
      gemm_kernel({.isa = Isa::avx2, .rows = 2, .vectors = 2, .panels = 2, .strided = true}),
      InternalError);
}

TEST(Gemm, OneKernelForOneRecipe) {
  if (!this_device().has(Isa::avx2)) GTEST_SKIP() << "this machine has no avx2";
  const GemmRecipe recipe{.isa = Isa::avx2, .rows = 3, .vectors = 2};
  EXPECT_EQ(gemm_kernel(recipe), gemm_kernel(recipe));
}

// W^X: /proc/self/maps has no line that is both writable and executable.
TEST(Code, NoPageIsWritableAndExecutable) {
  const uint8_t back[] = {0xC3};  // ret
  const ExecutableCode code(back);
  code.entry<void (*)()>()();
  if (this_device().has(Isa::avx2)) gemm_kernel({});
  std::ifstream maps("/proc/self/maps");
  bool found = false;
  for (std::string line; std::getline(maps, line);) {
    EXPECT_EQ(line.find("rwx"), std::string::npos) << line;
    const auto at = reinterpret_cast<uintptr_t>(code.entry<void*>());
    if (line.starts_with(cat(std::hex, at))) found = line.find(" r-xp ") != std::string::npos;
  }
  EXPECT_TRUE(found);
}

TEST(Panels, PackAndUnpack) {
  for (const int64_t width : {16, 24, 32, 48}) {
    for (const int64_t n : {1, 15, 16, 50, 97}) {
      for (const int64_t k : {1, 4, 7}) {
        for (const auto& [rs, cs] : {std::pair<int64_t, int64_t>{n, 1}, {1, k}, {2 * n, 2}}) {
          GuardedFloats b((k - 1) * rs + (n - 1) * cs + 1),
              packed((n + width - 1) / width * width * k);
          b.randomize(1);
          pack_panels({n, k, width}, b.data(), rs, cs, packed.data());
          for (int64_t e = 0; e < packed.size(); ++e) {
            const int64_t j = e / (k * width) * width + e % width, i = e % (k * width) / width;
            ASSERT_EQ(packed[e], j < n ? b[i * rs + j * cs] : 0);
          }
          std::vector<float> back(b.size());
          unpack_panels({n, k, width}, packed.data(), back.data(), rs, cs);
          for (int64_t e = 0; e < n * k; ++e) {
            ASSERT_EQ(back[e / n * rs + e % n * cs], b[e / n * rs + e % n * cs]);
          }
        }
      }
    }
  }
}

// Blocks of any height, from every level of the tile.
TEST(Block, EveryHeightAndWidth) {
  for (const auto& [isa, rows, columns] : {std::tuple{Isa::portable, 1, 16},
                                           {Isa::avx2, 6, 16},
                                           {Isa::avx2, 4, 24},
                                           {Isa::avx512, 8, 48},
                                           {Isa::avx512, 12, 32}}) {
    if (!this_device().has(isa)) continue;
    const int64_t k = 6;
    for (int64_t m = 1; m <= 30; ++m) {
      const Stream stream = m > rows ? Stream::none : m % 2 == 0 ? Stream::alone : Stream::together;
      const GemmTile tile = gemm_tile(isa, rows, columns, stream);
      for (const int64_t n : {1, 16, 47, 100, 300}) {
        GuardedFloats a(m * k), b((n + columns - 1) / columns * columns * k), c(m * n);
        a.randomize(1), b.randomize(2);
        GemmBlock block;
        block.rows = m, block.columns = n, block.panel_stride = k * columns;
        block.call.a = a.data(), block.call.a_stride = k, block.call.b = b.data();
        block.call.c = c.data(), block.call.c_stride = n, block.call.k = k;
        multiply(tile, block);
        for (int64_t e = 0; e < m * n; ++e) {
          float sum = 0;
          const int64_t j = e % n;
          for (int64_t i = 0; i < k; ++i) {
            sum = std::fmaf(a[e / n * k + i],
                            b[j / columns * k * columns + i * columns + j % columns], sum);
          }
          ASSERT_EQ(c[e], sum) << isa << " m=" << m << " n=" << n;
        }
      }
    }
  }
}

}  // namespace
}  // namespace planck::jit
