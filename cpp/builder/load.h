#pragma once
#include <string>

#include "base/guard.h"
#include "plan/file.h"

namespace planck {

enum class Repack : uint8_t {
  automatic,  // only if a kernel of the plan cannot run here
  never,      // TargetError in that case
  best,       // also where this machine has faster kernels than the plan's
};

struct LoadOptions {
  Limits limits;        // load_timeout, plan_bytes, plan_metadata_bytes
  bool verify = false;  // hash the weights too
  Repack repack = Repack::automatic;
  std::string name;  // what reports and errors call the plan; empty: its path
};

// Reads, checks and, for another instruction set, chooses kernels anew and packs the weights for
// them (in memory: the file stays). Errors: those of read_plan, and TargetError naming both sides.
Plan load_plan(const std::string& path, const LoadOptions& options);
Plan load_plan(const Bytes& bytes, const LoadOptions& options);

// The same plan for this machine's best kernels.
void repack(Plan& plan);

}  // namespace planck
