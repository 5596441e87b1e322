#include "base/guard.h"

namespace planck {
namespace {

thread_local const Guard* t_guard = nullptr;

constexpr std::chrono::milliseconds kPollEvery{20};

const Limits& default_limits() {
  static const Limits limits;
  return limits;
}

}  // namespace

Guard::Guard(GuardOptions options)
    : options_(std::move(options)),
      asked_(options_.seconds > 0 || options_.cancel != nullptr || options_.poll != nullptr),
      deadline_(Clock::time_point::max()),
      next_poll_(Clock::time_point::min()) {
  if (options_.limits == nullptr) options_.limits = &default_limits();
  if (options_.seconds <= 0) return;
  deadline_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                 std::chrono::duration<double>(options_.seconds));
}

std::string Guard::place() const { return options_.place ? options_.place() : ""; }

void Guard::look() const {
  const Clock::time_point now = Clock::now();
  if (now >= deadline_) {
    throw with(TimeoutError("ended after ", options_.option, ", ", options_.seconds, " s", place()),
               {.expected = cat("at most ", options_.seconds, " s"), .option = options_.option});
  }
  bool cancelled = options_.cancel != nullptr && options_.cancel->requested();
  if (!cancelled && options_.poll && now >= next_poll_) {
    cancelled = !options_.poll();
    next_poll_ = Clock::now() + kPollEvery;
  }
  if (cancelled) throw CancelledError("cancelled", place());
}

const Guard* current_guard() { return t_guard; }

const Limits& current_limits() { return t_guard == nullptr ? default_limits() : t_guard->limits(); }

GuardScope::GuardScope(const Guard* guard) : before_(t_guard) { t_guard = guard; }
GuardScope::~GuardScope() { t_guard = before_; }

}  // namespace planck
