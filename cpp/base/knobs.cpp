#include "base/knobs.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>

#include "base/error.h"

namespace planck {
namespace {

void parse(const std::string& name, const std::string& text, int64_t& value) {
  char* end = nullptr;
  value = std::strtoll(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0') throw UsageError(name, ": '", text, "' is not an integer");
}
void parse(const std::string&, const std::string& text, std::string& value) { value = text; }

std::string variable(std::string name) {
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::toupper(c); });
  return "PLANCK_" + name;
}

void load(const char* name, auto& value) {
  if (const char* text = std::getenv(variable(name).c_str())) parse(variable(name), text, value);
}

}  // namespace

const Knobs& knobs() {
  static const Knobs all = [] {
    Knobs k;
#define PLANCK_KNOB(type, name, value, doc) load(#name, k.name);
#include "base/knobs.inc"
#undef PLANCK_KNOB
    return k;
  }();
  return all;
}

std::string list_knobs() {
  std::string out;
#define PLANCK_KNOB(type, name, value, doc) \
  out += cat(variable(#name), " (" #type ", default " #value "): ", doc, "\n");
#include "base/knobs.inc"
#undef PLANCK_KNOB
  return out;
}

}  // namespace planck
