#include "base/team.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <xmmintrin.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "base/checked.h"
#include "base/device.h"
#include "base/error.h"
#include "base/knobs.h"
#include "base/wake_place.h"

namespace planck {
namespace {

using Clock = std::chrono::steady_clock;

struct Free {
  void operator()(std::byte* bytes) const { std::free(bytes); }
};
using Scratch = std::unique_ptr<std::byte, Free>;

Scratch allocate(int64_t bytes) {
  constexpr int64_t kPage = 4096;  // so that workers share no page, hence no line
  auto* at = static_cast<std::byte*>(std::aligned_alloc(kPage, round_up(bytes, kPage)));
  if (at == nullptr) {
    throw with(OutOfMemoryError("no memory for ", bytes, " bytes of scratch"), {.need = bytes});
  }
  return Scratch(at);
}

// Who sleeps on a futex word: the end of a run wakes the caller alone.
constexpr uint32_t kCaller = 1, kThreads = 2;

void futex_wait(const uint32_t* word, uint32_t expected, uint32_t who) {
  syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, expected, nullptr, nullptr, who);
}
void futex_wake(const uint32_t* word, int count, uint32_t who) {
  syscall(SYS_futex, word, FUTEX_WAKE_BITSET_PRIVATE, count, nullptr, nullptr, who);
}

}  // namespace

// The whole state of a step is one word, so that a worker that comes late, or wakes in the middle
// of the next run, can never take a tile of a step that it does not see: a ticket is one
// compare-and-swap on (number of the step, tiles left). Whoever ends the last tile of a step
// publishes the next one; nobody waits for a worker that holds no tile. A step whose tiles lie
// along memory has such a word for each of a few parts; the words of the others are written before
// that of part 0, which makes the step known. Who finds its own part done helps with the others.
struct Team::Impl {
  struct alignas(64) Padded {
    std::atomic<uint64_t> value{0};
  };

  static constexpr int kTileBits = 32;
  static uint32_t number(uint64_t work) { return static_cast<uint32_t>(work >> kTileBits); }
  static uint32_t left(uint64_t work) { return static_cast<uint32_t>(work); }

  static constexpr int kMostParts = 16;  // each is a line to write for every step

  Impl(int count, Denormals numbers)
      : denormals(numbers),
        others(std::min(count, kMostParts) - 1),
        workers(count),
        places(count),
        scratch(count) {
    for (int i = 0; i < count; ++i) workers[i] = {i, count, nullptr};
    spin = std::chrono::microseconds(std::max<int64_t>(0, knobs().spin_us));
    // A spinning thread without a core of its own robs the one that works.
    if (count > this_device().cores) spin = std::min<Clock::duration>(spin, kCrowdedSpin);
  }

  static constexpr std::chrono::microseconds kCrowdedSpin{5};
  static constexpr std::chrono::milliseconds kYieldAfter{1};

  const Denormals denormals;
  Padded work;                 // number << 32 | tiles left, of part 0
  std::vector<Padded> others;  // the same of parts 1, 2, ...
  Padded undone;               // tiles of the step that have not ended
  alignas(64) std::atomic<int> sleepers{0};
  std::atomic<bool> stop{false}, failed{false};
  // Written before the number that makes them visible, read only by who holds a tile of it.
  std::span<const Job> steps;
  size_t step = 0;
  std::span<int64_t> ends;  // empty, or one for each step
  const Guard* guard = nullptr;
  Clock::time_point began;
  std::atomic<uint32_t> finished{0};  // the number at which the run is over

  std::mutex error_mutex;
  std::exception_ptr error;
  size_t failed_step = 0;

  std::vector<Worker> workers;
  std::vector<WakePlace> places;  // of the threads; the caller's own is unused
  std::vector<Scratch> scratch;
  int64_t scratch_bytes = 0;
  Clock::duration spin{};
  std::vector<std::thread> threads;

  void run_guarded(const Job& job, int64_t tile, const Worker& worker) const {
    if (guard == nullptr) return job.run(job.args, tile, worker);
    guard->check();
    const GuardScope scope(guard);
    job.run(job.args, tile, worker);
  }

  void run_tile(const Job& job, int64_t tile, const Worker& worker) {
    if (failed.load(std::memory_order_relaxed)) return;
    try {
      run_guarded(job, tile, worker);
    } catch (...) {
      const std::lock_guard lock(error_mutex);
      if (error == nullptr) {
        error = std::current_exception();
        failed_step = static_cast<size_t>(&job - steps.data());
      }
      failed.store(true, std::memory_order_relaxed);
    }
  }

