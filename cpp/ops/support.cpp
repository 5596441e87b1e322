#include "ops/support.h"

#include <algorithm>
#include <optional>

#include "base/checked.h"
#include "base/guard.h"
#include "ops/needs_values.h"

namespace planck {

namespace {

[[noreturn]] void wrong_type(std::string_view op, const Inference& call, size_t i,
                             std::string_view expected) {
  GraphError error(op, ": input ", i, " is ", call.at(i).type, ", expected ", expected);
  error.fields.op_type = op;
  error.fields.expected = expected;
  error.fields.got = dtype_name(call.at(i).type.dtype);
  throw error;
}

// A symbolic text longer than this says nothing to a reader and costs time at every use.
constexpr size_t kLongestText = 1000;

}  // namespace

void need_float(std::string_view op, const Inference& call, size_t i) {
  if (!is_float(call.at(i).type.dtype)) wrong_type(op, call, i, "a float type");
}

void need_integer(std::string_view op, const Inference& call, size_t i) {
  if (!is_integer(call.at(i).type.dtype)) wrong_type(op, call, i, "an integer type");
}

void need_number(std::string_view op, const Inference& call, size_t i) {
  if (call.at(i).type.dtype == DType::b8) wrong_type(op, call, i, "a numeric type");
}

void need_bool(std::string_view op, const Inference& call, size_t i) {
  if (call.at(i).type.dtype != DType::b8) wrong_type(op, call, i, "b8");
}

void need_same_type(std::string_view op, const Inference& call, size_t i, size_t j) {
  if (call.at(i).type.dtype == call.at(j).type.dtype) return;
  wrong_type(op, call, j, cat(call.at(i).type.dtype, " like input ", i));
}

void need_rank(std::string_view op, const Inference& call, size_t i, int64_t low, int64_t high) {
  const int64_t rank = call.at(i).type.rank();
  if (rank >= low && rank <= high) return;
  wrong_type(op, call, i,
             low == high       ? cat("rank ", low)
             : high < kAnyRank ? cat("rank ", low, " to ", high)
                               : cat("rank ", low, " or more"));
}

DType dtype_attribute(std::string_view op, std::string_view attribute, int64_t number) {
  const auto dtype =
      number == static_cast<int>(number) ? dtype_of_onnx(static_cast<int>(number)) : std::nullopt;
  if (!dtype) throw UnsupportedError(op, ": ", attribute, " names the ONNX type ", number);
  return *dtype;
}

std::vector<int64_t> checked_axes(std::span<const int64_t> axes, int64_t rank) {
  std::vector<int64_t> out;
  for (const int64_t axis : axes) out.push_back(checked_axis(axis, rank));
  std::ranges::sort(out);
  const auto twice = std::ranges::adjacent_find(out);
  if (twice != out.end()) throw GraphError("axis ", *twice, " is given twice");
  return out;
}

bool at_least(const Dim& d, int64_t low) { return d.bounds({}).low >= low; }

Dim smaller(const Dim& a, const Dim& b) {
  if (at_least(b - a, 0)) return a;
  return at_least(a - b, 0) ? b : min(a, b);
}

Dim larger(const Dim& a, const Dim& b) {
  if (at_least(a - b, 0)) return a;
  return at_least(b - a, 0) ? b : max(a, b);
}

std::optional<Shape> known_shape(std::span<const Dim> dims) {
  Shape shape;
  for (const Dim& d : dims) {
    if (!d.is_constant()) return std::nullopt;
    shape.push_back(d.constant());
  }
  return shape;
}

Dim fresh_dim(const Inference& call, size_t output, size_t axis) {
  return call.fresh(static_cast<int>(output * kAnyRank + axis));
}

std::vector<Dim> fresh_dims(const Inference& call, size_t output, size_t rank) {
  std::vector<Dim> dims;
  for (size_t i = 0; i < rank; ++i) dims.push_back(fresh_dim(call, output, i));
  return dims;
}

void set_type(Inference& call, size_t i, DType dtype, std::vector<Dim> dims) {
  within("rank", current_limits().rank, static_cast<int64_t>(dims.size()), "dimensions");
  for (size_t d = 0; d < dims.size(); ++d) {
    if (dims[d].is_constant() && dims[d].constant() < 0) {
      throw GraphError("the shape [", joined(dims, ","), "] has a negative extent");
    }
    if (!dims[d].is_constant() && dims[d].text().size() > kLongestText) {
      dims[d] = fresh_dim(call, i, d);
    }
  }
  call.out[i].type = {dtype, std::move(dims)};
}

Contents contents_of(const Inference& call, size_t i) {
  return is_float(call.at(i).type.dtype) ? std::nullopt : call.at(i).dims();
}

std::optional<std::vector<int64_t>> numbers_of(const Inference& call, size_t i) {
  const Contents contents = contents_of(call, i);
  return contents ? known_shape(*contents) : std::nullopt;
}

std::vector<int64_t> needed_numbers(std::string_view op, std::string_view what,
                                    const Inference& call, size_t i) {
  need_integer(op, call, i);
  auto numbers = numbers_of(call, i);
  if (!numbers) {
    throw with(UnsupportedError(op, ": ", what, " (input ", i, ") must be known before the run"),
               {.hint = kNeedsValues});
  }
  return std::move(*numbers);
}

void set_contents(Inference& call, size_t i, Contents contents) {
  Fact& out = call.out[i];
  const auto shape = known_shape(out.type.dims);
  if (!contents || !shape || is_float(out.type.dtype)) return;
  const auto count = static_cast<int64_t>(contents->size());
  if (count > kMostContents || count != checked_count(*shape)) return;
  for (const Dim& d : *contents) {
    if (d.is_constant()) {
      Wide one(out.type.dtype, {});
      one.integer[0] = d.constant();
      wrap(one);
      if (one.integer[0] != d.constant()) return;
    } else if (size_of(out.type.dtype) < 4 || d.text().size() > kLongestText) {
      return;  // a narrow type might wrap what the symbol stands for
    }
  }
  out.contents = std::move(contents);
}

void check_size(std::span<const int64_t> shape) {
  const int64_t most = current_limits().max_tensor_bytes;
  int64_t count = 1;  // an extent of 0 counts as 1, else [4e18,0] would pass and be walked
  for (const int64_t d : shape) {
    if (d < 0) throw RunError("the shape ", shape_text(shape), " has a negative extent");
    if (__builtin_mul_overflow(count, std::max<int64_t>(d, 1), &count)) count = INT64_MAX;
  }
  if (count <= most / 8) return;
  throw with(LimitError("a tensor of shape ", shape_text(shape), " exceeds max_tensor_bytes, ",
                        most, ", in its 8-byte form"),
             {.hint = "raise limits.max_tensor_bytes if you trust this input",
              .limit = most,
              .need = count > INT64_MAX / 8 ? INT64_MAX : 8 * count,
              .option = "max_tensor_bytes"});
}

Wide make_wide(DType dtype, Shape shape) {
  check_size(shape);
  return {dtype, std::move(shape)};
}

Shape evaluated(std::span<const Dim> dims, const Evaluation& call) {
  static const Bindings none;
  Shape shape;
  for (const Dim& d : dims) {
    shape.push_back(d.eval(call.bindings == nullptr ? none : *call.bindings));
    if (shape.back() < 0) throw RunError("the extent ", d, " is ", shape.back(), " in this run");
  }
  return shape;
}

const std::vector<int64_t>& integers(const Evaluation& call, size_t i) {
  if (call.at(i).floating()) throw RunError("input ", i, " is not of an integer type");
  return call.at(i).integer;
}

int64_t integer(std::string_view what, const Evaluation& call, size_t i) {
  const auto& values = integers(call, i);
  if (values.size() != 1) throw RunError(what, " has ", values.size(), " elements, expected 1");
  return values[0];
}

Wide reshaped(const Wide& from, Shape shape) {
  if (checked_count(shape) != from.count()) {
    throw RunError("a tensor of shape ", shape_text(from.shape), " has no view of shape ",
                   shape_text(shape));
  }
  Wide out = from;
  out.shape = std::move(shape);
  return out;
}

double real_at(const Wide& w, size_t i) {
  if (w.floating()) return w.real[i];
  return w.dtype == DType::u64 ? static_cast<double>(static_cast<uint64_t>(w.integer[i]))
                               : static_cast<double>(w.integer[i]);
}

Moved walk(std::span<const Walk> axes) {
  Moved out;
  for (const Walk& axis : axes) out.shape.push_back(static_cast<int64_t>(axis.positions.size()));
  check_size(out.shape);
  if (checked_count(out.shape) == 0) return out;
  out.index = {0};
  for (const Walk& axis : axes) {
    std::vector<int64_t> longer;
    longer.reserve(out.index.size() * axis.positions.size());
    for (const int64_t base : out.index) {
      check_guard();
      for (const int64_t p : axis.positions) {
        longer.push_back(base == kFill || p == kFill ? kFill : base + p * axis.stride);
      }
    }
    out.index = std::move(longer);
  }
  return out;
}

std::vector<int64_t> counted(int64_t count, int64_t start, int64_t step) {
  std::vector<int64_t> out(static_cast<size_t>(count));
  for (size_t i = 0; i < out.size(); ++i) {
    check_guard_at(i);
    out[i] = start + static_cast<int64_t>(i) * step;
  }
  return out;
}

std::vector<Walk> plain_walks(std::span<const int64_t> shape) {
  const auto strides = row_major_strides(shape);
  std::vector<Walk> walks;
  for (size_t i = 0; i < shape.size(); ++i) walks.push_back({counted(shape[i]), strides[i]});
  return walks;
}

namespace {

template <class T>
std::vector<T> taken(const std::vector<T>& from, std::span<const int64_t> index, const T& fill) {
  std::vector<T> out;
  out.reserve(index.size());
  for (const int64_t i : index) {
    check_guard_at(out.size());
    out.push_back(i == kFill ? fill : from.at(static_cast<size_t>(i)));
  }
  return out;
}

}  // namespace

Wide take(const Wide& from, const Moved& moved, const Wide* fill) {
  Wide out;
  out.dtype = from.dtype;
  out.shape = moved.shape;
  if (from.floating()) {
    out.real = taken(from.real, moved.index, fill == nullptr ? 0.0 : fill->real.at(0));
  } else {
    out.integer =
        taken(from.integer, moved.index, fill == nullptr ? int64_t{0} : fill->integer.at(0));
  }
  return out;
}

std::vector<Dim> take(const std::vector<Dim>& from, const Moved& moved) {
  return taken(from, moved.index, Dim(0));
}

}  // namespace planck
