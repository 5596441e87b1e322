// FIPS 180-4, section 6.1.
#include "importer/sha1.h"

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "base/guard.h"

namespace planck::importer {
namespace {

constexpr size_t kBlock = 64;
using State = std::array<uint32_t, 5>;

uint32_t big_endian(const std::byte* p) {
  uint32_t word = 0;
  for (int i = 0; i < 4; ++i) word = word << 8 | static_cast<uint32_t>(p[i]);
  return word;
}

uint32_t mixed(int round, uint32_t b, uint32_t c, uint32_t d) {
  if (round < 20) return ((b & c) | (~b & d)) + 0x5a827999u;
  if (round < 40) return (b ^ c ^ d) + 0x6ed9eba1u;
  if (round < 60) return ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdcu;
  return (b ^ c ^ d) + 0xca62c1d6u;
}

void add_block(State& state, const std::byte* block) {
  std::array<uint32_t, 80> w;
  for (size_t t = 0; t < 16; ++t) w[t] = big_endian(block + 4 * t);
  for (size_t t = 16; t < 80; ++t) {
    w[t] = std::rotl(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
  }
  auto [a, b, c, d, e] = state;
  for (int t = 0; t < 80; ++t) {
    const uint32_t next = std::rotl(a, 5) + mixed(t, b, c, d) + e + w[static_cast<size_t>(t)];
    e = d;
    d = c;
    c = std::rotl(b, 30);
    b = a;
    a = next;
  }
  const State sum = {a, b, c, d, e};
  for (size_t i = 0; i < 5; ++i) state[i] += sum[i];
}

}  // namespace

std::string sha1(std::span<const std::byte> bytes) {
  State state = {0x67452301u, 0xefcdab89u, 0x98badcfeu, 0x10325476u, 0xc3d2e1f0u};
  size_t at = 0;
  for (; at + kBlock <= bytes.size(); at += kBlock) {
    check_guard_at(at);
    add_block(state, bytes.data() + at);
  }
  // The rest, a one bit, zeros, and the length in bits.
  std::array<std::byte, 2 * kBlock> tail{};
  const size_t rest = bytes.size() - at;
  if (rest > 0) std::memcpy(tail.data(), bytes.data() + at, rest);
  tail[rest] = std::byte{0x80};
  const size_t size = rest + 9 <= kBlock ? kBlock : 2 * kBlock;
  const uint64_t bits = static_cast<uint64_t>(bytes.size()) * 8;
  for (size_t i = 0; i < 8; ++i) tail[size - 1 - i] = static_cast<std::byte>(bits >> (8 * i));
  for (size_t i = 0; i < size; i += kBlock) add_block(state, tail.data() + i);

  std::string out;
  for (const uint32_t word : state) {
    for (int shift = 28; shift >= 0; shift -= 4) out += "0123456789abcdef"[word >> shift & 15];
  }
  return out;
}

}  // namespace planck::importer
