#include "base/log.h"

#include <atomic>
#include <memory>
#include <mutex>

#include "base/utf8.h"

namespace planck {
namespace {

constexpr size_t kMostBytes = 1024;

struct State {
  std::atomic<LogLevel> lowest{LogLevel::off};
  std::mutex mutex;
  std::shared_ptr<const LogSink> sink;
};
State& state() {
  static auto* s = new State;  // usable until the last thread has ended
  return *s;
}

void append_escape(std::string& out, unsigned char c) {
  constexpr const char* kDigits = "0123456789abcdef";
  if (c == '\n') {
    out += "\\n";
  } else if (c == '\t') {
    out += "\\t";
  } else {
    out += "\\x";
    out += kDigits[c >> 4];
    out += kDigits[c & 15];
  }
}

// The sequence itself, unless a terminal might obey it: C0, DEL, and C1 (U+0080 to U+009F).
void append(std::string& out, std::string_view sequence) {
  const auto lead = static_cast<unsigned char>(sequence[0]);
  const bool c1 = lead == 0xc2 && static_cast<unsigned char>(sequence[1]) < 0xa0;
  if (lead >= 0x20 && lead != 0x7f && !c1) {
    out += sequence;
    return;
  }
  for (const char c : sequence) append_escape(out, static_cast<unsigned char>(c));
}

}  // namespace

std::string escaped(std::string_view text, size_t most) {
  std::string out;
  while (!text.empty()) {
    const size_t size = utf8_sequence(text);
    std::string next;
    if (size == 0) {
      append_escape(next, static_cast<unsigned char>(text[0]));
    } else {
      append(next, text.substr(0, size));
    }
    if (out.size() + next.size() + (text.size() > std::max<size_t>(size, 1) ? 3 : 0) > most) {
      return out + "...";
    }
    out += next;
    text.remove_prefix(std::max<size_t>(size, 1));
  }
  return out;
}

void set_log_sink(LogSink sink, LogLevel lowest) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  s.sink = sink ? std::make_shared<const LogSink>(std::move(sink)) : nullptr;
  s.lowest = s.sink == nullptr ? LogLevel::off : lowest;
}

void set_log_level(LogLevel lowest) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  if (s.sink != nullptr) s.lowest = lowest;
}

bool logs(LogLevel level) { return level >= state().lowest.load(std::memory_order_relaxed); }

void write_log(LogLevel level, std::string_view text) {
  State& s = state();
  std::shared_ptr<const LogSink> sink;
  {
    const std::lock_guard lock(s.mutex);
    sink = s.sink;
  }
  if (sink == nullptr) return;
  try {
    (*sink)(level, escaped(text, kMostBytes));
  } catch (...) {  // a log must not change what is logged
  }
}

}  // namespace planck
