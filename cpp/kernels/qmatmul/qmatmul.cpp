// Cuts an integer product into tiles and runs them, as kernels/matmul does: a tile is (batch item,
// block of rows, group of panels); blocks of rows come outside groups, so that the block of A stays
// in every core's L2 while each weight panel enters the L2 of one core only. K is never cut: the
// sums stay in registers.
#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "kernels/eltwise/rows.h"
#include "kernels/qmatmul/byte_windows.h"
#include "kernels/qmatmul/rows.h"

namespace planck {
namespace {

// Enough tiles for the cores that we meet, and for the last ones of a step to end together.
constexpr int64_t kEnoughTiles = 24;
// Below this many the rows are cut further, although each panel is then read more than once.
constexpr int64_t kFewTiles = 16;
// Windows are gathered again for every group of panels: as few groups as keep a team busy.
constexpr int64_t kGatherTiles = 8;
// Much more work than taking a ticket.
constexpr int64_t kTileProducts = 1 << 22;

int64_t items(const QmatmulArgs& args) {
  int64_t count = 1;
  for (int axis = 0; axis < args.batch_rank; ++axis) {
    count = checked_mul(count, args.batch[axis].extent, "batch of a product");
  }
  return count;
}

// Rows of A and C in one tile.
int64_t choose_rows(const QmatmulArgs& args, const Device& device) {
  constexpr int64_t kLeast = 128, kMost = 240;  // enough to reuse a panel; enough tiles
  const jit::QgemmTile& tile = args.plan.tile;
  const int64_t fits = device.l2_bytes / 2 / std::max<int64_t>(1, args.k);
  const int64_t most = std::clamp<int64_t>(fits, kLeast, kMost);
  int64_t rows =
      std::max<int64_t>(1, ceil_div(args.m, std::max<int64_t>(1, ceil_div(args.m, most))));
  const int64_t tiles = args.plan.items * args.plan.n_panels;
  while (rows > int64_t{4} * tile.rows && tiles * ceil_div(args.m, rows) < kFewTiles) {
    rows = ceil_div(rows, 2);
  }
  return rows;
}

void choose_cut(QmatmulArgs& args, const Device& device) {
  QmatmulArgs::Plan& plan = args.plan;
  const jit::QgemmTile& tile = plan.tile;
  plan.n_panels = ceil_div(args.n, tile.columns);
  if (args.cut.m_block == 0) args.cut.m_block = choose_rows(args, device);
  plan.m_blocks = ceil_div(args.m, args.cut.m_block);
  if (args.cut.panels == 0) {
    const int64_t rows = args.cut.m_block;
    const int64_t work = std::max<int64_t>(1, rows * tile.columns * std::max<int64_t>(args.k, 1));
    const bool gathers = args.windows != nullptr;
    const int64_t enough = gathers ? kGatherTiles : kEnoughTiles;
    const int64_t most = std::max<int64_t>(1, plan.n_panels * plan.items * plan.m_blocks / enough);
    const int64_t least = gathers ? most : ceil_div(kTileProducts, work);
    const int64_t wide = rows <= tile.rows ? tile.panels[rows] : 1;
    args.cut.panels = round_up(std::clamp<int64_t>(least, 1, most), wide);
  }
  plan.n_groups = ceil_div(plan.n_panels, args.cut.panels);
}

// Operands count their own elements, whatever their type.
void advance(auto& operand, int64_t elements) {
  if constexpr (requires { operand.advance(elements); }) {
    operand.advance(elements);
  } else {
    operand.data += elements;
  }
}

struct Item {
  const uint8_t* a;
  const int8_t* b;
  float* c;
  uint8_t* c_bytes;
  const float* residual;
  EltOperand operands[kEltOperands];
};

Item item_of(const QmatmulArgs& args, int64_t index) {
  Item item{args.a, args.b, args.c, args.c_bytes, args.residual, {}};
  std::ranges::copy(args.operands, item.operands);
  const int operands = args.program != nullptr ? args.program->operands : 0;
  for (int axis = args.batch_rank - 1; axis >= 0; --axis) {
    const QmatmulBatch& batch = args.batch[axis];
    const int64_t at = index % batch.extent;
    index /= batch.extent;
    item.a += at * batch.a;
    item.b += at * batch.b;
    if (item.c != nullptr) item.c += at * batch.c;
    if (item.c_bytes != nullptr) item.c_bytes += at * batch.c;
    if (item.residual != nullptr) item.residual += at * batch.residual;
    for (int i = 1; i < operands; ++i) advance(item.operands[i], at * batch.operands[i]);
  }
  return item;
}

int64_t panel_bytes(const QmatmulArgs& args) { return args.plan.packed_k * args.plan.tile.columns; }

// What this worker is likely to read next: tickets go round, so it is `count` tiles ahead; behind
// the last tile, the same distance into the next step's weights.
void prefetch_next(const QmatmulArgs& args, int64_t tile, const Worker& worker,
                   jit::QgemmBlock& block) {
  const QmatmulArgs::Plan& plan = args.plan;
  const int64_t tiles = plan.items * plan.m_blocks * plan.n_groups;
  const int64_t next = tile + worker.count;
  const int64_t bytes = args.cut.panels * block.panel_stride;
  if (next >= tiles) {
    const int64_t from = std::min((next - tiles) * bytes, args.next.bytes);
    block.prefetch = args.next.weights + from;
    block.prefetch_bytes = std::min(bytes, args.next.bytes - from);
  } else {
    const int64_t first = next % plan.n_groups * args.cut.panels;
    const int64_t panels = std::min(args.cut.panels, plan.n_panels - first);
    const Item item = item_of(args, next / plan.n_groups / plan.m_blocks);
    block.prefetch = item.b + first * block.panel_stride;
    block.prefetch_bytes = panels * block.panel_stride;
  }
}

struct Area {
  int64_t row, column, rows, columns;
};

// Rows of A beside each other in scratch, filled up to whole groups: any bytes do, since the
// packed weights are zero there.
void copy_rows(const QmatmulArgs& args, const uint8_t* a, const Area& area, uint8_t* to) {
  const int64_t pitch = args.plan.copy_pitch;
  if (args.windows != nullptr) {
    gather_windows(*args.windows, a, args.zero, area.row, area.rows, to, pitch);
  } else {
    for (int64_t i = 0; i < area.rows; ++i) {
      std::memcpy(to + i * pitch, a + (area.row + i) * args.a_stride, static_cast<size_t>(args.k));
    }
  }
  for (int64_t i = 0; i < area.rows; ++i) {
    std::memset(to + i * pitch + args.k, 0, static_cast<size_t>(args.plan.packed_k - args.k));
  }
}

void set_a(const QmatmulArgs& args, const Item& item, const Area& area, const Worker& worker,
           jit::QgemmBlock& block) {
  constexpr int64_t kGroup = 4;
  if (args.plan.copy_pitch == 0) {
    block.call.a = item.a + area.row * args.a_stride;
    block.call.a_stride = args.a_stride;
    block.call.groups = args.k / kGroup;
    block.call.tail = args.k % kGroup;
    block.a_bytes = args.k;
    return;
  }
  auto* rows = reinterpret_cast<uint8_t*>(worker.scratch);
  copy_rows(args, item.a, area, rows);
  block.call.a = rows;
  block.call.a_stride = args.plan.copy_pitch;
  block.call.groups = args.plan.packed_k / kGroup;
}

void set_c(const QmatmulArgs& args, const Item& item, const Area& area, jit::QgemmBlock& block) {
  const int64_t at = area.row * args.c_stride + area.column;
  if (args.requantize) {
    block.call.c = item.c_bytes + at;
    block.call.c_stride = args.c_stride;
    block.call.range = &args.plan.range;
  } else {
    block.call.c = item.c + at;
    block.call.c_stride = args.c_stride * int64_t{sizeof(float)};
  }
  block.call.offset = args.offset + area.column;
  block.call.multiplier = args.multiplier + area.column;
  if (args.bias != nullptr) block.call.bias = args.bias + area.column;
  if (item.residual != nullptr) {
    block.call.residual = item.residual + area.row * args.residual_stride + area.column;
    block.call.residual_stride = args.residual_stride * int64_t{sizeof(float)};
  }
  if (args.relu || args.plan.relu) block.call.flags |= jit::kQRelu;
  if (args.plan.gelu) block.call.flags |= jit::kQGelu;
}

void run_program(const QmatmulArgs& args, const Item& item, const Area& area) {
  if (args.plan.strip == nullptr) return;
  float* c = item.c + area.row * args.c_stride + area.column;
  EltOperand operands[kEltOperands];
  operands[0] = {c, args.c_stride, 1};
  for (int i = 1; i < args.program->operands; ++i) {
    const EltOperand& whole = item.operands[i];
    operands[i] = whole;
    advance(operands[i], area.row * whole.row_stride + area.column * whole.column_stride);
  }
  args.plan.strip(*args.program, {operands, c, args.c_stride, area.rows, area.columns});
}

void run_tile(const void* raw, int64_t tile, const Worker& worker) {
  const auto& args = *static_cast<const QmatmulArgs*>(raw);
  const QmatmulArgs::Plan& plan = args.plan;
  const int64_t group = tile % plan.n_groups;
  const int64_t m_block = tile / plan.n_groups % plan.m_blocks;
  const Item item = item_of(args, tile / plan.n_groups / plan.m_blocks);

  Area area{m_block * args.cut.m_block, group * args.cut.panels * plan.tile.columns, 0, 0};
  area.rows = std::min(args.cut.m_block, args.m - area.row);
  area.columns = std::min(args.cut.panels * plan.tile.columns, args.n - area.column);
  jit::QgemmBlock block;
  block.rows = area.rows;
  block.columns = area.columns;
  block.panel_stride = panel_bytes(args);
  block.call.b = item.b + area.column * plan.packed_k;
  set_a(args, item, area, worker, block);
  set_c(args, item, area, block);
  prefetch_next(args, tile, worker, block);
  // This worker's first tile of the step; what it copies is near.
  block.a_is_far = tile < worker.count && plan.copy_pitch == 0;
  jit::multiply(plan.tile, block);
  run_program(args, item, area);
}

void check(const QmatmulArgs& args) {
  if (args.m < 0 || args.n < 0 || args.k < 0 || args.batch_rank < 0 ||
      args.batch_rank > kMaxQmatmulBatch) {
    throw InternalError("an integer product of ", args.m, " x ", args.n, " x ", args.k, " with ",
                        args.batch_rank, " batch axes");
  }
  if (args.windows != nullptr && args.windows->k() != args.k) {
    throw InternalError("windows of ", args.windows->k(), " elements for a product over ", args.k);
  }
  if (args.requantize && (args.low < 0 || args.low > args.high || args.high > UINT8_MAX)) {
    throw InternalError("bytes from ", args.low, " to ", args.high);
  }
}

jit::QgemmUnit unit_of(const QmatmulRow& row) {
  switch (row.unit) {
    case QmatmulUnit::widen:
      return jit::QgemmUnit::widen;
    case QmatmulUnit::pairs:
      return jit::QgemmUnit::pairs;
    default:
      return jit::QgemmUnit::vnni;
  }
}

void choose_epilogue(const QmatmulRow& row, QmatmulArgs& args) {
  QmatmulArgs::Plan& plan = args.plan;
  // Whole numbers of at most nine bits: exact in fp32.
  plan.range = {static_cast<float>(args.low - args.out_zero),
                static_cast<float>(args.high - args.out_zero), args.out_zero};
  if (args.program == nullptr) return;
  plan.gelu = row.isa != Isa::portable && is_only(*args.program, EltOp::gelu_erf);
  plan.relu = is_only(*args.program, EltOp::relu);
  if (plan.gelu || plan.relu) return;
  if (args.requantize) throw InternalError("an integer product cannot end in a program of bytes");
  plan.strip = eltwise_strip(row.isa);
}

// Rows of A are copied where they are windows, or too short for the kernel's tail.
void choose_copy(QmatmulArgs& args) {
  constexpr int64_t kGroup = 4;
  // A pitch of a multiple of 1 KiB would put the rows of a register tile into few cache sets.
  constexpr int64_t kSet = 1024, kPad = 64;
  QmatmulArgs::Plan& plan = args.plan;
  if (args.windows == nullptr && (args.k >= kGroup || args.k == 0)) return;
  const int64_t used = round_up(std::max<int64_t>(plan.packed_k, 1), kPad);
  plan.copy_pitch = used + (used % kSet == 0 ? kPad : 0);
  plan.scratch_bytes = checked_mul(args.cut.m_block, plan.copy_pitch, "copied rows");
}

}  // namespace

Job plan_qmatmul(const QmatmulRow& row, QmatmulArgs& args) {
  check(args);
  QmatmulArgs::Plan& plan = args.plan;
  plan = {};
  plan.tile = jit::qgemm_tile(row.isa, unit_of(row), row.tile_m, row.tile_n, args.requantize);
  plan.items = items(args);
  plan.packed_k = round_up(args.k, row.tile_k);
  choose_epilogue(row, args);
  choose_cut(args, this_device());
  choose_copy(args);
  const int64_t tiles = checked_mul(plan.n_groups, plan.m_blocks, "tiles");
  return {run_tile, &args, checked_mul(tiles, plan.items, "tiles")};
}

}  // namespace planck
