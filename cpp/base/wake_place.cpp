#include "base/wake_place.h"

#include <unistd.h>

namespace planck {

void WakePlace::starts() {
  thread_ = gettid();
  known_ = sched_getaffinity(0, sizeof home_, &home_) == 0;
}

void WakePlace::woken() {
  asleep_.store(false, std::memory_order_relaxed);
  if (narrowed_.exchange(false)) sched_setaffinity(0, sizeof home_, &home_);
}

bool WakePlace::ours() const {
  if (narrowed_) return true;
  cpu_set_t now;
  return sched_getaffinity(thread_, sizeof now, &now) == 0 && CPU_EQUAL(&now, &home_);
}

// The mask comes before the flag: a sleeper that wakes in between keeps the narrow mask until its
// next sleep, where the flag says that it is ours to put back.
void WakePlace::keep_off(int processor) {
  if (!asleep_.load(std::memory_order_acquire) || !known_ || processor < 0) return;
  cpu_set_t others = home_;
  CPU_CLR(processor, &others);
  if (CPU_COUNT(&others) == 0 || !ours()) return;
  if (sched_setaffinity(thread_, sizeof others, &others) == 0) narrowed_ = true;
}

}  // namespace planck
