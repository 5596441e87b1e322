#pragma once
// Where a sleeping thread wakes. A kernel whose processors are all busy likes to put the woken
// thread behind the one that wakes it, where it waits for a whole time slice while that one works
// on alone. So the waker takes its own processor out of the sleeper's mask, and the sleeper puts
// its mask back as soon as it runs.
#include <sched.h>
#include <sys/types.h>

#include <atomic>

namespace planck {

class WakePlace {
 public:
  // The thread itself: once at its start, then around every sleep.
  void starts();
  void sleeps() { asleep_.store(true, std::memory_order_release); }
  void woken();

  // Anybody, just before a wake. A mask that somebody else has changed is left alone.
  void keep_off(int processor);

 private:
  bool ours() const;

  pid_t thread_ = 0;
  bool known_ = false;
  cpu_set_t home_{};
  std::atomic<bool> asleep_{false}, narrowed_{false};
};

}  // namespace planck
