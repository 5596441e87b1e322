#pragma once
// What the library has to say beside results and errors. It goes to a sink of the host program and
// never to a stream; without a sink a message costs one load.
// Messages come when a plan is built, loaded or meets new shapes and when a limit is met, never
// from a kernel or a repeated run.
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/cat.h"

namespace planck {

enum class LogLevel : uint8_t { debug, info, warning, off };

// One line without its end: at most 1 KiB of UTF-8, control characters escaped. Called from any
// thread; what it throws is dropped.
using LogSink = std::function<void(LogLevel level, std::string_view line)>;

// From `lowest` on; an empty sink, or LogLevel::off, ends all messages.
void set_log_sink(LogSink sink, LogLevel lowest = LogLevel::info);
// Changes the level and keeps the sink.
void set_log_level(LogLevel lowest);

bool logs(LogLevel level);
void write_log(LogLevel level, std::string_view text);

// The text is built only where somebody listens.
void log(LogLevel level, const auto&... parts) {
  if (logs(level)) write_log(level, cat(parts...));
}

// What a terminal or a log file may hold: control characters and bytes that are not UTF-8 become
// escapes, what exceeds `most` bytes becomes "...".
std::string escaped(std::string_view text, size_t most);

}  // namespace planck
