#include <algorithm>
#include <numeric>
#include <type_traits>

#include "base/guard.h"
#include "kernels/lane/rows.h"

namespace planck {
namespace {

// One tile: columns [from, from + columns) of one outer place.
struct LaneTile {
  int64_t outer, from, columns;
};

template <class T>
void sum(const LaneArgs& a, const LaneTile& t) {
  using Sum = std::conditional_t<std::is_floating_point_v<T>, double, uint64_t>;
  Sum sums[kLaneBlock] = {};
  for (int64_t step = 0; step < a.count; ++step) {
    check_guard_at(static_cast<size_t>(step));
    const int64_t i = a.reverse ? a.count - 1 - step : step;
    const int64_t at = (t.outer * a.count + i) * a.inner + t.from;
    const T* x = static_cast<const T*>(a.x) + at;
    T* out = static_cast<T*>(a.out) + at;
    for (int64_t c = 0; c < t.columns; ++c) {
      const Sum next = sums[c] + static_cast<Sum>(x[c]);
      out[c] = static_cast<T>(a.exclusive ? sums[c] : next);
      sums[c] = next;
    }
  }
}

template <class T>
bool below(T a, T b) {
  return a < b || (a == a && b != b);
}

// The first place from i on, or a few before it, where something may be better than the worst.
template <class T>
int64_t skip_worse(const T* x, int64_t i, int64_t count, T worst, bool largest) {
  constexpr int64_t kBlock = 8;
  const auto skip = [&](const auto& worse) {
    for (; i + kBlock <= count; i += kBlock) {
      bool all = true;
      for (int64_t j = 0; j < kBlock; ++j) all &= worse(x[i + j]);
      if (!all) break;
    }
    return i;
  };
  if (largest) return skip([worst](T v) { return v <= worst; });  // false for NaN
  return skip([worst](T v) { return v >= worst; });
}

// A heap of the best so far, the worst of them in front: most elements are refused by one
// comparison with it.
template <class T>
void top(const LaneArgs& a, const LaneTile& t, int64_t* order) {
  if (a.k == 0) return;
  for (int64_t c = t.from; c < t.from + t.columns; ++c) {
    check_guard();
    const T* x = static_cast<const T*>(a.x) + t.outer * a.count * a.inner + c;
    const auto better = [&](int64_t i, int64_t j) {
      const T p = x[i * a.inner], q = x[j * a.inner];
      if (below(p, q)) return !a.largest;
      if (below(q, p)) return a.largest;
      return i < j;
    };
    std::iota(order, order + a.k, int64_t{0});
    std::make_heap(order, order + a.k, better);
    T worst = x[order[0] * a.inner];
    for (int64_t i = a.k; i < a.count; ++i) {
      if (a.inner == 1) i = skip_worse(x, i, a.count, worst, a.largest);
      if (i == a.count) break;
      const T v = x[i * a.inner];
      if (a.largest ? !below(worst, v) : !below(v, worst)) continue;  // equal ones: the first
      std::pop_heap(order, order + a.k, better);
      order[a.k - 1] = i;
      std::push_heap(order, order + a.k, better);
      worst = x[order[0] * a.inner];
    }
    std::sort_heap(order, order + a.k, better);
    const int64_t to = t.outer * a.k * a.inner + c;
    for (int64_t i = 0; i < a.k; ++i) {
      static_cast<T*>(a.out)[to + i * a.inner] = x[order[i] * a.inner];
      a.indices[to + i * a.inner] = order[i];
    }
  }
}

// p is to be chosen over q.
template <class T>
bool wins(T p, T q, bool largest) {
  return (largest ? p > q : p < q) || (p != p && q == q);
}

template <class T>
void arg(const LaneArgs& a, const LaneTile& t) {
  const T* x = static_cast<const T*>(a.x) + t.outer * a.count * a.inner + t.from;
  int64_t* best = a.indices + t.outer * a.inner + t.from;
  T values[kLaneBlock];
  std::copy_n(x, t.columns, values);
  std::fill_n(best, t.columns, int64_t{0});
  for (int64_t i = 1; i < a.count; ++i) {
    check_guard_at(static_cast<size_t>(i));
    for (int64_t c = 0; c < t.columns; ++c) {
      const T v = x[i * a.inner + c];
      if (!wins(v, values[c], a.largest) && !(a.last && !wins(values[c], v, a.largest))) continue;
      values[c] = v;
      best[c] = i;
    }
  }
}

template <class T>
void run(const LaneArgs& a, const LaneTile& t, const Worker& worker) {
  switch (a.op) {
    case LaneOp::sum:
      return sum<T>(a, t);
    case LaneOp::top:
      return top<T>(a, t, reinterpret_cast<int64_t*>(worker.scratch));
    case LaneOp::arg:
      return arg<T>(a, t);
  }
}

}  // namespace

void lane_any_64_portable(const void* args, int64_t tile, const Worker& worker) {
  const auto& a = *static_cast<const LaneArgs*>(args);
  const int64_t blocks = (a.inner + kLaneBlock - 1) / kLaneBlock;
  const int64_t from = tile % blocks * kLaneBlock;
  const LaneTile t = {tile / blocks, from, std::min(kLaneBlock, a.inner - from)};
  switch (a.type) {
    case LaneType::f32:
      return run<float>(a, t, worker);
    case LaneType::s32:
      return run<int32_t>(a, t, worker);
    case LaneType::s64:
      return run<int64_t>(a, t, worker);
  }
}

}  // namespace planck
