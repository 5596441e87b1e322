#pragma once

namespace planck {

// Whether 512-bit instructions run as two halves, so that they are no faster than 256-bit ones:
// AMD's family 19h ("Software Optimization Guide for the AMD Zen 4 Microarchitecture", 57647).
bool halves_512();

}  // namespace planck
