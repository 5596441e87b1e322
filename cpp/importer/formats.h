#pragma once
#include <cstddef>
#include <span>
#include <string_view>

namespace planck::importer {

// A kind of file that is easily given where an ONNX model is expected.
struct Format {
  std::string_view name, hint;
};

// The format that the first bytes tell, of what was found to be no ONNX model; null for none.
const Format* other_format(std::span<const std::byte> bytes);

}  // namespace planck::importer