  // Called once for each step, by whoever ended it.
  void note_end(size_t at) const {
    if (ends.empty()) return;
    ends[at] = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - began).count();
  }

  // The half of `work` that sleepers wait on.
  const uint32_t* futex_word() const {
    static_assert(std::endian::native == std::endian::little);
    return reinterpret_cast<const uint32_t*>(&work.value) + 1;
  }

  void place_sleepers() {
    const int here = sched_getcpu();
    for (WakePlace& place : places) place.keep_off(here);
  }

  // Sleepers wake up while the caller runs what it alone can run; they find nothing yet, and spin.
  void wake_early() {
    if (sleepers.load(std::memory_order_seq_cst) == 0) return;
    place_sleepers();
    futex_wake(futex_word(), INT_MAX, kThreads);
  }

  int64_t parts() const { return static_cast<int64_t>(others.size()) + 1; }
  bool has_parts(const Job& job) const { return job.along && job.tiles >= parts(); }
  // Where part `part` of the job's tiles begins, and the one before it ends.
  int64_t first_of(const Job& job, int64_t part) const {
    if (!has_parts(job)) return part == 0 ? 0 : job.tiles;
    return part_begin(job.tiles, part, parts());
  }
  static uint64_t word(uint32_t number, int64_t tiles) {
    return static_cast<uint64_t>(number) << kTileBits | static_cast<uint64_t>(tiles);
  }

  void publish_job(uint32_t next, const Job& job) {
    if (has_parts(job)) {
      for (int64_t part = 1; part < parts(); ++part) {
        const int64_t count = first_of(job, part + 1) - first_of(job, part);
        others[static_cast<size_t>(part - 1)].value.store(word(next, count),
                                                          std::memory_order_release);
      }
    }
    publish(next, static_cast<uint32_t>(first_of(job, 1)), static_cast<uint32_t>(job.tiles));
  }

  // Sequentially consistent with sleepers: either the sleeper sees the new number or we see it.
  // `first`: the tiles of part 0.
  void publish(uint32_t next, uint32_t first, uint32_t tiles) {
    work.value.store(word(next, first), std::memory_order_seq_cst);
    if (sleepers.load(std::memory_order_seq_cst) == 0) return;
    if (tiles > 0) place_sleepers();
    const uint32_t most = static_cast<uint32_t>(workers.size());
    futex_wake(futex_word(), static_cast<int>(tiles == 0 ? most : std::min(tiles, most)),
               tiles == 0 ? kCaller : kCaller | kThreads);
  }

  // From step `at` on: runs what has a single tile here and now, then publishes the first step
  // that is worth sharing, or the end. `now` is the number of the step that has just ended.
  void start_from(size_t at, uint32_t now, const Worker& worker) {
    for (; at < steps.size(); ++at) {
      const Job& job = steps[at];
      if (job.tiles > 1) break;
      if (job.tiles == 1) run_tile(job, 0, worker);
      note_end(at);
    }
    if (at == steps.size() || failed.load(std::memory_order_relaxed)) {
      finished.store(now + 1, std::memory_order_relaxed);
      publish(now + 1, 0, 0);
      return;
    }
    step = at;
    undone.value.store(static_cast<uint64_t>(steps[at].tiles), std::memory_order_relaxed);
    publish_job(now + 1, steps[at]);
  }

  // Takes and runs one tile of the current step; false where none is left.
  bool help(const Worker& worker) {
    const uint32_t now = number(work.value.load(std::memory_order_acquire));
    const int64_t own = worker.index * parts() / worker.count;
    for (int64_t i = 0; i < parts(); ++i) {
      const int64_t part = (own + i) % parts();
      Padded& left_of = part == 0 ? work : others[static_cast<size_t>(part - 1)];
      if (help_with(left_of.value, part, now, worker)) return true;
    }
    return false;
  }

  // The same of one part; that of an older step has no tiles left.
  bool help_with(std::atomic<uint64_t>& tickets, int64_t part, uint32_t now, const Worker& worker) {
    uint64_t seen = tickets.load(std::memory_order_acquire);
    while (left(seen) > 0 && number(seen) == now) {
      if (!tickets.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel,
                                         std::memory_order_acquire)) {
        continue;
      }
      const Job& job = steps[step];
      run_tile(job, first_of(job, part + 1) - left(seen), worker);
      if (undone.value.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        note_end(step);
        start_from(step + 1, now, worker);
      }
      return true;
    }
    return false;
  }

  // Returns when the number is no longer `seen`, or now and then for no reason.
  void wait(uint32_t seen, uint32_t who, WakePlace& place) {
    const Clock::time_point from = Clock::now();
    for (Clock::duration waited{}; waited < spin; waited = Clock::now() - from) {
      for (int i = 0; i < 32; ++i) {
        if (number(work.value.load(std::memory_order_acquire)) != seen) return;
        _mm_pause();
      }
      if (waited > kYieldAfter) std::this_thread::yield();
    }
    place.sleeps();
    sleepers.fetch_add(1, std::memory_order_seq_cst);
    if (!stop.load(std::memory_order_seq_cst)) futex_wait(futex_word(), seen, who);
    sleepers.fetch_sub(1, std::memory_order_relaxed);
    place.woken();
  }

  void thread_main(int index) {
    FloatState::enter(denormals);
    places[index].starts();
    while (!stop.load(std::memory_order_relaxed)) {
      const uint32_t seen = number(work.value.load(std::memory_order_acquire));
      if (!help(workers[index])) wait(seen, kThreads, places[index]);
    }
  }

  void run_alone(std::span<const Job> list) {
    for (size_t at = 0; at < list.size(); ++at) {
      const Job& job = list[at];
      failed_step = at;  // unless it ends well
      for (int64_t tile = 0; tile < job.tiles; ++tile) run_guarded(job, tile, workers[0]);
      note_end(at);
    }
  }

  void run_together(std::span<const Job> list) {
    steps = list;
    error = nullptr;
    failed.store(false, std::memory_order_relaxed);
    const uint32_t before = number(work.value.load(std::memory_order_relaxed));
    finished.store(before, std::memory_order_relaxed);
    if (list[0].tiles <= 1) wake_early();
    start_from(0, before, workers[0]);
    while (true) {
      const uint32_t seen = number(work.value.load(std::memory_order_acquire));
      if (seen != before && seen == finished.load(std::memory_order_relaxed)) break;
      if (!help(workers[0])) wait(seen, kCaller, places[0]);
    }
    if (error != nullptr) std::rethrow_exception(std::exchange(error, nullptr));
  }
};

