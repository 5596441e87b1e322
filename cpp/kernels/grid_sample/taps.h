#pragma once
// What a tile in planes knows of its places: worked out once, read for each channel.
#include "kernels/grid_sample/grid_sample.h"

namespace planck {

// Instead of the offset of an element, which a flipped picture may have below zero.
inline constexpr int64_t kNowhere = INT64_MIN;

struct PlaneTaps {
  // Where the four elements around a place are neighbours: the first of them. Else any that may be
  // read so, as long as one place has them. Of nearest elements: the element, or kNowhere.
  int64_t first[kGridPlaces];
  float up[kGridPlaces][2], low[kGridPlaces][2];  // weights, of both columns
  // The other places, by their elements; kNowhere reads zero. Places without any element are the
  // last ones of `place`.
  int32_t outside, empty;
  int32_t place[kGridPlaces];
  int64_t at[kGridPlaces][4];
};

}  // namespace planck
