#pragma once
// What every kernel is to the executor: a fixed number of tiles, any of which may run on any
// worker in any order. The number of tiles never depends on the number of threads (same bits).
#include <cstddef>
#include <cstdint>

namespace planck {

struct Worker {
  int index = 0;                 // 0 is the caller's thread
  int count = 1;                 // size of the team; for prefetch distance only, never for results
  std::byte* scratch = nullptr;  // 64-byte aligned, at least the step's scratch_bytes
};

// args points at the family's own plain struct, filled when a binding is made.
using TileFn = void (*)(const void* args, int64_t tile, const Worker& worker);

struct Job {
  TileFn run = nullptr;
  const void* args = nullptr;
  int64_t tiles = 0;
  // Tiles lie along memory: a worker that keeps to its part of them finds in its cache what it
  // wrote a step before, and reads weights as one stream, which would wait for memory where it
  // begins anew.
  bool along = false;
};

// Where a worker's part of tiles along memory begins, and that of the worker before it ends.
constexpr int64_t part_begin(int64_t tiles, int64_t part, int64_t parts) {
  return part * tiles / parts;
}

}  // namespace planck
