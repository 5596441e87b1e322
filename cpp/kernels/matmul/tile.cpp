#include "kernels/matmul/tile.h"

#include <algorithm>

#include "base/checked.h"
#include "kernels/eltwise/rows.h"

namespace planck {
namespace {

constexpr int64_t kLine = 16;  // floats

// C of more bytes than the caches hold is written past them: its lines need not be read before.
bool streams(const MatmulArgs& args) {
  const MatmulArgs::Plan& plan = args.plan;
  const auto lines = [](int64_t floats) { return floats % kLine == 0; };
  const int64_t row = checked_mul(args.n, int64_t{sizeof(float)}, "bytes of C");
  const int64_t bytes =
      checked_mul(checked_mul(args.m, plan.items, "rows of C"), row, "bytes of C");
  const bool at_once = plan.bands > 0 || args.cut.k_block >= args.k;
  return args.epilogue.bytes == nullptr && plan.strip == nullptr && at_once && !plan.tile.pairs &&
         lines(args.c_stride) && lines(plan.tile.columns) && args.n % plan.tile.columns == 0 &&
         bytes > this_device().l3_bytes;
}

// Whether the operands of the program are the same for each row of C.
bool only_columns(const MatmulArgs& args) {
  for (int i = 1; i < args.epilogue.program->operands; ++i) {
    if (args.epilogue.operands[i].row_stride != 0) return false;
  }
  return true;
}

}  // namespace

int64_t stream_tiles(const MatmulArgs& args) {
  constexpr int64_t kTiles = 8;
  constexpr int64_t kFloats = 16 << 10;  // of a tile at least, which takes some microseconds
  return std::clamp<int64_t>(args.n * args.k / kFloats, 1, kTiles);
}

MatmulItem item_of(const MatmulArgs& args, int64_t index) {
  MatmulItem item{args.a, args.b, args.c, args.epilogue.residual, {}};
  std::ranges::copy(args.epilogue.operands, item.operands);
  const int operands = args.epilogue.program != nullptr ? args.epilogue.program->operands : 0;
  for (int axis = args.batch_rank - 1; axis >= 0; --axis) {
    const MatmulBatch& batch = args.batch[axis];
    const int64_t at = index % batch.extent;
    index /= batch.extent;
    item.a += at * batch.a;
    item.b += at * batch.b;
    item.c += at * batch.c;
    if (item.residual != nullptr) item.residual += at * batch.residual;
    for (int i = 1; i < operands; ++i) item.operands[i].advance(at * batch.operands[i]);
  }
  return item;
}

TileC c_of(const MatmulArgs& args, const MatmulItem& item, const MatmulArea& area,
           const Worker& worker) {
  if (args.epilogue.bytes == nullptr) {
    return {item.c + area.row * args.c_stride + area.column, args.c_stride};
  }
  return {reinterpret_cast<float*>(worker.scratch) + args.plan.c_offset, args.plan.c_pitch};
}

void add_c(MatmulArgs& args, int64_t rows) {
  MatmulArgs::Plan& plan = args.plan;
  constexpr int64_t kPad = 16;
  plan.c_pitch = std::min(args.cut.panels * plan.tile.columns, round_up(args.n, kPad)) + kPad;
  plan.c_offset = plan.scratch_bytes / static_cast<int64_t>(sizeof(float));
  const int64_t floats = checked_mul(rows, plan.c_pitch, "a tile of C");
  plan.scratch_bytes += round_up(checked_mul(floats, sizeof(float), "a tile of C"), 64);
}

void keep_rows_in_l1(MatmulArgs& args, int64_t stride) {
  constexpr int64_t kWay = 4096;          // bytes
  constexpr int64_t kFewestColumns = 32;  // with which so few rows fill the FMA pipelines
  constexpr int64_t kManyRows = 48;       // for few, lower tiles read B more often than it pays
  jit::GemmTile& tile = args.plan.tile;
  const int64_t most = this_device().l1_bytes / kWay - 1;
  if (stride * int64_t{sizeof(float)} % kWay == 0 && args.m >= kManyRows && most > 0 &&
      tile.columns >= kFewestColumns && !tile.once && tile.any_rows == nullptr) {
    tile.rows = static_cast<int>(std::min<int64_t>(tile.rows, most));
  }
}

void plan_kernels(const MatmulRow& row, MatmulArgs& args, const jit::GemmSource& source,
                  const jit::GemmBlocks& blocks) {
  const EltProgram* program = args.epilogue.program;
  const bool made = row.isa != Isa::portable && row.lanes != Lanes::rows;
  MatmulArgs::Plan& plan = args.plan;
  const jit::GemmTile plain = plan.tile;
  jit::Epilogue epilogue;
  if (args.epilogue.bytes != nullptr) {  // kernels themselves store floats
    plan.strip = eltwise_strip(row.isa);
  } else if (program != nullptr) {
    plan.relu = is_only(*program, EltOp::relu);
    plan.gelu = made && is_only(*program, EltOp::gelu_erf);
    plan.sigmoid = row.lanes == Lanes::rows && is_only(*program, EltOp::sigmoid);
    const bool flag = plan.relu || plan.gelu || plan.sigmoid;
    if (made && !flag && (!plan.tile.pairs || only_columns(args))) {
      epilogue = jit::generated(*program, args.epilogue.operands).value_or(jit::Epilogue{});
    }
    plan.epilogue =
        !epilogue.code.empty() && jit::specialize(plan.tile, row.isa, source, epilogue, blocks);
    if (!plan.epilogue && !flag) plan.strip = eltwise_strip(row.isa);
  }
  const bool part = jit::knows_columns(row.isa) && args.n % plan.tile.columns != 0;
  const bool special = source.lines || source.scattered || part || plan.tile.pairs;
  if (made && special && !plan.epilogue) jit::specialize(plan.tile, row.isa, source, {}, blocks);
  if (!made || !streams(args)) return;
  jit::GemmTile streaming = plain;
  const jit::GemmSource to_memory{source.lines, source.scattered, true};
  if (!plan.epilogue) epilogue = {};
  if (jit::specialize(streaming, row.isa, to_memory, epilogue, blocks)) plan.streaming = streaming;
}

jit::GemmBlock block_of(const MatmulArgs& args, const MatmulItem& item, const MatmulArea& area,
                        const TileC& c) {
  const MatmulEpilogue& epilogue = args.epilogue;
  jit::GemmBlock block;
  block.rows = area.rows;
  block.columns = area.columns;
  block.panel_stride = args.k * jit::panel_floats(args.plan.tile);
  block.call.a = args.windows != nullptr ? item.a : item.a + area.row * args.a_stride;
  block.call.a_stride = args.a_stride;
  block.call.c = c.first;
  block.call.c_stride = c.stride;
  block.call.c_group = args.c_group;
  block.call.c_group_step = args.c_group_step;
  if (epilogue.bias != nullptr) block.call.bias = epilogue.bias + area.column;
  if (item.residual != nullptr) {
    block.call.residual = item.residual + area.row * epilogue.residual_stride + area.column;
    block.call.residual_stride = epilogue.residual_stride;
  }
  block.call.operands = item.operands;
  block.call.row = area.row;
  block.call.column = area.column;
  return block;
}

int64_t last_flags(const MatmulArgs& args) {
  const MatmulArgs::Plan& plan = args.plan;
  int64_t flags = 0;
  if (args.epilogue.relu || plan.relu) flags |= jit::kRelu;
  if (plan.gelu) flags |= jit::kGelu;
  if (plan.sigmoid) flags |= jit::kSigmoid;
  if (plan.epilogue) flags |= jit::kEpilogue;
  return flags;
}

const jit::GemmTile& tile_for(const MatmulArgs& args, const jit::GemmBlock& block) {
  const bool at_line = reinterpret_cast<uintptr_t>(block.call.c) % 64 == 0;
  return args.plan.streaming.rows > 0 && at_line ? args.plan.streaming : args.plan.tile;
}

int64_t tile_after(const MatmulArgs& args, int64_t tile, const Worker& worker) {
  return tile + (args.plan.along ? 1 : worker.count);
}

void run_program(const MatmulArgs& args, const MatmulItem& item, const MatmulArea& area,
                 const TileC& c) {
  const MatmulEpilogue& epilogue = args.epilogue;
  if (args.plan.strip == nullptr) return;
  EltOperand operands[kEltOperands];
  operands[0] = {c.first, c.stride, 1};
  for (int i = 1; i < epilogue.program->operands; ++i) {
    const EltOperand& whole = item.operands[i];
    operands[i] = whole;
    operands[i].advance(area.row * whole.row_stride + area.column * whole.column_stride);
  }
  EltStrip strip{operands, c.first, c.stride, area.rows, area.columns};
  if (epilogue.bytes != nullptr) {
    const int64_t place = area.row * epilogue.bytes_stride + area.column;
    strip.out = static_cast<std::byte*>(epilogue.bytes) + place;
    strip.out_row_stride = epilogue.bytes_stride;
    strip.out_type = epilogue.bytes_type;
  }
  const bool alone = epilogue.program->operands == 1 && epilogue.bytes == nullptr;
  const int64_t groups = args.c_group > 0 ? area.columns / args.c_group : 1;
  strip.columns /= groups;
  if (alone && c.stride == strip.columns) {  // one run fills vectors better than short rows
    strip.columns *= strip.rows;
    strip.rows = 1;
  }
  args.plan.strip(*epilogue.program, strip);
  for (int64_t group = 1; group < groups; ++group) {
    operands[0].advance(args.c_group_step);
    strip.out = static_cast<float*>(strip.out) + args.c_group_step;
    args.plan.strip(*epilogue.program, strip);
  }
}

}  // namespace planck
