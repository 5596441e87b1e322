// Limits by name, guards, the team under a guard, the log sink.
#include "base/guard.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <vector>

#include "base/log.h"
#include "base/team.h"

namespace planck {
namespace {

using Clock = std::chrono::steady_clock;

Guard guard_of(double seconds, std::shared_ptr<const Cancel> cancel = nullptr) {
  GuardOptions options;
  options.seconds = seconds;
  options.cancel = std::move(cancel);
  return Guard(std::move(options));
}

TEST(Limits, SetByName) {
  Limits limits;
  limits.set("nodes", int64_t{7});
  limits.set("build_timeout", 1.5);
  limits.set("run_timeout", int64_t{2});
  EXPECT_EQ(limits.nodes, 7);
  EXPECT_EQ(limits.build_timeout, 1.5);
  EXPECT_EQ(limits.run_timeout, 2.0);
  EXPECT_THROW(limits.set("node", int64_t{7}), UsageError);
  EXPECT_THROW(limits.set("nodes", int64_t{-1}), UsageError);
  EXPECT_THROW(limits.set("nodes", 1.5), UsageError);
  EXPECT_THROW(limits.set("rank", int64_t{33}), UsageError);
}

TEST(Limits, EveryRowIsWithinItsRange) {
#define PLANCK_LIMIT(type, name, value, tight, most, unit, doc) \
  EXPECT_LE(type{value}, type{most}) << #name;                  \
  EXPECT_LE(type{tight}, type{most}) << #name;
#include "base/limits.inc"
#undef PLANCK_LIMIT
}

TEST(Limits, WithinNamesAll) {
  within("nodes", 5, 5, "nodes");
  try {
    within("nodes", 5, 6, "nodes");
    FAIL();
  } catch (const LimitError& e) {
    EXPECT_EQ(e.fields.limit, 5);
    EXPECT_EQ(e.fields.need, 6);
    EXPECT_EQ(e.fields.option, "nodes");
  }
}

TEST(Guard, ThreadsHaveTheirOwn) {
  EXPECT_EQ(current_guard(), nullptr);
  check_guard();
  const Guard outer = guard_of(0), inner = guard_of(0);
  const GuardScope scope(&outer);
  {
    const GuardScope again(&inner);
    EXPECT_EQ(current_guard(), &inner);
    std::thread([] { EXPECT_EQ(current_guard(), nullptr); }).join();
  }
  EXPECT_EQ(current_guard(), &outer);
}

TEST(Guard, EndsByTimeAndByWish) {
  const Guard late = guard_of(1e-9);
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_THROW(late.check(), TimeoutError);
  const auto cancel = std::make_shared<Cancel>();
  const Guard guard = guard_of(60, cancel);
  guard.check();
  cancel->request();
  EXPECT_THROW(guard.check(), CancelledError);
}

TEST(Guard, PollIsAskedNowAndThen) {
  int asked = 0;
  GuardOptions options;
  options.poll = [&] { return ++asked < 3; };
  const Guard guard(std::move(options));
  const Clock::time_point start = Clock::now();
  EXPECT_THROW(while (true) guard.check(), CancelledError);
  EXPECT_EQ(asked, 3);
  const std::chrono::duration<double> took = Clock::now() - start;
  EXPECT_GE(took.count(), 0.035);
  EXPECT_LT(took.count(), 0.5);
}

TEST(Typed, MakesOurClasses) {
  EXPECT_THROW(typed([] { throw std::bad_alloc(); }), OutOfMemoryError);
  EXPECT_THROW(typed([]() -> int { throw std::runtime_error("x"); }), InternalError);
  EXPECT_THROW(typed([] { throw FeedError("x"); }), FeedError);
  EXPECT_EQ(typed([] { return 7; }), 7);
}

// A step whose tiles each take a millisecond.
void nap(const void* context, int64_t, const Worker&) {
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
  auto& count = *static_cast<std::atomic<int>*>(const_cast<void*>(context));
  ++count;
}

class GuardedTeam : public testing::TestWithParam<int> {};

TEST_P(GuardedTeam, EndsWithinATile) {
  Team team(GetParam());
  std::atomic<int> count{0};
  const std::vector<Job> jobs(50, Job{nap, &count, 20});
  const auto cancel = std::make_shared<Cancel>();
  for (const bool by_time : {true, false}) {
    const Guard guard = guard_of(by_time ? 0.02 : 60, cancel);
    std::thread asks([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      if (!by_time) cancel->request();
    });
    const Clock::time_point start = Clock::now();
    EXPECT_THROW(team.run(jobs, {}, &guard), Error);
    const std::chrono::duration<double> took = Clock::now() - start;
    asks.join();
    EXPECT_LT(took.count(), 0.25);
    EXPECT_LT(team.failed_step(), jobs.size());
  }
  count = 0;
  team.run(std::span(jobs).first(2));  // usable afterwards
  EXPECT_EQ(count, 40);
}

TEST_P(GuardedTeam, TilesSeeTheGuard) {
  Team team(GetParam());
  const Guard guard = guard_of(0);
  const Guard* expected = &guard;
  const TileFn sees = [](const void* context, int64_t, const Worker&) {
    if (current_guard() != *static_cast<const Guard* const*>(context)) throw RunError("another");
  };
  const std::vector<Job> jobs(4, Job{sees, &expected, 16});
  team.run(jobs, {}, &guard);
  EXPECT_EQ(current_guard(), nullptr);
}

INSTANTIATE_TEST_SUITE_P(Sizes, GuardedTeam, testing::Values(1, 3));

class Log : public testing::Test {
 protected:
  void TearDown() override { set_log_sink(nullptr); }
  std::vector<std::string> lines_;
};

TEST_F(Log, OffBuildsNoText) {
  struct Loud {};
  EXPECT_FALSE(logs(LogLevel::warning));
  set_log_sink([&](LogLevel, std::string_view line) { lines_.emplace_back(line); }, LogLevel::info);
  log(LogLevel::debug, "no");
  log(LogLevel::info, "yes ", 1);
  log(LogLevel::warning, "yes ", 2);
  set_log_level(LogLevel::off);
  log(LogLevel::warning, "no");
  EXPECT_EQ(lines_, (std::vector<std::string>{"yes 1", "yes 2"}));
}

TEST_F(Log, SinksMayThrow) {
  set_log_sink([](LogLevel, std::string_view) { throw 1; });
  log(LogLevel::info, "text");
}

TEST_F(Log, LinesAreShortAndPlain) {
  set_log_sink([&](LogLevel, std::string_view line) { lines_.emplace_back(line); });
  log(LogLevel::info, std::string(5000, 'a'));
  log(LogLevel::info, "\x1b[31m red\n\ttab\x7f\xc2\x9b");
  EXPECT_EQ(lines_[0].size(), 1024u);
  EXPECT_TRUE(lines_[0].ends_with("aaa..."));
  EXPECT_EQ(lines_[1], "\\x1b[31m red\\n\\ttab\\x7f\\xc2\\x9b");
}

TEST_F(Log, EscapesKeepWholeCharacters) {
  EXPECT_EQ(escaped("größe ≥ 𝄞", 100), "größe ≥ 𝄞");
  EXPECT_EQ(escaped("\xff\xfe", 100), "\\xff\\xfe");
  EXPECT_EQ(escaped("≥≥≥", 9), "≥≥≥");
  EXPECT_EQ(escaped("≥≥≥≥", 9), "≥≥...");
  EXPECT_EQ(escaped("", 9), "");
}

}  // namespace
}  // namespace planck
