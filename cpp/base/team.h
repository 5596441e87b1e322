#pragma once
// A team of worker threads that runs lists of steps.
// Goals: 0.2 us from step to step; bits that follow the tiles, never the thread that ran them; a
// core that the system takes away delays one tile, not the team; more threads than cores stay
// correct; where tiles lie along memory, each worker takes those of its own part first. Non-goals:
// nested runs, task graphs, work that blocks.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/float_state.h"
#include "base/guard.h"
#include "base/job.h"

namespace planck {

class Team {
 public:
  // workers counts the caller, so that Team(1) starts no thread and uses no atomics.
  explicit Team(int workers, int64_t scratch_bytes = 0, Denormals denormals = Denormals::compute);
  ~Team();  // no run may be in progress
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const;

  // Grows the scratch of every worker; not during a run.
  void reserve_scratch(int64_t bytes);

  // The step of the last failed run whose tile threw first.
  size_t failed_step() const;

  // Runs the steps in order; the tiles of one step in any order, on any worker. One run at a time:
  // a session sends its further callers to teams of their own. An exception thrown by a tile ends
  // the run and is thrown here; the team stays usable. Tiles see the
  // team's floating-point state, on every thread; the caller's is restored.
  // `ends` is empty, or takes when each step ended: nanoseconds from the start of the run.
  // A guard is checked before each tile, and is that of the thread while the tile runs.
  void run(std::span<const Job> steps, std::span<int64_t> ends = {}, const Guard* guard = nullptr);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace planck
