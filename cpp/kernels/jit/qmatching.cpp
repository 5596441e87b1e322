#include "kernels/jit/qmatching.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "base/error.h"

namespace planck::jit {
namespace {

constexpr size_t kMostGroups = 128;

// Parts and what is left beside them, in one byte each: comparisons of bytes are fast.
struct Bytes {
  alignas(16) std::array<int8_t, kMatchedParts> part, room;
};

// Parts of 0 to 256: all above `most` are alike.
Bytes bytes_of(const GroupParts& g, int most) {
  const int middle = most / 2;
  Bytes out;
  for (size_t i = 0; i < kMatchedParts; ++i) {
    const int part = std::min<int>(g.part[i], most + 1);
    out.part[i] = static_cast<int8_t>(part - middle - 1);
    out.room[i] = static_cast<int8_t>(most - part - middle - 1);
  }
  return out;
}

uint8_t cost_of(const Bytes& a, const Bytes& b) {
  constexpr size_t kLanes = 16;
  alignas(16) std::array<uint8_t, kLanes> sums = {};
  for (size_t i = 0; i < kMatchedParts; i += kLanes) {
    for (size_t j = 0; j < kLanes; ++j) {
      sums[j] = static_cast<uint8_t>(sums[j] + (a.part[i + j] > b.room[i + j]));
    }
  }
  return std::accumulate(sums.begin(), sums.end(), uint8_t{0});
}

class Matching {
 public:
  Matching(std::span<const GroupParts> groups, int most)
      : count_(groups.size()), cost_(count_ * count_) {
    std::vector<Bytes> bytes;
    for (const GroupParts& g : groups) bytes.push_back(bytes_of(g, most));
    for (size_t a = 0; a < count_; ++a) {
      for (size_t b = a + 1; b < count_; ++b) {
        cost_[a * count_ + b] = cost_[b * count_ + a] = cost_of(bytes[a], bytes[b]);
      }
    }
  }

  // The cheapest couples first, whatever is left for the others.
  void take_cheapest() {
    std::array<std::vector<std::pair<uint8_t, uint8_t>>, kMatchedParts + 1> by_cost;
    for (size_t a = 0; a < count_; ++a) {
      for (size_t b = a + 1; b < count_; ++b) {
        by_cost[cost(a, b)].emplace_back(static_cast<uint8_t>(a), static_cast<uint8_t>(b));
      }
    }
    std::vector<bool> taken(count_, false);
    for (const auto& couples : by_cost) {
      for (const auto& [a, b] : couples) {
        if (taken[a] || taken[b]) continue;
        taken[a] = taken[b] = true;
        couples_.emplace_back(a, b);
      }
    }
    for (size_t a = 0; a < count_; ++a) {
      if (!taken[a]) single_.push_back(static_cast<uint8_t>(a));
    }
  }

  // Two couples change partners where that is cheaper.
  void improve() {
    constexpr int kPasses = 3;
    for (int pass = 0, changes = 1; pass < kPasses && changes > 0; ++pass) {
      changes = 0;
      for (size_t i = 0; i < couples_.size(); ++i) {
        for (size_t j = i + 1; j < couples_.size(); ++j)
          changes += exchange(couples_[i], couples_[j]);
      }
    }
  }

  void write(std::span<uint8_t> order) const {
    size_t at = 0;
    for (const auto& [a, b] : couples_) order[at++] = a, order[at++] = b;
    for (const uint8_t a : single_) order[at++] = a;
  }

 private:
  using Couple = std::pair<uint8_t, uint8_t>;
  int cost(size_t a, size_t b) const { return cost_[a * count_ + b]; }
  int exchange(Couple& x, Couple& y) const {
    const int now = cost(x.first, x.second) + cost(y.first, y.second);
    const int firsts = cost(x.first, y.first) + cost(x.second, y.second);
    const int crossed = cost(x.first, y.second) + cost(x.second, y.first);
    if (std::min(firsts, crossed) >= now) return 0;
    std::swap(x.second, firsts <= crossed ? y.first : y.second);
    return 1;
  }

  size_t count_;
  std::vector<uint8_t> cost_;
  std::vector<Couple> couples_;
  std::vector<uint8_t> single_;
};

}  // namespace

void match_groups(std::span<const GroupParts> groups, int most, std::span<uint8_t> order) {
  if (groups.size() > kMostGroups || order.size() != groups.size()) {
    throw InternalError("no matching of ", groups.size(), " groups");
  }
  Matching matching(groups, most);
  matching.take_cheapest();
  matching.improve();
  matching.write(order);
}

}  // namespace planck::jit
