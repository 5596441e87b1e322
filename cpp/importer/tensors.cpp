#include "importer/tensors.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/checked.h"
#include "base/guard.h"

namespace planck::importer {
namespace {

static_assert(std::endian::native == std::endian::little, "ONNX payloads are little-endian");

enum class Typed : uint8_t {
  float_data,
  int32_data,
  string_data,
  int64_data,
  double_data,
  uint64_data,
};

struct Element {
  int number;
  const char* name;
  int bits;
  Typed field;
  int64_t entries;
};

constexpr Element kElements[] = {
#define PLANCK_ELEMENT(number, name, bits, field, entries) \
  {number, #name, bits, Typed::field, entries},
#include "importer/element_types.inc"
#undef PLANCK_ELEMENT
};

const Element& element_of(int number) {
  for (const Element& e : kElements) {
    if (e.number == number) return e;
  }
  throw GraphError(number, " is not an element type of ONNX");
}

// Names of the payload fields that are filled.
std::vector<std::string> filled(const onnx::TensorProto& t) {
  std::vector<std::string> out;
  if (t.has_raw_data() || t.has_segment()) out.emplace_back("raw_data");
  if (t.float_data_size() > 0) out.emplace_back("float_data");
  if (t.int32_data_size() > 0) out.emplace_back("int32_data");
  if (t.string_data_size() > 0) out.emplace_back("string_data");
  if (t.int64_data_size() > 0) out.emplace_back("int64_data");
  if (t.double_data_size() > 0) out.emplace_back("double_data");
  if (t.uint64_data_size() > 0) out.emplace_back("uint64_data");
  return out;
}

int64_t entries_of(const onnx::TensorProto& t, Typed field) {
  switch (field) {
    case Typed::float_data:
      return t.float_data_size();
    case Typed::int32_data:
      return t.int32_data_size();
    case Typed::string_data:
      return t.string_data_size();
    case Typed::int64_data:
      return t.int64_data_size();
    case Typed::double_data:
      return t.double_data_size();
    case Typed::uint64_data:
      return t.uint64_data_size();
  }
  return 0;
}

void need_equal(int64_t got, int64_t expected, const char* unit, const Shape& shape,
                const Element& e) {
  if (got == expected) return;
  throw with(GraphError("a ", e.name, " tensor of shape ", shape_text(shape), " has ", expected,
                        ' ', unit, ", the model gives ", got),
             {.expected = cat(expected, ' ', unit), .got = cat(got, ' ', unit)});
}

// Charged before memory is taken, as a function's constants come with each of its calls.
void charge(Payloads& payloads, int64_t bytes) {
  const Limits& limits = payloads.limits;
  within("initializer_bytes", limits.initializer_bytes, bytes, "bytes of a constant");
  payloads.embedded = checked_add(payloads.embedded, bytes);
  within("constants_bytes", limits.constants_bytes, payloads.embedded, "bytes of constants");
}

Shape checked_shape(const onnx::TensorProto& t, const Limits& limits) {
  within("rank", limits.rank, t.dims_size(), "dimensions");
  return {t.dims().begin(), t.dims().end()};
}

// Bytes of the dense payload, sub-byte types packed.
int64_t payload_bytes(int64_t count, const Element& e) {
  return checked_add(checked_mul(count, e.bits, "tensor bits"), 7) / 8;
}

Bytes raw_bytes(const onnx::TensorProto& t, const Payloads& payloads) {
  if (t.has_segment()) {  // written by scan(), which checked the range
    const auto begin = static_cast<size_t>(t.segment().begin());
    const auto end = static_cast<size_t>(t.segment().end());
    return {payloads.model.span.subspan(begin, end - begin), payloads.model.owner,
            payloads.model.mapped};
  }
  const auto* data = reinterpret_cast<const std::byte*>(t.raw_data().data());
  return {{data, t.raw_data().size()}, nullptr};
}

ExternalEntries external_entries(const onnx::TensorProto& t) {
  ExternalEntries out;
  for (const auto& entry : t.external_data()) out.emplace_back(entry.key(), entry.value());
  return out;
}

bool only_bits(const Bytes& bytes) {
  bool all = true;
  in_pieces(bytes.span.size(), [&](size_t first, size_t count) {
    const auto bit = [](std::byte b) { return b <= std::byte{1}; };
    all = all && std::ranges::all_of(bytes.span.subspan(first, count), bit);
  });
  return all;
}

// The payload in place if its owner keeps it and it is aligned, else a copy.
Tensor from_bytes(DType dtype, Shape shape, const Bytes& bytes, Arena& copies) {
  const auto address = reinterpret_cast<uintptr_t>(bytes.span.data());
  const bool aligned = address % static_cast<uintptr_t>(size_of(dtype)) == 0;
  const bool flags = dtype == DType::b8 && !only_bits(bytes);  // any other byte means true
  if (bytes.owner != nullptr && aligned && !flags) {
    return {dtype, std::move(shape), bytes.span.data(), bytes.owner};
  }
  const size_t size = bytes.span.size();
  auto [to, owner] = copies.take(size);
  in_pieces(size, [&, to = to](size_t first, size_t count) {
    const std::span<const std::byte> piece = bytes.span.subspan(first, count);
    if (flags) {
      std::ranges::transform(piece, to + first,
                             [](std::byte b) { return std::byte{b != std::byte{0}}; });
    } else {
      std::memcpy(to + first, piece.data(), count);
    }
  });
  if (bytes.owner != nullptr) release(bytes);
  return {dtype, std::move(shape), to, std::move(owner)};
}

// Numbers of four bits, the low half of a byte first.
Tensor from_halves(DType dtype, Shape shape, auto&& byte_at) {
  std::byte* bytes = nullptr;
  Tensor out = Tensor::make(dtype, std::move(shape), &bytes);
  for (int64_t i = 0; i < out.count(); ++i) {
    check_guard_at(static_cast<size_t>(i));
    const int pair = byte_at(i / 2);
    const int bits = i % 2 == 0 ? pair & 15 : pair >> 4;
    bytes[i] = static_cast<std::byte>(dtype == DType::s4 ? (bits ^ 8) - 8 : bits);
  }
  return out;
}

Tensor from_packed_bytes(DType dtype, Shape shape, const Bytes& bytes) {
  Tensor out = from_halves(dtype, std::move(shape), [&](int64_t i) {
    return static_cast<int>(bytes.span[static_cast<size_t>(i)]);
  });
  if (bytes.owner != nullptr) release(bytes);
  return out;
}

Tensor from_packed_entries(DType dtype, Shape shape, const onnx::TensorProto& t, const Element& e) {
  return from_halves(dtype, std::move(shape), [&](int64_t i) {
    const int32_t entry = t.int32_data(static_cast<int>(i));
    if (entry < 0 || entry > 255) {
      throw GraphError(entry, " in a typed field does not fit two of ", e.name);
    }
    return entry;
  });
}

template <class To>
Tensor from_entries(DType dtype, Shape shape, const auto& entries, const Element& e) {
  std::byte* bytes = nullptr;
  Tensor out = Tensor::make(dtype, std::move(shape), &bytes);
  auto* to = reinterpret_cast<To*>(bytes);
  for (const auto entry : entries) {
    const auto narrow = static_cast<To>(entry);
    if (static_cast<std::remove_cvref_t<decltype(entry)>>(narrow) != entry && entry == entry) {
      throw GraphError(entry, " in a typed field does not fit ", e.name);
    }
    *to++ = narrow;
    check_guard_at(static_cast<size_t>(to - reinterpret_cast<To*>(bytes)));
  }
  return out;
}

Tensor from_bools(Shape shape, const onnx::TensorProto& t) {
  std::byte* bytes = nullptr;
  Tensor out = Tensor::make(DType::b8, std::move(shape), &bytes);
  for (const int32_t v : t.int32_data()) *bytes++ = std::byte{v != 0};
  return out;
}

Tensor from_typed_field(DType dtype, Shape shape, const onnx::TensorProto& t, const Element& e) {
  switch (dtype) {
    case DType::f32:
      return from_entries<float>(dtype, std::move(shape), t.float_data(), e);
    case DType::f64:
      return from_entries<double>(dtype, std::move(shape), t.double_data(), e);
    case DType::s64:
      return from_entries<int64_t>(dtype, std::move(shape), t.int64_data(), e);
    case DType::u64:
      return from_entries<uint64_t>(dtype, std::move(shape), t.uint64_data(), e);
    case DType::u32:
      return from_entries<uint32_t>(dtype, std::move(shape), t.uint64_data(), e);
    case DType::s32:
      return from_entries<int32_t>(dtype, std::move(shape), t.int32_data(), e);
    case DType::s16:
      return from_entries<int16_t>(dtype, std::move(shape), t.int32_data(), e);
    case DType::s8:
      return from_entries<int8_t>(dtype, std::move(shape), t.int32_data(), e);
    case DType::u4:
    case DType::s4:
      return from_packed_entries(dtype, std::move(shape), t, e);
    case DType::u8:
    case DType::f8e4m3:
    case DType::f8e5m2:
      return from_entries<uint8_t>(dtype, std::move(shape), t.int32_data(), e);
    case DType::u16:
    case DType::f16:
    case DType::bf16:  // halves are their bit pattern
      return from_entries<uint16_t>(dtype, std::move(shape), t.int32_data(), e);
    case DType::b8:
      return from_bools(std::move(shape), t);
  }
  throw InternalError("no typed field for ", dtype);
}

void check_fields(const onnx::TensorProto& t, const Element& e, bool external) {
  const std::vector<std::string> fields = filled(t);
  if (fields.size() > (external ? 0u : 1u)) {
    throw GraphError("a tensor has several payloads: ", joined(fields),
                     external ? " and external data" : "");
  }
  if (!external && t.external_data_size() > 0) {
    throw GraphError("a tensor lists external data, but its location is not EXTERNAL");
  }
  if (e.field == Typed::string_data && (external || t.has_raw_data() || t.has_segment())) {
    throw GraphError("strings cannot be raw or external data");
  }
}

Tensor read_checked(const onnx::TensorProto& t, Payloads& payloads) {
  const Element& e = element_of(t.data_type());
  if (t.data_location() != onnx::TensorProto::DEFAULT &&
      t.data_location() != onnx::TensorProto::EXTERNAL) {
    throw GraphError("a tensor has the unknown data location ", int{t.data_location()});
  }
  const bool external = t.data_location() == onnx::TensorProto::EXTERNAL;
  Shape shape = checked_shape(t, payloads.limits);
  const int64_t count = checked_count(shape);
  const int64_t size = payload_bytes(count, e);
  if (!external) charge(payloads, size);
  check_fields(t, e, external);
  const bool raw = t.has_raw_data() || t.has_segment();
  Bytes bytes;
  if (external) {
    bytes = payloads.external.read(external_entries(t), size);
  } else if (raw) {
    bytes = raw_bytes(t, payloads);
    need_equal(static_cast<int64_t>(bytes.span.size()), size, "bytes of raw_data", shape, e);
  } else {
    const std::vector<std::string> fields = filled(t);
    const int64_t got = entries_of(t, e.field);
    if (!fields.empty() && got == 0) {
      throw GraphError("a ", e.name, " tensor cannot be stored in ", fields[0]);
    }
    need_equal(got, ceil_div(checked_mul(count, e.entries), 4), "entries", shape, e);
  }
  const DType dtype = element_type(t.data_type());
  if (e.bits < 8 && !external) charge(payloads, count);  // a byte for each, beside the packed ones
  if (e.bits < 8 && (external || raw)) return from_packed_bytes(dtype, std::move(shape), bytes);
  if (external || raw) return from_bytes(dtype, std::move(shape), bytes, payloads.copies);
  return from_typed_field(dtype, std::move(shape), t, e);
}

// Row-major position of a non-zero element; indices are [n] or [n, rank].
int64_t position(const Wide& indices, size_t i, const Shape& shape) {
  if (indices.rank() == 1) return indices.integer[i];
  int64_t at = 0;
  for (size_t d = 0; d < shape.size(); ++d) {
    const int64_t index = indices.integer[i * shape.size() + d];
    if (index < 0 || index >= shape[d]) {
      throw GraphError("a sparse index ", index, " is outside [0, ", shape[d], ")");
    }
    at = at * shape[d] + index;  // within the checked count
  }
  return at;
}

void check_indices(const Tensor& indices, const Tensor& values, const Shape& shape) {
  const auto rank = static_cast<int64_t>(shape.size());
  const bool linear = indices.rank() == 1;
  const bool pairs = indices.rank() == 2 && indices.shape()[1] == rank;
  if (indices.dtype() != DType::s64 || values.rank() != 1 || (!linear && !pairs) ||
      indices.shape()[0] != values.count()) {
    throw GraphError("a sparse tensor of rank ", rank, " has values ", values.type(),
                     " and indices ", indices.type());
  }
}

}  // namespace

DType element_type(int number) {
  const auto dtype = dtype_of_onnx(number);
  if (dtype) return *dtype;
  const Element& e = element_of(number);
  throw with(UnsupportedError("tensors of type ", e.name, " are not supported"),
             {.got = e.name, .items = {cat("type ", e.name)}});
}

Tensor read_tensor(const onnx::TensorProto& proto, Payloads& payloads) {
  return with_context([&] { return read_checked(proto, payloads); }, "tensor '", proto.name(), "'");
}

Tensor read_sparse(const onnx::SparseTensorProto& proto, Payloads& payloads) {
  const Tensor values = read_tensor(proto.values(), payloads);
  const Tensor indices = read_tensor(proto.indices(), payloads);
  within("rank", payloads.limits.rank, proto.dims_size(), "dimensions");
  Shape shape(proto.dims().begin(), proto.dims().end());
  const int64_t count = checked_count(shape);
  const int64_t element = size_of(values.dtype());
  charge(payloads, checked_mul(count, element));
  check_indices(indices, values, shape);
  const Wide places = widen(indices);
  std::byte* to = nullptr;
  Tensor out = Tensor::make(values.dtype(), shape, &to);
  int64_t last = -1;
  for (int64_t i = 0; i < values.count(); ++i) {
    const int64_t at = position(places, static_cast<size_t>(i), shape);
    if (at <= last || at >= count) {
      throw GraphError("sparse indices must ascend within [0, ", count, "); ", at, " follows ",
                       last);
    }
    std::memcpy(to + at * element, values.data() + i * element, static_cast<size_t>(element));
    last = at;
    check_guard_at(static_cast<size_t>(i));
  }
  return out;
}

}  // namespace planck::importer
