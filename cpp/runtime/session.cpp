#include "runtime/session.h"

#include <mutex>

#include "base/device.h"
#include "base/knobs.h"
#include "runtime/context.h"
#include "runtime/feeds.h"

namespace planck {
namespace {

constexpr int kMostThreads = 1024;

int thread_count(int asked) {
  const int64_t count = asked > 0             ? asked
                        : knobs().threads > 0 ? knobs().threads
                                              : this_device().cores;
  if (asked < 0 || count > kMostThreads) {
    throw with(UsageError("threads is ", asked, "; expected 0 (automatic) to ", kMostThreads),
               {.expected = cat("0 to ", kMostThreads), .got = cat(asked)});
  }
  return static_cast<int>(count);
}

Limits resolved(Limits limits) {
  if (limits.max_arena_bytes == 0) limits.max_arena_bytes = this_device().memory_bytes / 5 * 4;
  return limits;
}

}  // namespace

struct Session::Impl {
  std::shared_ptr<const Plan> plan;
  int threads;
  const Limits limits;
  const Denormals denormals;
  std::mutex mutex;
  Context team;  // of the first caller
  bool team_taken = false;
  std::vector<std::unique_ptr<Context>> all_solo;  // one-thread contexts of further callers
  std::vector<Context*> free_solo;

  Impl(std::shared_ptr<const Plan> p, SessionOptions options)
      : plan(std::move(p)),
        threads(thread_count(options.threads)),
        limits(resolved(options.limits)),
        denormals(options.denormals),
        team(*plan, threads, limits, denormals) {}

  Context& take() {
    const std::lock_guard lock(mutex);
    if (!team_taken) {
      team_taken = true;
      return team;
    }
    if (free_solo.empty()) {
      all_solo.push_back(std::make_unique<Context>(*plan, 1, limits, denormals));
      return *all_solo.back();
    }
    Context* context = free_solo.back();
    free_solo.pop_back();
    return *context;
  }

  void give_back(Context& context) {
    const std::lock_guard lock(mutex);
    if (&context == &team) {
      team_taken = false;
    } else {
      free_solo.push_back(&context);
    }
  }
};

Session::Session(std::shared_ptr<const Plan> plan, SessionOptions options)
    : impl_(std::make_unique<Impl>(std::move(plan), options)) {}
Session::~Session() = default;

void Session::run(std::span<const Feed> feeds, OutputSink& sink, const RunOptions& options) {
  Context& context = impl_->take();
  struct Return {
    Impl& impl;
    Context& context;
    ~Return() { impl.give_back(context); }
  } const give_back{*impl_, context};
  const FloatState state;  // what is computed for new shapes is the same in every host program
  typed([&] { context.run(feeds, sink, options); });
}

MemoryNeed Session::memory(std::span<const Feed> feeds) const {
  return typed([&] {
    GuardOptions options;
    options.limits = &impl_->limits;
    const Guard guard(std::move(options));
    const GuardScope scope(&guard);
    std::vector<const Feed*> matched;
    match_feeds(plan(), feeds, matched);
    return memory_need(plan(), bind_symbols(plan(), matched));
  });
}

const Plan& Session::plan() const { return *impl_->plan; }
int Session::threads() const { return impl_->threads; }
Denormals Session::denormals() const { return impl_->denormals; }

SessionStats Session::stats() const {
  const std::lock_guard lock(impl_->mutex);
  SessionStats sum;
  const auto add = [&](const ContextStats& stats) {
    sum.runs += stats.runs;
    sum.bindings += stats.bindings;
    sum.allocations += stats.allocations;
    sum.copies += stats.copies;
    sum.arena_bytes += stats.arena_bytes;
  };
  add(impl_->team.stats);
  for (const auto& context : impl_->all_solo) add(context->stats);
  return sum;
}

}  // namespace planck
