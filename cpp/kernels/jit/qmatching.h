#pragma once
// Which groups of four weights go together as fours (qproofs.h): sums do not depend on the order of
// k, so that each group may take the partner with which the fewest sets leave 16 bits. About half
// as many corrections are left as for neighbours.
#include <array>
#include <cstdint>
#include <span>

namespace planck::jit {

// What a set's sums depend on: for each pair of each column the positive part, then the negative.
inline constexpr int kMatchedParts = 64;
struct GroupParts {
  std::array<int16_t, kMatchedParts> part = {};
};

// Orders groups so that [2i] and [2i + 1] are partners; with an odd number the last is alone. At
// most 128 groups. Two groups whose parts make more than `most` in some places cost as many.
void match_groups(std::span<const GroupParts> groups, int most, std::span<uint8_t> order);

}  // namespace planck::jit
