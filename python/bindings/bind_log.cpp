// Log lines wait in a queue until the thread that built or ran something holds the GIL anyway, so
// that no line makes anybody wait for it.
#include <atomic>
#include <deque>
#include <mutex>

#include "base/log.h"
#include "bindings.h"
#include "log.h"

namespace planck {
namespace {

constexpr size_t kMostLines = 1000;

struct Queue {
  std::mutex mutex;
  std::deque<std::pair<LogLevel, std::string>> lines;
  size_t dropped = 0;
  std::atomic<bool> any{false};
};
Queue& queue() {
  static auto* q = new Queue;
  return *q;
}

void push(LogLevel level, std::string_view line) {
  Queue& q = queue();
  const std::lock_guard lock(q.mutex);
  if (q.lines.size() == kMostLines) {
    q.lines.pop_front();
    ++q.dropped;
  }
  q.lines.emplace_back(level, line);
  q.any = true;
}

py::object logger() { return py::module_::import("logging").attr("getLogger")("planck"); }

int python_level(LogLevel level) { return 10 * (static_cast<int>(level) + 1); }

LogLevel level_of(int python) {
  return python <= 10 ? LogLevel::debug : python <= 20 ? LogLevel::info : LogLevel::warning;
}

void deliver() {
  Queue& q = queue();
  std::deque<std::pair<LogLevel, std::string>> lines;
  size_t dropped = 0;
  {
    const std::lock_guard lock(q.mutex);
    lines.swap(q.lines);
    std::swap(dropped, q.dropped);
    q.any = false;
  }
  const py::object log = logger().attr("log");
  if (dropped > 0) log(python_level(LogLevel::warning), "%d older lines were dropped", dropped);
  for (const auto& [level, line] : lines) log(python_level(level), "%s", line);
}

}  // namespace

LogCall::LogCall(bool ask_level) {
  if (ask_level) set_log_level(level_of(logger().attr("getEffectiveLevel")().cast<int>()));
}

LogCall::~LogCall() {
  if (!queue().any.load(std::memory_order_relaxed)) return;
  const py::error_scope raised;  // what the call itself raises stays as it is
  try {
    deliver();
  } catch (py::error_already_set& e) {
    e.discard_as_unraisable("planck's log");
  }
}

void bind_log() { set_log_sink(push, LogLevel::warning); }

}  // namespace planck
