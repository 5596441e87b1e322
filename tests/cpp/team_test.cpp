#include "base/team.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <xmmintrin.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/error.h"

namespace planck {
namespace {

struct Counted {
  std::vector<std::atomic<int>> runs;
  const Counted* before = nullptr;  // must be complete when a tile of this step starts
  std::atomic<bool> early{false};
  explicit Counted(int64_t tiles) : runs(tiles) {}
};

void count_tile(const void* args, int64_t tile, const Worker& worker) {
  auto& step = *static_cast<Counted*>(const_cast<void*>(args));
  if (step.before != nullptr) {
    for (const auto& run : step.before->runs) {
      if (run.load(std::memory_order_relaxed) == 0) step.early = true;
    }
  }
  if (worker.index < 0 || worker.index >= worker.count) step.early = true;
  step.runs[tile].fetch_add(1, std::memory_order_relaxed);
}

class TeamSizes : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(All, TeamSizes, testing::Values(1, 2, 3, 8));

TEST_P(TeamSizes, EveryTileOnceAndStepsInOrder) {
  Team team(GetParam());
  ASSERT_EQ(team.size(), GetParam());
  for (int round = 0; round < 50; ++round) {
    std::vector<std::unique_ptr<Counted>> steps;
    std::vector<Job> jobs;
    for (const int64_t tiles : {3, 1, 0, 17, 1, 1, 64, 2, 0, 5}) {
      steps.push_back(std::make_unique<Counted>(tiles));
      if (steps.size() > 1) steps.back()->before = steps[steps.size() - 2].get();
      jobs.push_back({count_tile, steps.back().get(), tiles, (steps.size() + round) % 2 == 0});
    }
    team.run(jobs);
    for (const auto& step : steps) {
      EXPECT_FALSE(step->early);
      for (const auto& run : step->runs) EXPECT_EQ(run.load(), 1);
    }
  }
}

// Waits, for a long time if need be.
bool comes_true(const auto& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

// Where tiles lie along memory, the first that a worker takes is that of its own part.
TEST_P(TeamSizes, WorkersBeginWithTheirPart) {
  struct Meeting {
    std::atomic<int> arrived{0}, strangers{0};
  } meeting;
  constexpr int64_t kEach = 3;
  Team team(GetParam());
  const TileFn meet = [](const void* args, int64_t tile, const Worker& worker) {
    auto& m = *static_cast<Meeting*>(const_cast<void*>(args));
    if (tile % kEach != 0 || tile / kEach != worker.index) {
      if (m.arrived.load() < worker.count) ++m.strangers;
      return;
    }
    ++m.arrived;
    if (!comes_true([&] { return m.arrived.load() == worker.count; })) ++m.strangers;
  };
  if (team.size() == 1) GTEST_SKIP() << "a single worker takes tiles in order";
  const Job job{meet, &meeting, kEach * team.size(), true};
  team.run({&job, 1});
  EXPECT_EQ(meeting.arrived.load(), team.size());
  EXPECT_EQ(meeting.strangers.load(), 0);
}

// Nobody waits for a worker that is held up: the others do its part.
TEST_P(TeamSizes, PartsOfOthersAreDoneToo) {
  Team team(GetParam());
  if (team.size() == 1) GTEST_SKIP() << "there are no others";
  std::atomic<int> done{0};
  const TileFn wait_for_rest = [](const void* args, int64_t tile, const Worker&) {
    auto& count = *static_cast<std::atomic<int>*>(const_cast<void*>(args));
    if (tile == 0 && !comes_true([&] { return count.load() == 31; })) throw RunError("alone");
    ++count;
  };
  const Job job{wait_for_rest, &done, 32, true};
  EXPECT_NO_THROW(team.run({&job, 1}));
  EXPECT_EQ(done.load(), 32);
}

TEST_P(TeamSizes, ManyShortRuns) {
  Team team(GetParam());
  Counted step(4);
  const Job jobs[] = {{count_tile, &step, 4}, {count_tile, &step, 4, true}};
  constexpr int kRuns = 3000;
  for (int i = 0; i < kRuns; ++i) team.run(jobs);
  for (const auto& run : step.runs) EXPECT_EQ(run.load(), 2 * kRuns);
}

TEST_P(TeamSizes, WakesAfterSleep) {
  Team team(GetParam());
  Counted step(8);
  const Job job{count_tile, &step, 8};
  for (int i = 0; i < 20; ++i) {
    team.run({&job, 1});
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // far beyond any spin
  }
  for (const auto& run : step.runs) EXPECT_EQ(run.load(), 20);
}

// The mask in which a thread is woken is put back before it works.
TEST_P(TeamSizes, AffinityAfterSleepIsThatOfTheStart) {
  static cpu_set_t home;
  static std::atomic<int> others;
  ASSERT_EQ(sched_getaffinity(0, sizeof home, &home), 0);
  Team team(GetParam());
  others = 0;
  const TileFn compare = [](const void*, int64_t, const Worker&) {
    cpu_set_t now;
    if (sched_getaffinity(0, sizeof now, &now) != 0 || !CPU_EQUAL(&now, &home)) ++others;
    std::this_thread::sleep_for(std::chrono::microseconds(200));  // a tile for everybody
  };
  const Job job{compare, nullptr, 16};
  for (int i = 0; i < 10; ++i) {
    team.run({&job, 1});
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  EXPECT_EQ(others.load(), 0);
}

// Workers that wait longer than they spin, in the middle of a run.
TEST_P(TeamSizes, SleepsInsideARun) {
  Team team(GetParam());
  const TileFn slow = [](const void*, int64_t tile, const Worker&) {
    if (tile == 0) std::this_thread::sleep_for(std::chrono::milliseconds(3));
  };
  Counted step(8);
  const Job jobs[] = {{slow, nullptr, 2},
                      {count_tile, &step, 8},
                      {slow, nullptr, 1},
                      {count_tile, &step, 8},
                      {slow, nullptr, 2}};
  for (int i = 0; i < 10; ++i) team.run(jobs);
  for (const auto& run : step.runs) EXPECT_EQ(run.load(), 20);
}

TEST_P(TeamSizes, ExceptionsReachTheCallerAndTheTeamGoesOn) {
  Team team(GetParam());
  const TileFn fail = [](const void*, int64_t tile, const Worker&) {
    if (tile == 2) throw RunError("tile ", tile, " fails");
  };
  Counted after(6);
  const Job jobs[] = {{fail, nullptr, 5}, {count_tile, &after, 6}};
  for (int i = 0; i < 20; ++i) {
    EXPECT_THROW(team.run(jobs), RunError);
    for (const auto& run : after.runs) EXPECT_EQ(run.load(), 0);
  }
  team.run({jobs + 1, 1});
  for (const auto& run : after.runs) EXPECT_EQ(run.load(), 1);
}

TEST_P(TeamSizes, ExceptionInASingleTile) {
  Team team(GetParam());
  const TileFn fail = [](const void*, int64_t, const Worker&) { throw std::runtime_error("no"); };
  Counted step(6);
  const Job jobs[] = {{count_tile, &step, 6}, {fail, nullptr, 1}, {count_tile, &step, 6}};
  EXPECT_THROW(team.run(jobs), std::runtime_error);
  for (const auto& run : step.runs) EXPECT_EQ(run.load(), 1);
}

TEST_P(TeamSizes, ScratchIsPrivateAndAligned) {
  Team team(GetParam(), 100);
  team.reserve_scratch(10000);
  const TileFn use = [](const void*, int64_t tile, const Worker& worker) {
    if (reinterpret_cast<uintptr_t>(worker.scratch) % 64 != 0) throw RunError("not aligned");
    auto* values = reinterpret_cast<volatile int64_t*>(worker.scratch);
    for (int i = 0; i < 1250; ++i) values[i] = tile;
    for (int i = 0; i < 1250; ++i) {
      if (values[i] != tile) throw RunError("another worker wrote here");
    }
  };
  const Job job{use, nullptr, 200};
  team.run({&job, 1});
}

constexpr unsigned kControl = 0xFFC0;  // all of MXCSR but the flags
constexpr unsigned kFlush = 0x8040;    // flush to zero, denormals are zero

// Throws unless both a subnormal operand and a subnormal result are what `args` says.
void expect_denormals(const void* args, int64_t, const Worker&) {
  const bool flush = *static_cast<const Denormals*>(args) == Denormals::flush;
  const volatile float subnormal = 1e-39F, small = 1e-30F;
  if ((subnormal * 1e10F == 0) != flush) throw RunError("a subnormal operand");
  if ((small * 1e-10F == 0) != flush) throw RunError("a subnormal result");
  if ((_mm_getcsr() & kControl) != (flush ? 0x1F80 | kFlush : 0x1F80)) throw RunError("the state");
}

TEST_P(TeamSizes, FloatStateIsOursInsideAndTheCallersOutside) {
  const unsigned before = _mm_getcsr();
  for (const Denormals denormals : {Denormals::compute, Denormals::flush}) {
    Team team(GetParam(), 0, denormals);
    const Job jobs[] = {{expect_denormals, &denormals, 1}, {expect_denormals, &denormals, 64}};
    for (const unsigned odd : {before, before | kFlush | 0x6000}) {  // as usual; and truncating
      _mm_setcsr(odd);
      EXPECT_NO_THROW(team.run(jobs));
      EXPECT_EQ(_mm_getcsr(), odd);
    }
  }
  _mm_setcsr(before);
}

TEST_P(TeamSizes, FloatStateIsRestoredAfterAnError) {
  const unsigned before = _mm_getcsr();
  Team team(GetParam(), 0, Denormals::flush);
  const TileFn fail = [](const void*, int64_t, const Worker&) { throw RunError("no"); };
  const Job job{fail, nullptr, 8};
  EXPECT_THROW(team.run({&job, 1}), RunError);
  EXPECT_EQ(_mm_getcsr(), before);
}

// Teams of one process, one beside the other and in turns.
TEST_P(TeamSizes, FloatStatesOfTwoTeamsAreTheirOwn) {
  constexpr Denormals kBoth[] = {Denormals::compute, Denormals::flush};
  Team computing(GetParam(), 0, kBoth[0]), flushing(GetParam(), 0, kBoth[1]);
  for (int run = 0; run < 50; ++run) {
    for (Team* team : {&computing, &flushing}) {
      const Job job{expect_denormals, &kBoth[team == &flushing ? 1 : 0], 16};
      EXPECT_NO_THROW(team->run({&job, 1}));
    }
  }
}

// Tiles along memory are each handed out once too, beside steps without parts, however many.
TEST(Team, TilesAlongMemoryRunOnce) {
  constexpr int64_t kMostTiles = 26;
  for (const int workers : {2, 3, 5, 40}) {
    Team team(workers);
    std::vector<std::vector<std::atomic<int>>> ran;
    for (int64_t tiles = 0; tiles <= kMostTiles; ++tiles) {
      ran.emplace_back(static_cast<size_t>(tiles));
    }
    std::vector<Job> jobs;
    const TileFn note = [](const void* at, int64_t tile, const Worker&) {
      auto& counts = *static_cast<std::vector<std::atomic<int>>*>(const_cast<void*>(at));
      ++counts.at(static_cast<size_t>(tile));
    };
    for (auto& counts : ran) {
      jobs.push_back({note, &counts, static_cast<int64_t>(counts.size()), true});
      jobs.push_back({note, &counts, static_cast<int64_t>(counts.size()), false});
    }
    constexpr int kRuns = 20;
    for (int run = 0; run < kRuns; ++run) team.run(jobs);
    for (const auto& counts : ran) {
      for (const auto& count : counts) ASSERT_EQ(count.load(), 2 * kRuns);
    }
  }
}

// Nobody is disturbed: each worker's tiles are neighbours, in order.
TEST(Team, WorkersKeepToTheirPart) {
  static constexpr int64_t kTiles = 20;
  struct Note {
    std::array<std::atomic<int>, kTiles> by{};
    std::atomic<int> started{0};
  };
  Note note;
  const TileFn run = [](const void* at, int64_t tile, const Worker& worker) {
    Note& n = *static_cast<Note*>(const_cast<void*>(at));
    n.by[static_cast<size_t>(tile)] = worker.index;
    const int mine = ++n.started;
    while (n.started < (mine + 1) / 2 * 2) std::this_thread::yield();  // two by two
  };
  Team team(2);
  const Job job{run, &note, kTiles, true};
  team.run({&job, 1});
  for (size_t tile = 0; tile < kTiles; ++tile) EXPECT_EQ(note.by[tile], tile < kTiles / 2 ? 0 : 1);
}

TEST(Team, RefusesNoWorkers) { EXPECT_THROW(Team(0), UsageError); }

TEST(Team, RunsNothing) {
  Team team(3);
  team.run({});
  const Job none{nullptr, nullptr, 0};
  team.run({&none, 1});
}

// Eight threads, however few cores: many short steps must not take scheduler slices each.
TEST(Team, CrowdedIsNotTerriblySlow) {
  Team team(8);
  const TileFn work = [](const void*, int64_t, const Worker&) {
    for (int i = 0; i < 2000; ++i) _mm_pause();
  };
  const std::vector<Job> jobs(200, Job{work, nullptr, 16});
  team.run(jobs);
  const auto from = std::chrono::steady_clock::now();
  team.run(jobs);
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - from;
  EXPECT_LT(time.count(), 3.0);
}

}  // namespace
}  // namespace planck
