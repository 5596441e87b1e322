#pragma once
#include <cstddef>
#include <span>
#include <string>

namespace planck::importer {

// Forty hexadecimal digits. ONNX names this digest for external data; it finds damage, and is no
// protection against an attacker.
std::string sha1(std::span<const std::byte> bytes);

}  // namespace planck::importer
