#include "kernels/attention/live_keys.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/checked.h"
#include "kernels/jit/block.h"

namespace planck {
namespace {

constexpr int64_t kGroup = 16;
constexpr float kInf = std::numeric_limits<float>::infinity();

int64_t groups_of(const AttentionArgs& args) { return ceil_div(args.lk, kGroup); }

// Rows of a mask are asked one by one only where they differ.
int64_t mask_strips(const AttentionArgs& args, int64_t rows) {
  return args.mask_row == 0 ? 1 : ceil_div(rows, args.plan.strip);
}

LiveKeys all_keys(const AttentionArgs& args) {
  LiveKeys live;
  live.runs[0] = {0, args.lk};
  live.run_count = 1;
  live.count = args.lk;
  return live;
}

// Fills the flags of each strip; false where all of them are set.
bool mark(const AttentionArgs& args, const AttentionHead& head, QueryRows rows, float bound,
          uint8_t* flags) {
  const int64_t groups = groups_of(args), strips = mask_strips(args, rows.count);
  bool some_dead = false;
  for (int64_t s = 0; s < strips; ++s, flags += groups) {
    std::fill(flags, flags + groups, uint8_t{0});
    const int64_t first = s * args.plan.strip;
    const int64_t count = args.mask_row == 0 ? 1 : std::min(args.plan.strip, rows.count - first);
    const float* mask = head.mask + (rows.first + first) * args.mask_row;
    const int64_t live =
        args.plan.row->mark_keys({mask, count, args.mask_row, args.lk, bound}, flags);
    some_dead = some_dead || live < groups;
  }
  return some_dead;
}

// No scaled score is larger: sums of d products, each rounded.
float largest_score(const AttentionArgs& args, const AttentionHead& head, QueryRows rows) {
  constexpr float kRounding = 1.01F;
  const LargestFn largest = args.plan.row->largest;
  const float* q = head.q + rows.first * args.q_strides.row;
  jit::prefetch_rows(head.k, args.k_strides.row, args.lk, args.d);
  jit::prefetch_rows(q, args.q_strides.row, rows.count, args.d);
  const float score = largest(q, rows.count, args.q_strides.row, args.d) *
                      largest(head.k, args.lk, args.k_strides.row, args.d) *
                      static_cast<float>(args.d) * kRounding;
  return score < kInf ? score * std::abs(args.scale) * kRounding : kInf;
}

bool values_are_finite(const AttentionArgs& args, const AttentionHead& head) {
  return args.plan.row->largest(head.v, args.lk, args.v_strides.row, args.dv) < kInf;
}

// A run ends with a whole panel, so that the next one begins with a panel too.
void add_run(const AttentionArgs& args, LiveKeys& live, int64_t first, int64_t end) {
  const int64_t width = args.plan.keys.columns;
  if (live.run_count > 0) {
    KeyRun& last = live.runs[live.run_count - 1];
    last.count = round_up(last.count, width);
    if (last.first + last.count >= first || live.run_count == LiveKeys::kMostRuns) {
      last.count = end - last.first;
      return;
    }
  }
  live.runs[live.run_count++] = {first, end - first};
}

void find_runs(const AttentionArgs& args, const uint8_t* alive, LiveKeys& live) {
  const int64_t groups = groups_of(args);
  live.run_count = 0;
  for (int64_t g = 0; g < groups; ++g) {
    if (alive[g] == 0) continue;
    const int64_t first = g;
    while (g < groups && alive[g] != 0) ++g;
    add_run(args, live, first * kGroup, std::min(g * kGroup, args.lk));
  }
  // Rows of nothing but -inf are what softmax makes of any of their keys.
  if (live.run_count == 0) add_run(args, live, 0, std::min(kGroup, args.lk));
  live.count = 0;
  for (int i = 0; i < live.run_count; ++i) live.count += live.runs[i].count;
}

}  // namespace

int64_t flags_bytes(const AttentionArgs& args) {
  if (args.mask == nullptr) return 0;
  const int64_t strips = mask_strips(args, std::min(args.plan.block, args.lq));
  return checked_mul(strips + 1, groups_of(args), "flags of keys");
}

LiveKeys find_live_keys(const AttentionArgs& args, const AttentionHead& head, QueryRows rows,
                        uint8_t* flags) {
  LiveKeys live = all_keys(args);
  if (head.mask == nullptr || args.mask_key != 1 || args.lk <= kGroup) return live;
  // A bound of 0 finds all that may be hidden: where nothing is, nothing else is looked at.
  const bool hides = args.masked_rows_zero;
  if (!mark(args, head, rows, hides ? kInf : 0, flags)) return live;
  jit::prefetch_rows(head.v, args.v_strides.row, args.lk, args.dv);
  if (!hides) {
    const float bound = largest_score(args, head, rows);
    if (bound == kInf || !mark(args, head, rows, bound, flags)) return live;
  }
  if (!values_are_finite(args, head)) return live;
  const int64_t groups = groups_of(args), strips = mask_strips(args, rows.count);
  uint8_t* alive = flags + strips * groups;
  std::fill(alive, alive + groups, uint8_t{0});
  for (const uint8_t* strip = flags; strip != alive; strip += groups) {
    for (int64_t g = 0; g < groups; ++g) alive[g] |= strip[g];
  }
  find_runs(args, alive, live);
  if (live.run_count == 1 && strips > 1) live.flags = flags;
  return live;
}

void gather_mask(const LiveKeys& live, const float* mask, float* gathered) {
  float* to = gathered;
  for (int i = 0; i < live.run_count; ++i) {
    const float* from = mask + live.runs[i].first;
    to = std::copy(from, from + live.runs[i].count, to);
  }
}

KeyRun strip_keys(const AttentionArgs& args, const LiveKeys& live, int64_t strip) {
  if (live.flags == nullptr) return {0, live.count};
  const int64_t from = live.runs[0].first / kGroup;
  const uint8_t* first = live.flags + strip * groups_of(args) + from;
  const uint8_t* end = first + ceil_div(live.count, kGroup);
  const uint8_t* alive = std::find(first, end, 1);
  if (alive == end) return {0, std::min(kGroup, live.count)};
  while (end[-1] == 0) --end;
  const int64_t start = (alive - first) * kGroup;
  return {start, std::min((end - first) * kGroup, live.count) - start};
}

}  // namespace planck
