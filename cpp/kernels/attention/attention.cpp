// One tile: a block of query rows of one head. K^T and V are packed into scratch once for the tile;
// then strips of query rows, small enough that their scores stay in the fast caches, go through
// scores, softmax and product.
#include <algorithm>
#include <limits>

#include "base/checked.h"
#include "base/error.h"
#include "kernels/attention/live_keys.h"
#include "kernels/attention/rows.h"
#include "kernels/eltwise/rows.h"

namespace planck {
namespace {

// Enough query rows to repay the packing of K and V (one row costs about as much as packing one
// key), and enough tiles for the cores; more rows than usual only where tiles are many.
constexpr int64_t kMostRows = 256, kUsualRows = 128, kFewestRows = 32;
constexpr int64_t kEnoughTiles = 12, kManyTiles = 24;
// Products of half a block that repay its ticket and the packing.
constexpr int64_t kLeastWork = 1 << 17;
constexpr int64_t kVector = 16;       // of the row functions
constexpr int64_t kRowsTogether = 8;  // in one softmax

// The tile of the row, or one that wastes less on panels that are not full.
jit::GemmTile tile_for(const AttentionRow& row, int64_t columns) {
  struct Size {
    int rows, columns;
  };
  constexpr Size kOthers[] = {{14, 16}, {8, 48}};
  Size best{row.tile_m, row.tile_n};
  for (const Size& other : kOthers) {
    if (row.isa < Isa::avx512) break;
    if (round_up(columns, other.columns) < round_up(columns, best.columns)) best = other;
  }
  return jit::gemm_tile(row.isa, best.rows, best.columns);
}

int64_t tiles_of(const AttentionArgs& args, int64_t block) {
  const int64_t heads = checked_mul(args.batch, args.heads, "attention heads");
  return checked_mul(heads, ceil_div(args.lq, block), "attention tiles");
}

int64_t choose_block(const AttentionArgs& args) {
  int64_t block = tiles_of(args, kMostRows) < kManyTiles ? kUsualRows : kMostRows;
  const int64_t row_work = checked_mul(args.lk, args.d + args.dv, "products of a row");
  while (block > kFewestRows && tiles_of(args, block) < kEnoughTiles &&
         std::min(block, args.lq) / 2 * row_work >= kLeastWork) {
    block /= 2;
  }
  // Equal blocks rather than a short last one.
  const int64_t rows = std::max<int64_t>(args.lq, 1);
  return ceil_div(rows, ceil_div(rows, block));
}

// Three quarters of L1 for the scores of a strip, but at least a few register tiles, so that a
// panel of K or V is used more than once.
int64_t choose_strip(const AttentionArgs& args, int tile_m) {
  const int64_t fits = this_device().l1_bytes * 3 / 4 / (args.plan.pitch * int64_t{sizeof(float)});
  const int64_t rows = std::max<int64_t>(fits / tile_m, 4) * tile_m;
  const int64_t block = std::min(args.plan.block, std::max<int64_t>(args.lq, 1));
  return ceil_div(block, ceil_div(block, rows));
}

struct Scratch {
  float *keys, *values, *scores, *factors, *results;
  float* mask;  // one row, for whole panels
  uint8_t* flags;
};

int64_t keys_floats(const AttentionArgs& args) {
  return checked_mul(round_up(args.lk, args.plan.keys.columns), args.d, "packed keys");
}
int64_t values_floats(const AttentionArgs& args) {
  return checked_mul(round_up(args.dv, args.plan.values.columns), args.lk, "packed values");
}

int64_t results_floats(const AttentionArgs& args) {
  return args.program == nullptr ? 0 : checked_mul(args.plan.strip, args.dv, "attention results");
}

int64_t mask_floats(const AttentionArgs& args) {
  return round_up(round_up(args.lk, args.plan.keys.columns), kVector);
}

// Each part begins on a line of its own.
int64_t aligned(int64_t floats) { return round_up(floats, 16); }

Scratch split(const AttentionArgs& args, const Worker& worker) {
  Scratch s;
  s.keys = reinterpret_cast<float*>(worker.scratch);
  s.values = s.keys + aligned(keys_floats(args));
  s.scores = s.values + aligned(values_floats(args));
  s.factors = s.scores + aligned(args.plan.strip * args.plan.pitch);
  s.results = s.factors + aligned(args.plan.strip);
  s.mask = s.results + aligned(results_floats(args));
  s.flags = reinterpret_cast<uint8_t*>(s.mask + aligned(mask_floats(args)));
  return s;
}

using Head = AttentionHead;

Head head_of(const AttentionArgs& args, int64_t item, int64_t head) {
  const auto at = [&](const HeadStrides& s) { return item * s.batch + head * s.head; };
  const float* mask = args.mask;
  if (mask != nullptr) mask += item * args.mask_batch + head * args.mask_head;
  return {args.q + at(args.q_strides),
          args.k + at(args.k_strides),
          args.v + at(args.v_strides),
          mask,
          args.out_bytes == nullptr ? args.out + at(args.out_strides) : nullptr,
          args.out_bytes == nullptr ? nullptr : args.out_bytes + at(args.out_strides)};
}

struct Place {
  Head head;
  QueryRows rows;
};

Place place_of(const AttentionArgs& args, int64_t tile) {
  const int64_t index = tile / args.plan.blocks;
  const int64_t first = tile % args.plan.blocks * args.plan.block;
  return {head_of(args, index / args.heads, index % args.heads),
          {first, std::min(args.plan.block, args.lq - first)}};
}

// Scaled keys give scaled scores.
void pack(const AttentionArgs& args, const Head& head, const Scratch& scratch,
          const LiveKeys& live) {
  const int64_t key_width = args.plan.keys.columns, value_width = args.plan.values.columns;
  const AttentionRow& row = *args.plan.row;
  int64_t at = 0;
  for (int i = 0; i < live.run_count; ++i) {
    const KeyRun& run = live.runs[i];
    const int64_t k_row = args.k_strides.row, v_row = args.v_strides.row;
    row.pack_keys({head.k + run.first * k_row, run.count, k_row, args.d}, args.scale, key_width,
                  scratch.keys + at * args.d);
    row.pack_values({head.v + run.first * v_row, run.count, v_row, args.dv}, value_width,
                    live.count * value_width, scratch.values + at * value_width);
    at += run.count;
  }
}

// Rows of a head are short and far apart, too short for the processor to see a stream in them, and
// some of them lie in the L2 of another core. Of what a tile reads the parts from `from` up to
// `to`, of as many as it has rows.
void fetch(const AttentionArgs& args, const Place& place, const LiveKeys& live, int64_t from,
           int64_t to) {
  const Head& head = place.head;
  const QueryRows& rows = place.rows;
  const auto fetch_part = [&](const float* first, int64_t stride, int64_t count, int64_t columns) {
    const int64_t begin = part_begin(count, from, rows.count);
    const int64_t end = part_begin(count, to, rows.count);
    jit::prefetch_rows(first + begin * stride, stride, end - begin, columns);
  };
  for (int i = 0; i < live.run_count; ++i) {
    const KeyRun& run = live.runs[i];
    const int64_t k_row = args.k_strides.row, v_row = args.v_strides.row;
    fetch_part(head.k + run.first * k_row, k_row, run.count, args.d);
    fetch_part(head.v + run.first * v_row, v_row, run.count, args.dv);
  }
  const int64_t q_row = args.q_strides.row;
  fetch_part(head.q + rows.first * q_row, q_row, rows.count, args.d);
}

// What is added to the scores of a tile.
struct TileMask {
  const float* bias = nullptr;  // of each key, whole panels: the product adds it
  const float* row = nullptr;   // of each key: the softmax adds it
};

// One mask for all rows, which the product adds; keys that only fill a vector get -inf. Where a
// mask hides what is no number, a sum of both would not.
TileMask mask_of(const AttentionArgs& args, const Head& head, const Scratch& s,
                 const LiveKeys& live) {
  const bool shared = head.mask != nullptr && args.mask_row == 0;
  if (head.mask != nullptr ? !shared : live.count % kVector == 0) return {};
  float* to = s.mask;
  for (int i = 0; i < live.run_count; ++i) {
    const KeyRun& run = live.runs[i];
    for (int64_t j = run.first; j < run.first + run.count; ++j) {
      *to++ = shared ? head.mask[j * args.mask_key] : 0.0F;
    }
  }
  std::fill(to, s.mask + mask_floats(args), -std::numeric_limits<float>::infinity());
  if (args.masked_rows_zero && shared) return {nullptr, s.mask};
  return {s.mask, nullptr};
}

struct Strip {
  int64_t row, rows;
  KeyRun keys;  // places among those that are packed
};

// Scores begin with a panel, keys of a strip at any sixteen.
int64_t first_panel(const AttentionArgs& args, const Strip& strip) {
  return strip.keys.first / args.plan.keys.columns;
}
float* first_score(const AttentionArgs& args, const Scratch& s, const Strip& strip) {
  return s.scores + strip.keys.first % args.plan.keys.columns;
}

void multiply_scores(const AttentionArgs& args, const Head& head, const Scratch& s,
                     const Strip& strip, const float* bias) {
  const int64_t width = args.plan.keys.columns, first = first_panel(args, strip);
  jit::GemmBlock block;
  block.c_is_near = true;
  block.rows = strip.rows;
  // The panels' zeros too: no masks.
  block.columns = round_up(strip.keys.first + strip.keys.count, width) - first * width;
  block.panel_stride = args.d * width;
  block.call.a = head.q + strip.row * args.q_strides.row;
  block.call.a_stride = args.q_strides.row;
  block.call.b = s.keys + first * block.panel_stride;
  block.call.c = s.scores;
  block.call.c_stride = args.plan.pitch;
  block.call.k = args.d;
  block.call.bias = bias;
  jit::multiply(args.plan.keys, block);
}

// Rows [first, first + count) of a strip. Leaves 1 / sum of each in the factors: dv products a row
// are fewer than lk.
void softmax(const AttentionArgs& args, const Head& head, const Scratch& s, const Strip& strip,
             int64_t first, int64_t count, const LiveKeys& live, const TileMask& shared) {
  const int64_t pitch = args.plan.pitch;
  ScoreRows rows{first_score(args, s, strip) + first * pitch,
                 count,
                 pitch,
                 strip.keys.count,
                 shared.row,
                 0,
                 1,
                 args.masked_rows_zero};
  float* factors = s.factors + first;
  const bool own = head.mask != nullptr && args.mask_row != 0;
  if (!own) return args.plan.row->softmax_rows(rows, factors);
  const float* mask = head.mask + (strip.row + first) * args.mask_row;
  rows.mask_step = args.mask_key;
  if (live.run_count == 1) {
    rows.mask = mask + (live.runs[0].first + strip.keys.first) * args.mask_key;
    rows.mask_row = args.mask_row;
    return args.plan.row->softmax_rows(rows, factors);
  }
  rows.rows = 1;
  rows.mask = s.mask;
  for (int64_t i = 0; i < count; ++i, rows.scores += pitch) {
    gather_mask(live, mask + i * args.mask_row, s.mask);
    args.plan.row->softmax_rows(rows, factors + i);
  }
}

void multiply_values(const AttentionArgs& args, const Head& head, const Scratch& s,
                     const Strip& strip, const LiveKeys& live) {
  const bool staged = args.program != nullptr;
  float* out = staged ? s.results : head.out + strip.row * args.out_strides.row;
  const int64_t stride = staged ? args.dv : args.out_strides.row;
  jit::GemmBlock block;
  block.c_is_near = true;
  block.rows = strip.rows;
  block.columns = args.dv;
  block.panel_stride = live.count * args.plan.values.columns;
  block.call.a = first_score(args, s, strip);
  block.call.a_stride = args.plan.pitch;
  block.call.b = s.values + strip.keys.first * args.plan.values.columns;
  block.call.c = out;
  block.call.c_stride = stride;
  block.call.k = strip.keys.count;
  jit::multiply(args.plan.values, block);
  args.plan.row->scale_rows({out, strip.rows, stride, args.dv}, s.factors);
}

void run_program(const AttentionArgs& args, const Head& head, const Scratch& s,
                 const Strip& strip) {
  const EltOperand results{s.results, args.dv, 1};
  const int64_t place = strip.row * args.out_strides.row;
  EltStrip to{&results, nullptr, args.out_strides.row, strip.rows, args.dv};
  if (head.out_bytes != nullptr) {
    to.out = head.out_bytes + place;
    to.out_type = args.bytes_type;
  } else {
    to.out = head.out + place;
  }
  args.plan.strip_program(*args.program, to);
}

// The worker's next tile, if there is one.
struct NextTile {
  bool exists;
  Place place;
};

NextTile next_tile(const AttentionArgs& args, int64_t tile, const Worker& worker) {
  const int64_t next = tile + 1;
  const int64_t tiles = tiles_of(args, args.plan.block);
  if (next >= part_begin(tiles, worker.index + 1, worker.count)) return {};
  return {true, place_of(args, next)};
}

void run_tile(const void* raw, int64_t tile, const Worker& worker) {
  const auto& args = *static_cast<const AttentionArgs*>(raw);
  const Scratch scratch = split(args, worker);
  const Place place = place_of(args, tile);
  const Head& head = place.head;
  const QueryRows& rows = place.rows;
  const LiveKeys live = find_live_keys(args, head, rows, scratch.flags);
  const int64_t tiles = tiles_of(args, args.plan.block);
  if (tile == part_begin(tiles, worker.index, worker.count)) {
    fetch(args, place, live, 0, rows.count);
  }
  pack(args, head, scratch, live);
  const TileMask mask = mask_of(args, head, scratch, live);
  const NextTile next = next_tile(args, tile, worker);
  const int64_t end = rows.first + rows.count;
  for (int64_t row = rows.first; row < end; row += args.plan.strip) {
    const KeyRun keys = strip_keys(args, live, (row - rows.first) / args.plan.strip);
    const Strip strip{row, std::min(args.plan.strip, end - row), keys};
    multiply_scores(args, head, scratch, strip, mask.bias);
    // In pieces, between which the worker asks for what its next tile reads; keys are taken to be
    // as live there as here.
    for (int64_t i = 0, count = 0; i < strip.rows; i += count) {
      count = std::min(kRowsTogether, strip.rows - i);
      const int64_t at = row - rows.first + i;
      if (next.exists) fetch(args, next.place, live, at, at + count);
      softmax(args, head, scratch, strip, i, count, live, mask);
    }
    multiply_values(args, head, scratch, strip, live);
    if (args.program != nullptr) run_program(args, head, scratch, strip);
  }
}

void check(const AttentionArgs& args) {
  for (const int64_t extent : {args.batch, args.heads, args.lq, args.lk, args.d, args.dv}) {
    if (extent < 0) throw InternalError("attention with the negative extent ", extent);
  }
}

}  // namespace

Job plan_attention(const AttentionRow& row, AttentionArgs& args) {
  check(args);
  AttentionArgs::Plan& plan = args.plan;
  plan = {};
  plan.row = &row;
  plan.keys = tile_for(row, args.lk);
  plan.values = tile_for(row, args.dv);
  plan.block = choose_block(args);
  plan.blocks = ceil_div(args.lq, plan.block);
  // Rows of scores: whole panels and whole vectors of 16, and one line more, so that no power of
  // two puts all rows into the same sets of L1.
  plan.pitch = round_up(round_up(args.lk, plan.keys.columns), 16) + 16;
  plan.strip = choose_strip(args, plan.keys.rows);
  if (args.program != nullptr) plan.strip_program = eltwise_strip(row.isa);
  const int64_t floats = aligned(keys_floats(args)) + aligned(values_floats(args)) +
                         aligned(checked_mul(plan.strip, plan.pitch, "scores")) +
                         aligned(plan.strip) + aligned(results_floats(args)) +
                         aligned(mask_floats(args));
  plan.scratch_bytes = checked_mul(floats, sizeof(float), "attention scratch") + flags_bytes(args);
  return {run_tile, &args, tiles_of(args, plan.block), true};
}

}  // namespace planck
