#pragma once
// The plan file. Little-endian; format 1.0:
//   header   64 bytes: magic, version, byte order, feature bits, sections, size, XXH3-128 of the
//            header (this field zero) and the table
//   table    48 bytes a section: kind, flags, offset, size, XXH3-128 of its bytes
//   sections in the order of the table, each at the next multiple of its alignment (64 bytes; 2 MiB
//            for weights), zeros between, nothing after the last
// Sections: metadata (plan/archive.h), source graph, weights (each constant at the next multiple of
// 64 bytes). A plan holds no code, no path and no library, and there is no field for one.
#include <span>
#include <string>

#include "base/file.h"
#include "base/limits.h"
#include "plan/plan.h"

namespace planck {

inline constexpr int kPlanMajor = 1, kPlanMinor = 6;

struct PlanReadOptions {
  bool verify = false;                                    // hash the weights too
  int64_t metadata_bytes = Limits().plan_metadata_bytes;  // the graph counts too
};

// The bytes of the file in order, a piece at a time.
void write_plan(const Plan& plan, const ByteSink& sink);
// Atomically: the old file or the new one. FileError.
void save_plan(const Plan& plan, const std::string& path);

// Structure and hashes; the meaning is checked by verify_plan (backends/verify.h), which every load
// calls. Weights stay where they are, kept by `bytes.owner`. CorruptError: truncated, damaged, not
// a plan; VersionError and TargetError name both sides; LimitError.
Plan read_plan(const Bytes& bytes, const PlanReadOptions& options);

// For tests that change a plan and want its hashes right again. CorruptError where it has no table.
void rehash_plan(std::span<std::byte> file);

}  // namespace planck
