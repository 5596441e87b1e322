#include "base/vector_units.h"

#include <cpuid.h>

namespace planck {

namespace {

bool is_amd() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(0, &a, &b, &c, &d) == 0) return false;
  return b == signature_AMD_ebx && c == signature_AMD_ecx && d == signature_AMD_edx;
}

}  // namespace

bool halves_512() {
  static const bool halves = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!is_amd() || __get_cpuid(1, &a, &b, &c, &d) == 0) return false;
    const unsigned family = ((a >> 8) & 0xF) + ((a >> 20) & 0xFF);
    return family == 0x19;
  }();
  return halves;
}

bool streams_unasked() {
  static const bool unasked = is_amd();
  return unasked;
}

}  // namespace planck
