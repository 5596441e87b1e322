#include "importer/scan.h"

#include <array>
#include <optional>

#include "base/guard.h"
#include "base/utf8.h"
#include "importer/wire.h"

namespace planck::importer {
namespace {

enum class Message : uint8_t {
  model,
  opset,
  graph,
  node,
  attribute,
  tensor,
  entry,
  sparse,
  value,
  type,
  tensor_type,
  shape,
  dimension,
  function,
  opaque,
  refused,
  none,
};
constexpr size_t kMessages = 17;

// text: a name, UTF-8 without NUL and of limited length; payload: raw_data.
enum class Form : uint8_t { varint, fixed32, fixed64, text, bytes, payload, message };
enum class Occurs : uint8_t { once, repeated };

struct Field {
  const char* name = nullptr;  // null: nobody reads it
  Form form = Form::varint;
  Occurs occurs = Occurs::once;
  Message of = Message::none;
};
constexpr uint32_t kNumbers = 32;
using Schema = std::array<std::array<Field, kNumbers>, kMessages>;

constexpr Schema make_schema() {
  Schema schema{};
#define PLANCK_FIELD(message, number, name, form, occurs, of)                                 \
  schema[static_cast<size_t>(Message::message)][number] = {#name, Form::form, Occurs::occurs, \
                                                           Message::of};
#include "importer/scan_fields.inc"
#undef PLANCK_FIELD
  return schema;
}
constexpr Schema kSchema = make_schema();

const Field* field_of(Message in, uint32_t number) {
  if (number >= kNumbers) return nullptr;
  const Field& field = kSchema[static_cast<size_t>(in)][number];
  return field.name == nullptr ? nullptr : &field;
}

WireType wire_type(Form form) {
  if (form == Form::varint) return WireType::varint;
  if (form == Form::fixed32) return WireType::fixed32;
  return form == Form::fixed64 ? WireType::fixed64 : WireType::bytes;
}

void check_text(std::span<const std::byte> content, const Field& field, const Wire& wire) {
  const std::string_view text(reinterpret_cast<const char*>(content.data()), content.size());
  for (size_t i = 0; i < text.size();) {
    const size_t size = utf8_sequence(text.substr(i));
    if (size == 0 || text[i] == 0) {
      throw GraphError("the field '", field.name, "' at byte ", wire.place(),
                       size == 0 ? " is not UTF-8" : " contains NUL");
    }
    i += size;
  }
}

class Scanner {
 public:
  Scanner(std::span<const std::byte> all, const Limits& limits) : all_(all), limits_(limits) {}

  std::string run() {
    Wire wire(all_);
    message(Message::model, wire, 1, 0);
    return out_.take();
  }

 private:
  // What C++ objects cost besides their contents, measured on protobuf 3.21 and rounded up.
  static constexpr int64_t kObjectBytes = 200, kTextBytes = 48, kNumberBytes = 8;

  void message(Message in, Wire wire, int64_t depth, int64_t graphs) {
    within("nesting", limits_.nesting, depth, "messages inside each other");
    check_guard();
    uint32_t seen = 0;
    while (!wire.done()) {
      const Tag tag = wire.tag();
      const Field* field = field_of(in, tag.field);
      if (field == nullptr) {
        wire.skip(tag);
        continue;
      }
      if (field->occurs == Occurs::once) {
        if ((seen >> tag.field & 1) != 0) wire.fail("the field '", field->name, "' comes twice");
        seen |= uint32_t{1} << tag.field;
      }
      known(*field, tag, wire, depth, graphs);
    }
  }

  void known(const Field& field, const Tag& tag, Wire& wire, int64_t depth, int64_t graphs) {
    const bool packed = tag.type == WireType::bytes && field.occurs == Occurs::repeated &&
                        wire_type(field.form) != WireType::bytes;
    if (tag.type != wire_type(field.form) && !packed) {
      wire.fail("the field '", field.name, "' has another wire type");
    }
    if (packed) return numbers(field, tag, wire);
    switch (field.form) {
      case Form::message:
        return sub_message(field, tag, wire, depth, graphs);
      case Form::payload:
        return payload(tag, wire);
      case Form::text:
      case Form::bytes:
        return text(field, tag, wire);
      default:
        charge(kNumberBytes);
        out_.tag(tag);
        if (field.form == Form::varint) {
          out_.varint(wire.varint());
        } else {
          out_.raw(wire.take(field.form == Form::fixed32 ? 4 : 8));
        }
    }
  }

  void sub_message(const Field& field, const Tag& tag, Wire& wire, int64_t depth, int64_t graphs) {
    if (field.of == Message::refused) wire.fail("the field '", field.name, "' is not supported");
    if (field.of == Message::graph) {
      within("subgraph_depth", limits_.subgraph_depth, graphs++, "graphs inside each other");
      depth = 1;  // what is between two graphs is counted with them
    }
    if (field.of == Message::node) within("nodes", limits_.nodes, ++nodes_, "nodes or more");
    if (field.of == Message::function) {
      within("functions", limits_.functions, ++functions_, "functions or more");
    }
    charge(kObjectBytes);
    const std::span<const std::byte> content = wire.sized();
    out_.tag(tag);
    const size_t opened = out_.open();
    message(field.of, wire.inside(content), depth + 1, graphs);
    out_.close(opened);
  }

  void text(const Field& field, const Tag& tag, Wire& wire) {
    const std::span<const std::byte> content = wire.sized();
    if (field.form == Form::text) {
      within("name_bytes", limits_.name_bytes, static_cast<int64_t>(content.size()),
             "bytes of a name");
      check_text(content, field, wire);
    }
    charge(kTextBytes + static_cast<int64_t>(content.size()));
    out_.tag(tag);
    out_.bytes(content);
  }

  void numbers(const Field& field, const Tag& tag, Wire& wire) {
    const std::span<const std::byte> content = wire.sized();
    const auto size = static_cast<int64_t>(content.size());
    // A varint of one byte becomes a number of eight.
    charge(field.form == Form::varint ? size * kNumberBytes : size);
    const int64_t element = field.form == Form::fixed64 ? 8 : field.form == Form::fixed32 ? 4 : 1;
    if (size % element != 0) wire.fail("the field '", field.name, "' ends inside a number");
    out_.tag(tag);
    out_.bytes(content);
  }

  void payload(const Tag& tag, Wire& wire) {
    const std::span<const std::byte> content = wire.sized();
    const auto size = static_cast<int64_t>(content.size());
    if (size <= kInlinePayload) {
      charge(size);
      out_.tag(tag);
      return out_.bytes(content);
    }
    const auto begin = static_cast<uint64_t>(content.data() - all_.data());
    out_.tag({3, WireType::bytes});  // TensorProto.segment
    const size_t opened = out_.open();
    out_.tag({1, WireType::varint});
    out_.varint(begin);
    out_.tag({2, WireType::varint});
    out_.varint(begin + content.size());
    out_.close(opened);
  }

  void charge(int64_t bytes) {
    charged_ += bytes;
    within("parse_bytes", limits_.parse_bytes, charged_, "bytes or more to be parsed");
  }

  std::span<const std::byte> all_;
  const Limits& limits_;
  WireWriter out_;
  int64_t charged_ = 0, nodes_ = 0, functions_ = 0;
};

}  // namespace

std::string scan(std::span<const std::byte> bytes, const Limits& limits) {
  if (bytes.empty()) throw ParseError("the model is empty");
  return Scanner(bytes, limits).run();
}

}  // namespace planck::importer
