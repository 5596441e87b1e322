#pragma once
// CBOR at the edges: JSON values as bytes (RFC 8949), read only after a walk that bounds depth and
// lengths, since nlohmann's reader recurses and trusts counts.
#include <cstddef>
#include <span>
#include <vector>

#include "base/fields.h"

namespace planck {

inline constexpr int kCborDepth = 64;

std::vector<std::byte> to_cbor(const Json& json);

// CorruptError where the bytes are not one definite-length item, lie deeper than kCborDepth, use a
// tag, or claim more than there is.
Json from_cbor(std::span<const std::byte> bytes);

}  // namespace planck
