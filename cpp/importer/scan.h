#pragma once
// The look at a model's bytes before protobuf allocates anything for them.
#include <cstddef>
#include <span>
#include <string>

#include "importer/importer.h"

namespace planck::importer {

// Raw payloads above this stay in the file.
inline constexpr int64_t kInlinePayload = 1024;

// Walks the wire format of a ModelProto with limits on depth, counts, lengths and the memory that
// parsing would take, and returns a ModelProto of the fields that the importer reads. Fields that
// nobody reads (documentation, training, unknown ones) are skipped. A TensorProto's raw_data above
// kInlinePayload becomes `segment`, its range in `bytes`; a segment in the file itself is refused,
// so that none can be forged.
// ParseError: not the wire format. GraphError: text is not UTF-8. LimitError.
std::string scan(std::span<const std::byte> bytes, const Limits& limits);

}  // namespace planck::importer
