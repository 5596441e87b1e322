#pragma once

namespace planck {

// Whether 512-bit instructions run as two halves, so that they are no faster than 256-bit ones:
// AMD's family 19h ("Software Optimization Guide for the AMD Zen 4 Microarchitecture", 57647).
bool halves_512();

// Whether a core keeps up with memory that it reads once, in order, when nothing is prefetched by
// instructions, which then only stand in its way. True for AMD, as measured on Zen 4; prefetchers
// of Intel's cores begin anew on every page and are helped by prefetches far ahead.
bool streams_unasked();

}  // namespace planck
