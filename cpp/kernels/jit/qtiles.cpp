// The tile registers: four of sums, then those of A (one or two), then those of B.
#include "kernels/jit/qtiles.h"

#include <xbyak/xbyak.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "base/error.h"
#include "kernels/jit/code.h"

namespace planck::jit {
namespace {

constexpr size_t kMaxCodeBytes = 8 << 10;
constexpr int kSumTiles = 4, kRegisters = 8;

// What LDTILECFG reads: "Intel 64 and IA-32 Architectures Software Developer's Manual", volume 2.
struct TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

int row_tiles(int rows) { return rows > kTileRows ? 2 : 1; }
int rows_of(int rows, int tile) { return std::min(kTileRows, rows - tile * kTileRows); }

// Sums stand row by row: tile (i, j) is register i * column tiles + j, whichever the panels.
TileConfig config_of(int rows) {
  TileConfig config;
  const int tiles = row_tiles(rows), across = kSumTiles / tiles;
  for (int i = 0; i < kRegisters; ++i) {
    config.row_bytes[i] = kTileDepth;
    const int row_tile = i < kSumTiles ? i / across : i - kSumTiles;
    config.rows[i] = static_cast<uint8_t>(row_tile < tiles ? rows_of(rows, row_tile) : kTileRows);
  }
  return config;
}

#define PLANCK_FIELD(name) qword[call + offsetof(QgemmCall, name)]

class MatrixGenerator : public Xbyak::CodeGenerator {
 public:
  MatrixGenerator(int rows, int panels, uint8_t* buffer)
      : CodeGenerator(kMaxCodeBytes, buffer),
        tiles_(row_tiles(rows)),
        columns_(2 * panels),
        across_(kSumTiles / tiles_) {
    if (columns_ > across_)
      throw InternalError("no matrix of ", rows, " rows, ", panels, " panels");
    push(lines);
    load_pointers();
    for (int i = 0; i < tiles_; ++i) {
      for (int j = 0; j < columns_; ++j) tilezero(sums(i, j));
    }
    lines_loop();
    store_sums();
    pop(lines);
    ret();
  }

 private:
  Xbyak::Tmm sums(int i, int j) const { return Xbyak::Tmm(i * across_ + j); }
  Xbyak::Tmm a_tile(int i) const { return Xbyak::Tmm(kSumTiles + i); }
  Xbyak::Tmm b_tile(int j) const {
    const int first = kSumTiles + tiles_;
    return Xbyak::Tmm(first + j % (kRegisters - first));
  }

  void load_pointers() {
    mov(a, PLANCK_FIELD(a));
    mov(a_stride, PLANCK_FIELD(a_stride));
    lea(a_low, ptr[a_stride * 8]);
    lea(a_low, ptr[a + a_low * 2]);
    mov(b, PLANCK_FIELD(b));
    mov(b_beside, PLANCK_FIELD(b_stride));
    add(b_beside, b);
    mov(b_stride, kPanelRow);
    mov(next, PLANCK_FIELD(prefetch));
  }

  // A row of a B tile is a group of four k for sixteen columns; a panel has two of those beside
  // each other.
  void one_step() {
    for (int i = 0; i < tiles_; ++i) tileloadd(a_tile(i), ptr[(i == 0 ? a : a_low) + a_stride]);
    for (int j = 0; j < columns_; ++j) {
      const Xbyak::Reg64& panel = j < 2 ? b : b_beside;
      tileloadd(b_tile(j), ptr[panel + b_stride + j % 2 * kTileDepth]);
      for (int i = 0; i < tiles_; ++i) tdpbusd(sums(i, j), a_tile(i), b_tile(j));
      for (int i = 0; i < kMatrixPrefetches / columns_; ++i) {
        prefetcht1(ptr[next]);
        add(next, PLANCK_FIELD(prefetch_step));
      }
    }
    add(a, kTileDepth);
    add(a_low, kTileDepth);
    add(b, kStepBytes);
    add(b_beside, kStepBytes);
  }

  // B goes on from line to line; A jumps.
  void lines_loop() {
    Xbyak::Label line, loop, none;
    mov(lines, PLANCK_FIELD(lines));
    L(line);
    mov(count, PLANCK_FIELD(groups));
    test(count, count);
    jz(none, T_NEAR);
    align(32);
    L(loop);
    one_step();
    dec(count);
    jnz(loop, T_NEAR);
    L(none);
    add(a, PLANCK_FIELD(line_step));
    add(a_low, PLANCK_FIELD(line_step));
    dec(lines);
    jnz(line, T_NEAR);
  }

  void store_sums() {
    mov(a, PLANCK_FIELD(c));
    mov(a_stride, PLANCK_FIELD(c_stride));
    lea(a_low, ptr[a_stride * 8]);
    lea(a_low, ptr[a + a_low * 2]);
    for (int i = 0; i < tiles_; ++i) {
      for (int j = 0; j < columns_; ++j) {
        tilestored(ptr[(i == 0 ? a : a_low) + a_stride + j * kTileDepth], sums(i, j));
      }
    }
  }

  static constexpr int kPanelRow = kMatrixColumns * 4;           // bytes of a group of a panel
  static constexpr int kStepBytes = kPanelRow * kTileDepth / 4;  // of a panel
  const Xbyak::Reg64 call = rdi, count = rax, a = rsi, a_stride = rdx, a_low = rcx, b = r8,
                     b_beside = r9, b_stride = r10, next = r11, lines = rbx;
  const int tiles_, columns_, across_;
};

#undef PLANCK_FIELD

// The two instructions that compilers know under flags alone.
struct ConfigureCode : Xbyak::CodeGenerator {
  explicit ConfigureCode(bool release) {
    release ? tilerelease() : ldtilecfg(ptr[rdi]);
    ret();
  }
};

// Never destroyed: worker threads may outlive static destructors.
const ExecutableCode& configure_code(bool release) {
  const ConfigureCode code(release);
  return *new ExecutableCode({code.getCode(), code.getSize()});
}

}  // namespace

QgemmFn matrix_kernel(int rows, int panels) {
  static std::mutex mutex;
  static auto& kernels = *new std::map<std::pair<int, int>, ExecutableCode>;
  const std::lock_guard lock(mutex);
  auto at = kernels.find({rows, panels});
  if (at == kernels.end()) {
    const auto buffer = std::make_unique<uint8_t[]>(kMaxCodeBytes);
    const MatrixGenerator generator(rows, panels, buffer.get());
    ExecutableCode code({buffer.get(), generator.getSize()});
    at = kernels.emplace(std::pair(rows, panels), std::move(code)).first;
  }
  return at->second.entry<QgemmFn>();
}

void configure_matrix(int rows) {
  static const ExecutableCode& configure = configure_code(false);
  const TileConfig config = config_of(rows);
  configure.entry<void (*)(const TileConfig*)>()(&config);
}

void release_matrix() {
  static const ExecutableCode& release = configure_code(true);
  release.entry<void (*)()>()();
}

}  // namespace planck::jit
