#pragma once
// What a piece of work may take, and whether somebody wants it to end.
//
// A build or a run makes one Guard and puts it on its thread (GuardScope); every loop that may be
// long calls check_guard(), which costs a load where nobody asks and a look at the clock where
// somebody does. Ambient, as every op, pass and kernel family would otherwise hand it on.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "base/limits.h"

namespace planck {

// A wish to end a build or a run, from any thread. One may serve several runs.
class Cancel {
 public:
  void request() { requested_.store(true, std::memory_order_relaxed); }
  bool requested() const { return requested_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> requested_{false};
};

struct GuardOptions {
  const Limits* limits = nullptr;        // which outlive the guard; null: the defaults
  double seconds = 0;                    // 0: no time-out
  const char* option = "run_timeout";    // which a TimeoutError names
  std::shared_ptr<const Cancel> cancel;  // may be null
  std::function<bool()> poll;            // about every 20 ms, by one thread; false cancels
  std::function<std::string()> place;    // " during pass fold", for messages
};

class Guard {
 public:
  explicit Guard(GuardOptions options);
  const Limits& limits() const { return *options_.limits; }
  // Whether anybody may want the work to end.
  bool asked() const { return asked_; }

  // TimeoutError or CancelledError if the work has to end.
  void check() const {
    if (asked_) look();
  }

 private:
  using Clock = std::chrono::steady_clock;
  void look() const;
  std::string place() const;

  GuardOptions options_;
  bool asked_;
  Clock::time_point deadline_;
  mutable Clock::time_point next_poll_;
};

// The guard of this thread; null where nobody set one.
const Guard* current_guard();
const Limits& current_limits();  // of that guard, else the defaults
inline void check_guard() {
  if (const Guard* guard = current_guard()) guard->check();
}

class GuardScope {
 public:
  explicit GuardScope(const Guard* guard);
  ~GuardScope();
  GuardScope(const GuardScope&) = delete;
  GuardScope& operator=(const GuardScope&) = delete;

 private:
  const Guard* before_;
};

// Elements that a plain loop may handle between two checks.
inline constexpr size_t kGuardStride = size_t{1} << 16;
inline void check_guard_at(size_t i) {
  if (i % kGuardStride == 0) check_guard();
}

// Calls body(first, count) for pieces of a large range of bytes or elements, with checks between.
void in_pieces(size_t count, auto&& body) {
  constexpr size_t kPiece = size_t{8} << 20;
  for (size_t first = 0; first < count; first += kPiece) {
    check_guard();
    body(first, std::min(kPiece, count - first));
  }
}

}  // namespace planck
