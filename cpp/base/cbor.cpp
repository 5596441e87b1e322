#include "base/cbor.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace planck {
namespace {

// Walks the items without building anything.
class CborScan {
 public:
  explicit CborScan(std::span<const std::byte> bytes) : bytes_(bytes) {}

  void all() {
    item(0);
    if (at_ != bytes_.size()) fail("bytes after the end");
  }

 private:
  [[noreturn]] void fail(const char* why) const {
    throw CorruptError("metadata is not valid: ", why, " at byte ", at_);
  }

  uint64_t byte() {
    if (at_ == bytes_.size()) fail("it ends inside an item");
    return static_cast<uint64_t>(bytes_[at_++]);
  }

  // The argument of an item's head: its value, length or count.
  uint64_t argument(uint64_t low) {
    if (low < 24) return low;
    if (low > 27) fail("an item of indefinite length");
    uint64_t value = 0;
    for (int i = 0; i < 1 << (low - 24); ++i) value = value << 8 | byte();
    return value;
  }

  void item(int depth) {
    if (depth > kCborDepth) fail("nested too deep");
    const uint64_t head = byte();
    const uint64_t major = head >> 5, n = argument(head & 31);
    if (major == 6) fail("a tag");
    if (major < 2 || major == 7) return;
    // Every element takes a byte at least, so no count can be larger than what is left.
    if (n > bytes_.size() - at_) fail("a length beyond the end");
    if (major == 2 || major == 3) {
      at_ += n;
      return;
    }
    for (uint64_t i = 0; i < n; ++i) {
      if (major == 5) {
        if (at_ < bytes_.size() && static_cast<uint64_t>(bytes_[at_]) >> 5 != 3) {
          fail("a key that is no text");
        }
        item(depth + 1);
      }
      item(depth + 1);
    }
  }

  std::span<const std::byte> bytes_;
  size_t at_ = 0;
};

}  // namespace

std::vector<std::byte> to_cbor(const Json& json) {
  const std::vector<uint8_t> bytes = Json::to_cbor(json);
  const auto* data = reinterpret_cast<const std::byte*>(bytes.data());
  return {data, data + bytes.size()};
}

Json from_cbor(std::span<const std::byte> bytes) {
  CborScan(bytes).all();
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  try {
    return Json::from_cbor(data, data + bytes.size());
  } catch (const Json::exception& e) {
    throw CorruptError("metadata is not valid: ", e.what());
  }
}

}  // namespace planck
