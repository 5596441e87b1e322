#include "base/device.h"

#include <cpuid.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>

#include "base/error.h"
#include "base/knobs.h"

namespace planck {
namespace {

std::string brand() {
  unsigned regs[12] = {};
  if (__get_cpuid_max(0x80000000u, nullptr) < 0x80000004u) return "unknown x86-64";
  for (size_t i = 0; i < 3; ++i) {
    unsigned* r = regs + 4 * i;
    __get_cpuid(0x80000002u + static_cast<unsigned>(i), &r[0], &r[1], &r[2], &r[3]);
  }
  char text[49] = {};
  std::memcpy(text, regs, 48);
  const std::string all = text;
  const size_t from = all.find_first_not_of(' ');
  return from == std::string::npos ? "unknown x86-64"
                                   : all.substr(from, all.find_last_not_of(' ') - from + 1);
}

// Linux keeps the 8 KiB of tile registers switched off until a process asks for them.
bool tiles_permitted() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

bool has_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25;
  return (d & kBf16) != 0 && (d & kTile) != 0 && (d & kInt8) != 0 && tiles_permitted();
}

// __builtin_cpu_supports also checks that the operating system saves the registers.
Isa best_isa() {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Isa::portable;
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (!wide) return Isa::avx2;
  return has_amx() ? Isa::amx : Isa::avx512;
}

// AVX-VNNI came without AVX-512, so that neither says anything about the other.
bool has_avx_vnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kAvxVnni = 1u << 4;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & kAvxVnni) != 0;
}

// Cores that the cgroup's quota pays for; a container with 2 of 64 cores must not start 64 threads.
int quota_cores() {
  std::ifstream v2("/sys/fs/cgroup/cpu.max");
  double quota = 0, period = 0;
  std::string first;
  if (v2 >> first >> period && first != "max") {
    quota = std::strtod(first.c_str(), nullptr);
  } else {
    std::ifstream q("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
        p("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
    if (!(q >> quota) || !(p >> period)) return 1 << 20;
  }
  if (quota <= 0 || period <= 0) return 1 << 20;
  return std::max(1, static_cast<int>(std::ceil(quota / period)));
}

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int allowed = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  return std::max(1, std::min(allowed, quota_cores()));
}

// Memory that this process may have: of the machine, or what its cgroup leaves of it.
int64_t memory_bytes() {
  int64_t bytes = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  for (const char* file :
       {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::ifstream limit(file);
    int64_t most = 0;
    if (limit >> most && most > 0) bytes = std::min(bytes, most);  // "max" is no number
  }
  return bytes;
}

int64_t cache_bytes(int name, int64_t otherwise) {
  const long bytes = sysconf(name);
  return bytes > 0 ? bytes : otherwise;
}

// The C library adds up what all cores of a socket have, also of those that a virtual machine does
// not: the kernel knows better.
int64_t last_cache_bytes(int64_t otherwise) {
  std::ifstream size("/sys/devices/system/cpu/cpu0/cache/index3/size");
  int64_t kilobytes = 0;
  char unit = 0;
  if (size >> kilobytes >> unit && unit == 'K' && kilobytes > 0) return kilobytes << 10;
  return cache_bytes(_SC_LEVEL3_CACHE_SIZE, otherwise);
}

Isa isa_limit(Isa found) {
  const std::string& limit = knobs().max_isa;
  if (limit.empty()) return found;
  const auto* at = std::ranges::find(kIsaNames, std::string_view(limit));
  if (at == std::end(kIsaNames)) {
    throw UsageError("PLANCK_MAX_ISA is '", limit, "'; known levels: ", joined(kIsaNames));
  }
  return std::min(found, static_cast<Isa>(at - std::begin(kIsaNames)));
}

}  // namespace

const Device& this_device() {
  static const Device device = [] {
    Device d;
    d.cpu = brand();
    d.best = isa_limit(best_isa());
    d.vnni512 = d.has(Isa::avx512) && __builtin_cpu_supports("avx512vnni");
    d.avx_vnni = d.has(Isa::avx2) && has_avx_vnni();
    d.amx_int8 = d.has(Isa::amx);  // part of the level
    d.cores = usable_cores();
    d.memory_bytes = memory_bytes();
    d.l1_bytes = cache_bytes(_SC_LEVEL1_DCACHE_SIZE, d.l1_bytes);
    d.l2_bytes = cache_bytes(_SC_LEVEL2_CACHE_SIZE, d.l2_bytes);
    d.l3_bytes = last_cache_bytes(d.l3_bytes);
    return d;
  }();
  return device;
}

}  // namespace planck
