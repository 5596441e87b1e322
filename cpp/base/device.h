#pragma once
#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace planck {

// Levels are ordered: a machine that has one has all before it.
enum class Isa : uint8_t { portable, avx2, avx512, amx };
inline constexpr std::string_view kIsaNames[] = {"portable", "avx2", "avx512", "amx"};
constexpr std::string_view isa_name(Isa isa) { return kIsaNames[static_cast<int>(isa)]; }
inline std::ostream& operator<<(std::ostream& out, Isa isa) { return out << isa_name(isa); }

struct Device {
  std::string cpu;           // brand string
  Isa best = Isa::portable;  // after PLANCK_MAX_ISA
  // What adds products of bytes, beside the levels: vpdpbusd on 512 bits, on 256 bits in the VEX
  // encoding, and the tile unit's tdpbusd. Each only where `best` has its registers.
  bool vnni512 = false, avx_vnni = false, amx_int8 = false;
  int cores = 1;  // by affinity and cgroup quota: the default number of threads
  int64_t memory_bytes = int64_t{4} << 30;  // of the machine, or what its cgroup leaves of it
  int64_t l1_bytes = 32 << 10, l2_bytes = 512 << 10, l3_bytes = 8 << 20;  // L1, L2 of one core
  bool has(Isa isa) const { return isa <= best; }
};

// Probed once. PLANCK_MAX_ISA lowers `best`, so that lower paths can be tested anywhere.
const Device& this_device();

}  // namespace planck
