#pragma once
// What several ops share: checks, symbolic contents, and moving elements by index lists.
#include <algorithm>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/guard.h"
#include "ir/op_def.h"

namespace planck {

constexpr int64_t kAnyRank = 32;  // the importer refuses more

// --- checks of inference: GraphError with what was expected and what was got ----------------
void need_float(std::string_view op, const Inference& call, size_t i);
void need_integer(std::string_view op, const Inference& call, size_t i);
void need_number(std::string_view op, const Inference& call, size_t i);  // anything but bool
void need_bool(std::string_view op, const Inference& call, size_t i);
void need_same_type(std::string_view op, const Inference& call, size_t i, size_t j);
void need_rank(std::string_view op, const Inference& call, size_t i, int64_t low,
               int64_t high = kAnyRank);
// The type that an ONNX number in an attribute names.
DType dtype_attribute(std::string_view op, std::string_view attribute, int64_t number);
// Axes of a tensor of this rank: in range, each once, not negative any more, sorted.
std::vector<int64_t> checked_axes(std::span<const int64_t> axes, int64_t rank);

// --- symbolic reasoning; every symbol is an extent, so it is at least 0 ----------------------
bool at_least(const Dim& d, int64_t low);
Dim smaller(const Dim& a, const Dim& b);  // min and max that first try to prove which one it is
Dim larger(const Dim& a, const Dim& b);
std::optional<Shape> known_shape(std::span<const Dim> dims);
// Extents that the run alone knows.
Dim fresh_dim(const Inference& call, size_t output, size_t axis);
std::vector<Dim> fresh_dims(const Inference& call, size_t output, size_t rank);

// --- types and contents of outputs ----------------------------------------------------------
using Contents = std::optional<std::vector<Dim>>;
constexpr int64_t kMostContents = 4096;

// Sets the type of output i. Negative extents are a GraphError; an extent whose text grew beyond
// reason (hostile chains of products double it at every node) becomes a fresh one.
void set_type(Inference& call, size_t i, DType dtype, std::vector<Dim> dims);
// Contents of input i, an integer or boolean tensor; nothing if they are not known.
Contents contents_of(const Inference& call, size_t i);
// The same, when all of them are numbers.
std::optional<std::vector<int64_t>> numbers_of(const Inference& call, size_t i);
// The same; UnsupportedError if they are not known, since the output's rank depends on them.
std::vector<int64_t> needed_numbers(std::string_view op, std::string_view what,
                                    const Inference& call, size_t i);
// Keeps contents if they are few, short, of a type that cannot wrap them, and fit the shape.
void set_contents(Inference& call, size_t i, Contents contents);
// Overflow inside a shape computation means "not known", not "wrong model": data may hold any
// numbers. Runs body, which returns Contents.
Contents contents_if(auto&& body) {
  try {
    return body();
  } catch (const Error&) {
    return std::nullopt;
  }
}
// Contents of an element-wise op: f(Dim, Dim) -> optional<Dim>, inputs 0 and 1 broadcast.
Contents zip_contents(const Inference& call, auto&& f);

// --- reference: making tensors --------------------------------------------------------------
// LimitError if the wide form (8 bytes an element) exceeds the limit max_tensor_bytes, extents of 0
// counting as 1.
void check_size(std::span<const int64_t> shape);
Wide make_wide(DType dtype, Shape shape);  // zeros, after check_size
Shape evaluated(std::span<const Dim> dims, const Evaluation& call);
// Contents of the integer input i.
const std::vector<int64_t>& integers(const Evaluation& call, size_t i);
// The one integer of input i; RunError if it holds another number of elements.
int64_t integer(std::string_view what, const Evaluation& call, size_t i);
Wide reshaped(const Wide& from, Shape shape);  // RunError if the count differs
// Element i as a double, with u64 above INT64_MAX read as what it is.
double real_at(const Wide& w, size_t i);

// --- moving elements ------------------------------------------------------------------------
constexpr int64_t kFill = -1;  // a position that reads no element but the fill value

// Where each element of a result comes from, in row-major order.
struct Moved {
  Shape shape;
  std::vector<int64_t> index;
};
// One axis of a result: positions along an axis of the source and that axis's stride there.
struct Walk {
  std::vector<int64_t> positions;
  int64_t stride;
};
Moved walk(std::span<const Walk> axes);
std::vector<int64_t> counted(int64_t count, int64_t start = 0, int64_t step = 1);
// The source as it is: one walk for each axis, to be changed where an op changes something.
std::vector<Walk> plain_walks(std::span<const int64_t> shape);

Wide take(const Wide& from, const Moved& moved, const Wide* fill = nullptr);
// Contents of input i moved likewise, by what moved_of(shape) returns; nothing if contents or
// shape are not known, or if the result were too large.
Contents take_contents(const Inference& call, size_t i, auto&& moved_of);
std::vector<Dim> take(const std::vector<Dim>& from, const Moved& moved);

// -------------------------------------------------------------------------------------------

inline Contents zip_contents(const Inference& call, auto&& f) {
  const Contents a = contents_of(call, 0), b = contents_of(call, 1);
  const auto x = known_shape(call.at(0).type.dims), y = known_shape(call.at(1).type.dims);
  if (!a || !b || !x || !y) return std::nullopt;
  return contents_if([&]() -> Contents {
    const Shape shape = broadcast_shapes(*x, *y);
    int64_t count = 1;  // two columns of 4096 would make 16 million Dims
    for (const int64_t d : shape) count *= d;
    if (count > kMostContents) return std::nullopt;
    const auto ia = broadcast_index(*x, shape), ib = broadcast_index(*y, shape);
    std::vector<Dim> out;
    for (size_t i = 0; i < ia.size(); ++i) {
      const std::optional<Dim> d =
          f((*a)[static_cast<size_t>(ia[i])], (*b)[static_cast<size_t>(ib[i])]);
      if (!d) return std::nullopt;
      out.push_back(*d);
    }
    return out;
  });
}

inline Contents take_contents(const Inference& call, size_t i, auto&& moved_of) {
  const Contents from = contents_of(call, i);
  const auto shape = known_shape(call.at(i).type.dims);
  const auto result = known_shape(call.out[0].type.dims);
  if (!from || !shape || !result) return std::nullopt;
  return contents_if([&]() -> Contents {
    int64_t count = 1;
    for (const int64_t d : *result)
      count = std::min(count * std::min(d, kMostContents + 1), kMostContents + 1);
    if (count > kMostContents) return std::nullopt;
    return take(*from, moved_of(*shape));
  });
}

}  // namespace planck
