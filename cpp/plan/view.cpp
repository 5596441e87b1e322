#include "plan/view.h"

#include <numeric>
#include <optional>

namespace planck {

std::vector<Dim> dense_strides(std::span<const Dim> shape) {
  std::vector<Dim> strides(shape.size(), Dim(1));
  for (size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
  return strides;
}

PlanValue permuted_view(PlanValue v, std::span<const int64_t> perm) {
  const std::vector<Dim> shape = v.shape, strides = v.strides;
  for (size_t i = 0; i < perm.size(); ++i) {
    v.shape[i] = shape[static_cast<size_t>(perm[i])];
    v.strides[i] = strides[static_cast<size_t>(perm[i])];
  }
  return v;
}

// Builds the order from the inside: the next axis is the one whose stride is what lies within.
std::optional<std::vector<int64_t>> memory_order(const PlanValue& v) {
  const size_t rank = v.shape.size();
  std::vector<int64_t> order(rank);
  std::iota(order.begin(), order.end(), 0);
  if (is_dense(v)) return order;
  std::vector<bool> placed(rank);
  std::vector<int64_t> inside;  // innermost first
  Dim want(1);
  while (true) {
    size_t next = rank;
    for (size_t i = 0; i < rank && next == rank; ++i) {
      if (!placed[i] && v.shape[i] != Dim(1) && v.strides[i] == want) next = i;
    }
    if (next == rank) break;
    placed[next] = true;
    inside.push_back(static_cast<int64_t>(next));
    want = want * v.shape[next];
  }
  order.clear();
  for (size_t i = 0; i < rank; ++i) {  // axes of one element: outermost, in their own order
    if (placed[i]) continue;
    if (v.shape[i] != Dim(1)) return std::nullopt;
    order.push_back(static_cast<int64_t>(i));
  }
  order.insert(order.end(), inside.rbegin(), inside.rend());
  return order;
}

namespace {

// Walks old and new axes in groups of equal product. Products are symbolic, so a group grows by
// exact division: the larger side has to be a multiple of the smaller.
class Reshaper {
 public:
  Reshaper(const PlanValue& v, std::span<const Dim> shape) : old_(v), shape_(shape) {}

  std::optional<std::vector<Dim>> run() {
    while (true) {
      while (i_ < old_.shape.size() && old_.shape[i_] == Dim(1)) ++i_;
      while (j_ < shape_.size() && shape_[j_] == Dim(1)) out_.push_back(Dim(0)), ++j_;
      if (j_ == shape_.size()) break;
      if (i_ == old_.shape.size() || !group()) return std::nullopt;
    }
    if (i_ != old_.shape.size()) return std::nullopt;
    fix_ones();
    return out_;
  }

 private:
  bool group() {
    if (exact_div(old_.shape[i_], shape_[j_])) return split();
    return exact_div(shape_[j_], old_.shape[i_]) && merge();
  }

  // One old axis becomes several new ones.
  bool split() {
    std::optional<Dim> rest = old_.shape[i_];
    while (j_ < shape_.size()) {
      rest = exact_div(*rest, shape_[j_]);
      if (!rest) return false;
      out_.push_back(old_.strides[i_] * *rest);
      ++j_;
      if (*rest == Dim(1)) {
        ++i_;
        return true;
      }
    }
    return false;
  }

  // Several old axes that walk like one become one new axis.
  bool merge() {
    std::optional<Dim> rest = exact_div(shape_[j_], old_.shape[i_]);
    while (rest && *rest != Dim(1)) {
      size_t next = i_ + 1;
      while (next < old_.shape.size() && old_.shape[next] == Dim(1)) ++next;
      if (next == old_.shape.size() || old_.strides[i_] != old_.strides[next] * old_.shape[next]) {
        return false;
      }
      i_ = next;
      rest = exact_div(*rest, old_.shape[i_]);
    }
    if (!rest) return false;
    out_.push_back(old_.strides[i_]);
    ++i_;
    ++j_;
    return true;
  }

  // An axis of extent 1 takes the stride that keeps rows easy to see: that of what follows.
  void fix_ones() {
    for (size_t k = shape_.size(); k-- > 0;) {
      if (shape_[k] != Dim(1)) continue;
      out_[k] = k + 1 < shape_.size() ? out_[k + 1] * shape_[k + 1] : Dim(1);
    }
  }

  const PlanValue& old_;
  std::span<const Dim> shape_;
  std::vector<Dim> out_;
  size_t i_ = 0, j_ = 0;
};

// Neighbouring axes that walk like one as one: [10*B,L,D] in rows of D is [10*B*L,D], which may
// become [B,10*L,D].
PlanValue coalesced(const PlanValue& v) {
  PlanValue out = v;
  out.shape.clear(), out.strides.clear();
  for (size_t i = 0; i < v.shape.size(); ++i) {
    if (v.shape[i] == Dim(1)) continue;
    const bool one = !out.shape.empty() && out.strides.back() == v.strides[i] * v.shape[i];
    if (one) {
      out.shape.back() = out.shape.back() * v.shape[i];
      out.strides.back() = v.strides[i];
    } else {
      out.shape.push_back(v.shape[i]);
      out.strides.push_back(v.strides[i]);
    }
  }
  return out;
}

}  // namespace

std::optional<std::vector<Dim>> reshaped_strides(const PlanValue& v, std::span<const Dim> shape) {
  if (is_dense(v)) return dense_strides(shape);
  if (auto strides = Reshaper(v, shape).run()) return strides;
  const PlanValue whole = coalesced(v);
  return Reshaper(whole, shape).run();
}

}  // namespace planck