Team::Team(int workers, int64_t scratch_bytes, Denormals denormals) {
  if (workers < 1) throw UsageError("a team needs at least one worker, not ", workers);
  impl_ = std::make_unique<Impl>(workers, denormals);
  reserve_scratch(scratch_bytes);
  for (int i = 1; i < workers; ++i) {
    impl_->threads.emplace_back([impl = impl_.get(), i] { impl->thread_main(i); });
  }
}

Team::~Team() {
  Impl& team = *impl_;
  team.stop.store(true);
  // A new number, so that nobody falls asleep on the old one; then whoever sleeps already.
  team.publish(Impl::number(team.work.value.load()) + 1, 0, 0);
  futex_wake(team.futex_word(), INT_MAX, kCaller | kThreads);
  for (std::thread& thread : team.threads) thread.join();
}

size_t Team::failed_step() const { return impl_->failed_step; }

int Team::size() const { return static_cast<int>(impl_->workers.size()); }

void Team::reserve_scratch(int64_t bytes) {
  Impl& team = *impl_;
  if (bytes <= team.scratch_bytes) return;
  for (size_t i = 0; i < team.workers.size(); ++i) {
    team.scratch[i] = allocate(bytes);
    team.workers[i].scratch = team.scratch[i].get();
  }
  team.scratch_bytes = bytes;
}

void Team::run(std::span<const Job> steps, std::span<int64_t> ends, const Guard* guard) {
  const FloatState state(impl_->denormals);
  for (const Job& job : steps) {
    if (job.tiles < 0 || job.tiles > UINT32_MAX) throw InternalError(job.tiles, " tiles in a step");
  }
  if (!ends.empty() && ends.size() != steps.size()) throw InternalError("a time for each step");
  impl_->ends = ends;
  impl_->guard = guard;
  if (!ends.empty()) impl_->began = Clock::now();
  const bool alone = std::ranges::none_of(steps, [](const Job& job) { return job.tiles > 1; });
  if (alone || size() == 1) {
    impl_->run_alone(steps);
  } else {
    impl_->run_together(steps);
  }
}

}  // namespace planck
