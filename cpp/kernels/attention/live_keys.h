#pragma once
// Which keys the queries of one tile look at. A key that the mask hides from all of them has the
// probability 0 in every row, so that neither its score nor its value need be looked at: sums with
// and without it are equal. That holds where
//   - the mask is -inf and masked_rows_zero says that -inf hides a score whatever it is; or
//   - it is so far below the row's largest that exp gives 0, however large the scores may be, which
//     the largest magnitudes of q and k tell; and
//   - all values are finite, since 0 times another is NaN.
// Keys are left out in groups of sixteen, as many as a row has partial sums, which so add up what
// they always do.
#include <cstdint>

#include "kernels/attention/rows.h"

namespace planck {

struct AttentionHead {
  const float *q, *k, *v, *mask;
  float* out;
  uint8_t* out_bytes;
};

struct KeyRun {
  int64_t first = 0, count = 0;
};

struct LiveKeys {
  static constexpr int kMostRuns = 8;
  KeyRun runs[kMostRuns] = {};  // ascending; all but the last are whole panels
  int run_count = 0;
  int64_t count = 0;               // of keys in all runs
  const uint8_t* flags = nullptr;  // of each strip's groups, or none: all are alike
};

// What a tile takes aside for its search.
int64_t flags_bytes(const AttentionArgs& args);

struct QueryRows {
  int64_t first, count;
};
LiveKeys find_live_keys(const AttentionArgs& args, const AttentionHead& head, QueryRows rows,
                        uint8_t* flags);

// A row of the mask for the keys that are left; `gathered` has room for lk floats.
void gather_mask(const LiveKeys& live, const float* mask, float* gathered);

// The keys of one strip of the tile, as places among those that are left.
KeyRun strip_keys(const AttentionArgs& args, const LiveKeys& live, int64_t strip);

}  // namespace planck
