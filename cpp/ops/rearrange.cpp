#include "ops/rearrange.h"

#include "ops/elementwise.h"

namespace planck::ops {

namespace {

int64_t checked_block(std::string_view op, int64_t size, std::string_view mode) {
  if (size < 1 || size > INT32_MAX) throw GraphError(op, ": blocksize ", size);
  if (mode != "DCR" && mode != "CRD") throw GraphError(op, ": mode '", mode, "'");
  return size;
}

Dim divided(std::string_view op, const Dim& extent, int64_t by) {
  if (const auto exact = exact_div(extent, Dim(by))) return *exact;
  if (extent.known()) throw GraphError(op, ": the extent ", extent, " does not divide by ", by);
  return floordiv(extent, Dim(by));
}

// x reshaped to `split`, its axes permuted, reshaped to `shape`.
Wide permuted(const Wide& x, const Shape& split, std::initializer_list<size_t> perm, Shape shape) {
  const Wide apart = reshaped(x, split);
  const std::vector<Walk> plain = plain_walks(apart.shape);
  std::vector<Walk> walks;
  for (const size_t axis : perm) walks.push_back(plain[axis]);
  return reshaped(take(apart, walk(walks)), std::move(shape));
}

}  // namespace

void DepthToSpace::infer(Inference& call) const {
  const int64_t b = checked_block(kName, blocksize, mode);
  need_rank(kName, call, 0, 4, 4);
  const auto& [dtype, d] = call.at(0).type;
  set_type(call, 0, dtype, {d[0], divided(kName, d[1], b * b), d[2] * Dim(b), d[3] * Dim(b)});
}

void DepthToSpace::reference(Evaluation& call) const {
  const Wide& x = call.at(0);
  const int64_t b = checked_block(kName, blocksize, mode), n = x.shape[0], h = x.shape[2],
                w = x.shape[3], c = x.shape[1] / (b * b);
  const Shape shape{n, c, h * b, w * b};
  call.out[0] = mode == "DCR" ? permuted(x, {n, b, b, c, h, w}, {0, 3, 4, 1, 5, 2}, shape)
                              : permuted(x, {n, c, b, b, h, w}, {0, 1, 4, 2, 5, 3}, shape);
}
PLANCK_OP(DepthToSpace, 13)

void SpaceToDepth::infer(Inference& call) const {
  const int64_t b = checked_block(kName, blocksize, mode);
  need_rank(kName, call, 0, 4, 4);
  const auto& [dtype, d] = call.at(0).type;
  set_type(call, 0, dtype,
           {d[0], d[1] * Dim(b * b), divided(kName, d[2], b), divided(kName, d[3], b)});
}

void SpaceToDepth::reference(Evaluation& call) const {
  const Wide& x = call.at(0);
  const int64_t b = checked_block(kName, blocksize, mode), n = x.shape[0], c = x.shape[1],
                h = x.shape[2] / b, w = x.shape[3] / b;
  const Shape shape{n, c * b * b, h, w};
  call.out[0] = mode == "DCR" ? permuted(x, {n, c, h, b, w, b}, {0, 3, 5, 1, 2, 4}, shape)
                              : permuted(x, {n, c, h, b, w, b}, {0, 1, 3, 5, 2, 4}, shape);
}
PLANCK_OP(SpaceToDepth, 13)

void ReverseSequence::infer(Inference& call) const {
  need_rank(kName, call, 0, 2);
  need_rank(kName, call, 1, 1, 1);
  need_integer(kName, call, 1);
  const TensorType& x = call.at(0).type;
  const int64_t batch = checked_axis(batch_axis, x.rank()),
                time = checked_axis(time_axis, x.rank());
  if (batch + time != 1) throw GraphError("ReverseSequence: axes ", batch, " and ", time);
  set_type(call, 0, x.dtype, x.dims);
}

void ReverseSequence::reference(Evaluation& call) const {
  const Wide& x = call.at(0);
  const auto batch = static_cast<size_t>(checked_axis(batch_axis, x.rank()));
  const auto time = static_cast<size_t>(checked_axis(time_axis, x.rank()));
  if (call.at(1).count() != x.shape[batch]) {
    throw RunError("ReverseSequence: ", call.at(1).count(), " lengths for ", x.shape[batch]);
  }
  Moved moved = walk(plain_walks(x.shape));
  const auto strides = row_major_strides(x.shape);
  for (int64_t& at : moved.index) {
    check_guard_at(static_cast<size_t>(&at - moved.index.data()));
    const auto place = [&](size_t axis) { return at / strides[axis] % x.shape[axis]; };
    const int64_t length = integers(call, 1)[static_cast<size_t>(place(batch))], t = place(time);
    if (length < 0 || length > x.shape[time]) throw RunError("ReverseSequence: length ", length);
    if (t < length) at += (length - 1 - 2 * t) * strides[time];
  }
  call.out[0] = take(x, moved);
}
PLANCK_OP(ReverseSequence, 10)

void EyeLike::infer(Inference& call) const {
  need_rank(kName, call, 0, 2, 2);
  const TensorType& x = call.at(0).type;
  set_type(call, 0, dtype == 0 ? x.dtype : dtype_attribute(kName, "dtype", dtype), x.dims);
}

void EyeLike::reference(Evaluation& call) const {
  const Wide& x = call.at(0);
  Wide out = make_wide(dtype == 0 ? x.dtype : dtype_attribute(kName, "dtype", dtype), x.shape);
  const int64_t rows = x.shape[0], columns = x.shape[1];
  const int64_t from = std::clamp(k, -rows, columns);  // beyond the corners: no ones
  for (int64_t r = 0; r < rows; ++r) {
    if (r + from >= 0 && r + from < columns)
      store(out, static_cast<size_t>(r * columns + r + from), 1);
  }
  call.out[0] = std::move(out);
}
PLANCK_OP(EyeLike, 22)

}  // namespace planck::ops
