#pragma once
// Protobuf's wire format: https://protobuf.dev/programming-guides/encoding
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/error.h"

namespace planck::importer {

enum class WireType : uint8_t {
  varint = 0,
  fixed64 = 1,
  bytes = 2,
  group = 3,
  end = 4,
  fixed32 = 5
};

struct Tag {
  uint32_t field;
  WireType type;
};

// Reads forward through a range; every error names the place in the file.
class Wire {
 public:
  explicit Wire(std::span<const std::byte> all)
      : begin_(all.data()), at_(begin_), end_(begin_ + all.size()) {}

  bool done() const { return at_ == end_; }
  int64_t place() const { return at_ - begin_; }
  const std::byte* at() const { return at_; }

  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      if (at_ == end_) fail("a number is cut off");
      const auto byte = static_cast<uint8_t>(*at_++);
      if (shift == 63 && byte > 1) break;
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    fail("a number has more than 64 bits");
  }

  Tag tag() {
    const uint64_t value = varint();
    const auto type = static_cast<uint8_t>(value & 7);
    if (value >> 32 != 0 || value >> 3 == 0 || type > 5) fail("there is no such field");
    return {static_cast<uint32_t>(value >> 3), static_cast<WireType>(type)};
  }

  std::span<const std::byte> take(uint64_t size) {
    if (size > static_cast<uint64_t>(end_ - at_)) {
      fail("a field of ", size, " bytes is cut off after ", end_ - at_);
    }
    const std::span<const std::byte> out(at_, size);
    at_ += size;
    return out;
  }
  std::span<const std::byte> sized() { return take(varint()); }

  // A field whose tag was read. Groups (long deprecated) are skipped with what they hold.
  void skip(const Tag& tag) {
    if (tag.type == WireType::group) return skip_group();
    if (tag.type == WireType::end) fail("a group ends that did not begin");
    skip_plain(tag.type);
  }

  // Goes on inside `part`, a range that take() gave; places stay those of the whole file.
  Wire inside(std::span<const std::byte> part) const {
    Wire out = *this;
    out.at_ = part.data();
    out.end_ = part.data() + part.size();
    return out;
  }

  [[noreturn]] void fail(const auto&... why) const {
    throw ParseError("this is no ONNX model: ", why..., ", at byte ", place());
  }

 private:
  void skip_plain(WireType type) {
    if (type == WireType::varint) varint();
    if (type == WireType::fixed64) take(8);
    if (type == WireType::fixed32) take(4);
    if (type == WireType::bytes) sized();
  }
  void skip_group() {
    constexpr int kMostGroups = 100;
    for (int depth = 1; depth > 0;) {
      const Tag next = tag();
      if (next.type == WireType::group) {
        if (++depth > kMostGroups) fail("groups are nested deeper than ", kMostGroups);
      } else if (next.type == WireType::end) {
        --depth;
      } else {
        skip_plain(next.type);
      }
    }
  }

  const std::byte* begin_;
  const std::byte* at_;
  const std::byte* end_;
};

// What protobuf would read back; sizes of nested messages are patched in afterwards.
class WireWriter {
 public:
  void varint(uint64_t value) {
    for (; value > 0x7f; value >>= 7) out_ += static_cast<char>((value & 0x7f) | 0x80);
    out_ += static_cast<char>(value);
  }
  void tag(const Tag& tag) {
    varint(static_cast<uint64_t>(tag.field) << 3 | static_cast<uint8_t>(tag.type));
  }
  void bytes(std::span<const std::byte> data) {
    varint(data.size());
    raw(data);
  }
  void raw(std::span<const std::byte> data) {
    out_.append(reinterpret_cast<const char*>(data.data()), data.size());
  }
  // Begins a length-delimited field whose size is not known yet: five bytes hold any.
  size_t open() {
    out_.append(kSize, '\0');
    return out_.size();
  }
  void close(size_t opened) {
    uint64_t size = out_.size() - opened;
    for (size_t i = 0; i < kSize; ++i, size >>= 7) {
      out_[opened - kSize + i] = static_cast<char>((size & 0x7f) | (i + 1 < kSize ? 0x80 : 0));
    }
  }
  std::string take() { return std::move(out_); }

 private:
  static constexpr size_t kSize = 5;
  std::string out_;
};

}  // namespace planck::importer
