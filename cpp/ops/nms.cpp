#include "ops/nms.h"

#include <algorithm>

#include "base/checked.h"
#include "ops/support.h"

namespace planck::ops {

namespace {

struct Box {
  double low[2], high[2];
  double area() const { return (high[0] - low[0]) * (high[1] - low[1]); }
};

Box box_at(const Wide& boxes, int64_t index, bool center) {
  const double* b = boxes.real.data() + 4 * index;
  Box box{};
  for (size_t side = 0; side < 2; ++side) {
    const double from = center ? b[side] - b[side + 2] / 2 : b[side];
    const double to = center ? b[side] + b[side + 2] / 2 : b[side + 2];
    box.low[side] = std::min(from, to);
    box.high[side] = std::max(from, to);
  }
  return box;
}

// Intersection over union; 0 where one of them is empty.
double overlap(const Box& a, const Box& b) {
  double common = 1;
  for (size_t side = 0; side < 2; ++side) {
    const double extent = std::min(a.high[side], b.high[side]) - std::max(a.low[side], b.low[side]);
    if (!(extent > 0)) return 0;
    common *= extent;
  }
  const double all = a.area() + b.area() - common;
  return a.area() > 0 && b.area() > 0 && all > 0 ? common / all : 0;
}

double number(const Evaluation& call, size_t i, double missing) {
  if (!call.has(i)) return missing;
  if (call.at(i).count() != 1) {
    throw RunError("NonMaxSuppression: input ", i, " has ", call.at(i).count(),
                   " elements, expected one");
  }
  return call.at(i).at(0);
}

// One class of one batch.
struct Choice {
  const Wide &boxes, &scores;
  bool center;
  int64_t first_box, first_score, count;  // where its boxes and scores begin
  double most, overlap_limit, score_limit;

  std::vector<int64_t> best_first() const {
    std::vector<int64_t> order;
    for (int64_t i = 0; i < count; ++i) {
      if (score(i) > score_limit) order.push_back(i);
    }
    std::ranges::stable_sort(order, std::greater{}, [&](int64_t i) { return score(i); });
    return order;
  }

  std::vector<int64_t> kept() const {
    std::vector<int64_t> out;
    std::vector<Box> chosen;
    for (const int64_t i : best_first()) {
      check_guard();
      if (static_cast<double>(out.size()) >= most) break;
      const Box box = box_at(boxes, first_box + i, center);
      const bool covered = std::ranges::any_of(
          chosen, [&](const Box& other) { return overlap(box, other) > overlap_limit; });
      if (covered) continue;
      chosen.push_back(box);
      out.push_back(i);
    }
    return out;
  }

 private:
  double score(int64_t i) const { return scores.real[static_cast<size_t>(first_score + i)]; }
};

void check_shapes(const Wide& boxes, const Wide& scores) {
  const bool fits = boxes.rank() == 3 && scores.rank() == 3 && boxes.shape[2] == 4 &&
                    boxes.shape[0] == scores.shape[0] && boxes.shape[1] == scores.shape[2];
  if (fits) return;
  throw RunError("NonMaxSuppression: boxes ", shape_text(boxes.shape), " and scores ",
                 shape_text(scores.shape), ", expected [batches,n,4] and [batches,classes,n]");
}

}  // namespace

void NonMaxSuppression::infer(Inference& call) const {
  for (const size_t i : {0, 1}) {
    need_float(kName, call, i);
    need_rank(kName, call, i, 3, 3);
  }
  if (call.has(2)) need_integer(kName, call, 2);
  for (const size_t i : {3, 4}) {
    if (call.has(i)) need_float(kName, call, i);
  }
  const Dim& sides = call.at(0).type.dims[2];
  if (sides.known() && sides != Dim(4)) {
    throw GraphError("NonMaxSuppression: boxes are ", call.at(0).type,
                     ", expected four numbers each");
  }
  set_type(call, 0, DType::s64, {fresh_dim(call, 0, 0), 3});
}

void NonMaxSuppression::reference(Evaluation& call) const {
  const Wide &boxes = call.at(0), &scores = call.at(1);
  check_shapes(boxes, scores);
  const double most = number(call, 2, 0), overlap_limit = number(call, 3, 0);
  const double score_limit = number(call, 4, -std::numeric_limits<double>::infinity());
  const int64_t classes = scores.shape[1], count = boxes.shape[1];
  std::vector<int64_t> rows;
  for (int64_t batch = 0; batch < scores.shape[0]; ++batch) {
    for (int64_t c = 0; c < classes; ++c) {
      const Choice choice{
          boxes, scores, center_point_box != 0, batch * count, (batch * classes + c) * count,
          count, most,   overlap_limit,         score_limit};
      for (const int64_t i : choice.kept()) rows.insert(rows.end(), {batch, c, i});
    }
  }
  Wide out = make_wide(DType::s64, {static_cast<int64_t>(rows.size()) / 3, 3});
  out.integer = std::move(rows);
  call.out[0] = std::move(out);
}
PLANCK_OP(NonMaxSuppression, 11)

}  // namespace planck::ops
