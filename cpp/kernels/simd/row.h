#pragma once
// What every kernel row of a family says about itself. Not for ISA files: it names std types.
#include <span>
#include <string_view>

#include "base/device.h"
#include "base/error.h"
#include "kernels/job.h"

namespace planck {

template <class Args>
struct KernelRow {
  std::string_view name;
  Isa isa;
  int64_t scratch_bytes;               // of each worker
  int64_t (*tiles)(const Args& args);  // depends on the problem only
  TileFn run;                          // args: a const Args*

  Job job(const Args& args) const { return {run, &args, tiles(args), true}; }
};

template <class Row>
const Row& row_of_name(std::span<const Row> rows, std::string_view name) {
  for (const Row& row : rows) {
    if (row.name == name) return row;
  }
  throw UsageError("no kernel named '", name, "'");
}

// The first row that the device can run; the portable one, which is last, always can.
template <class Row>
const Row& best_row(std::span<const Row> rows, const Device& device = this_device()) {
  for (const Row& row : rows) {
    if (device.has(row.isa)) return row;
  }
  throw InternalError("a kernel family has no portable row");
}

}  // namespace planck
