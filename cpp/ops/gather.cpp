#include "ops/gather.h"

#include <algorithm>

#include "base/checked.h"
#include "ops/support.h"

namespace planck::ops {

namespace {

void need_index(std::string_view op, const Inference& call) {
  const DType dtype = call.at(1).type.dtype;
  if (dtype == DType::s32 || dtype == DType::s64) return;
  throw GraphError(op, ": indices are ", call.at(1).type, ", expected s32 or s64");
}

int64_t checked_index(int64_t index, int64_t extent) {
  if (index < -extent || index >= extent) {
    throw RunError("index ", index, " is outside [", -extent, ", ", extent, ")");
  }
  return index < 0 ? index + extent : index;
}

template <class T>
std::vector<T> replaced(const std::vector<T>& dims, size_t axis, const std::vector<T>& by) {
  std::vector<T> out = dims;
  const auto at = out.erase(out.begin() + static_cast<std::ptrdiff_t>(axis));
  out.insert(at, by.begin(), by.end());
  return out;
}

Moved gathered(const Shape& shape, int64_t axis, const Shape& indices_shape,
               const std::vector<int64_t>& indices) {
  const auto at = static_cast<size_t>(checked_axis(axis, static_cast<int64_t>(shape.size())));
  std::vector<Walk> walks = plain_walks(shape);
  walks[at].positions.clear();
  for (const int64_t i : indices) walks[at].positions.push_back(checked_index(i, shape[at]));
  Moved moved = walk(walks);
  moved.shape = replaced(shape, at, indices_shape);
  return moved;
}

}  // namespace

void Gather::infer(Inference& call) const {
  need_rank(kName, call, 0, 1);
  need_index(kName, call);
  const auto& data = call.at(0).type;
  const auto at = static_cast<size_t>(checked_axis(axis, data.rank()));
  set_type(call, 0, data.dtype, replaced(data.dims, at, call.at(1).type.dims));
  const auto indices = numbers_of(call, 1);
  const auto shape = known_shape(call.at(1).type.dims);
  if (!indices || !shape) return;
  set_contents(call, 0, take_contents(call, 0, [&](const Shape& from) {
                 return gathered(from, axis, *shape, *indices);
               }));
}

void Gather::reference(Evaluation& call) const {
  const Wide& indices = call.at(1);
  call.out[0] =
      take(call.at(0), gathered(call.at(0).shape, axis, indices.shape, integers(call, 1)));
}
PLANCK_OP(Gather, 13)

void GatherElements::infer(Inference& call) const {
  need_rank(kName, call, 0, 1);
  need_index(kName, call);
  const auto& data = call.at(0).type;
  checked_axis(axis, data.rank());
  need_rank(kName, call, 1, data.rank(), data.rank());
  set_type(call, 0, data.dtype, call.at(1).type.dims);
}

void GatherElements::reference(Evaluation& call) const {
  const Wide &data = call.at(0), &indices = call.at(1);
  const auto at = static_cast<size_t>(checked_axis(axis, data.rank()));
  if (indices.rank() != data.rank()) throw RunError("data and indices differ in rank");
  std::vector<Walk> walks = plain_walks(data.shape);
  for (size_t d = 0; d < walks.size(); ++d) {
    if (d != at && indices.shape[d] > data.shape[d]) {
      throw RunError("indices of shape ", shape_text(indices.shape), " exceed data of shape ",
                     shape_text(data.shape));
    }
    walks[d].positions = counted(indices.shape[d]);
  }
  const int64_t stride = walks[at].stride;
  walks[at].positions.assign(walks[at].positions.size(), 0);
  Moved moved = walk(walks);
  for (size_t i = 0; i < moved.index.size(); ++i) {
    check_guard_at(i);
    moved.index[i] += stride * checked_index(integers(call, 1)[i], data.shape[at]);
  }
  call.out[0] = take(data, moved);
}
PLANCK_OP(GatherElements, 13)

namespace {

// batch extents, then the coordinates' own, then what is left of data.
template <class T>
std::vector<T> gather_nd_dims(const std::vector<T>& data, const std::vector<T>& indices,
                              size_t used) {
  std::vector<T> out(indices.begin(), indices.end() - 1);
  out.insert(out.end(), data.begin() + static_cast<std::ptrdiff_t>(used), data.end());
  return out;
}

// Axes of data that one row of indices fixes, batch axes included.
size_t checked_used(int64_t batch, int64_t width, int64_t data_rank, int64_t indices_rank) {
  if (batch < 0 || batch >= std::min(data_rank, indices_rank)) {
    throw GraphError("batch_dims ", batch, " is outside [0, ", std::min(data_rank, indices_rank),
                     ")");
  }
  if (width < 1 || width > data_rank - batch) {
    throw GraphError("GatherND: rows of indices hold ", width, " coordinates, expected 1 to ",
                     data_rank - batch);
  }
  return static_cast<size_t>(batch + width);
}

}  // namespace

void GatherND::infer(Inference& call) const {
  need_rank(kName, call, 0, 1);
  need_rank(kName, call, 1, 1);
  need_index(kName, call);
  const auto &data = call.at(0).type, &indices = call.at(1).type;
  const auto width = indices.dims.back().known();
  if (!width) throw UnsupportedError("GatherND: the last extent of indices must be a number");
  const size_t used = checked_used(batch_dims, *width, data.rank(), indices.rank());
  set_type(call, 0, data.dtype, gather_nd_dims(data.dims, indices.dims, used));
}

void GatherND::reference(Evaluation& call) const {
  const Wide &data = call.at(0), &indices = call.at(1);
  if (indices.rank() < 1) throw RunError("GatherND: indices are a scalar");
  const int64_t width = indices.shape.back();
  const size_t used = checked_used(batch_dims, width, data.rank(), indices.rank());
  const auto strides = row_major_strides(data.shape);
  const auto batch = static_cast<size_t>(batch_dims);
  int64_t batches = 1, rest = 1, rows = 1;
  for (size_t i = 0; i < batch; ++i) {
    if (data.shape[i] != indices.shape[i]) throw RunError("batch extents of GatherND differ");
    batches *= data.shape[i];
  }
  for (size_t i = used; i < data.shape.size(); ++i) rest *= data.shape[i];
  for (size_t i = 0; i + 1 < indices.shape.size(); ++i) rows *= indices.shape[i];
  Moved moved;
  moved.shape = gather_nd_dims(data.shape, indices.shape, used);
  check_size(moved.shape);
  if (checked_count(moved.shape) == 0) rows = 0;
  const int64_t rows_of_batch = batches == 0 ? 0 : rows / batches;
  for (int64_t r = 0; r < rows; ++r) {
    check_guard();
    int64_t start = batch == 0 ? 0 : (r / rows_of_batch) * strides[batch - 1];
    for (int64_t k = 0; k < width; ++k) {
      const auto axis = batch + static_cast<size_t>(k);
      const int64_t index = integers(call, 1)[static_cast<size_t>(r * width + k)];
      start += strides[axis] * checked_index(index, data.shape[axis]);
    }
    for (int64_t i = 0; i < rest; ++i) moved.index.push_back(start + i);
  }
  call.out[0] = take(data, moved);
}
PLANCK_OP(GatherND, 13)

}  // namespace planck::ops
