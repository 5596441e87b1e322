#pragma once
#include <cstdint>
#include <string>

namespace planck {

// Every switch that is read from the environment; no other variable is.
struct Knobs {
#define PLANCK_KNOB(type, name, value, doc) type name = value;
#include "base/knobs.inc"
#undef PLANCK_KNOB
};

// Read once, at first use. Throws UsageError where a variable does not parse.
const Knobs& knobs();

// A line for each knob: variable, type, default, meaning.
std::string list_knobs();

}  // namespace planck
