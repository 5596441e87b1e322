#pragma once
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "importer/importer.h"
#include "plan/plan.h"

namespace planck {

struct BuildOptions {
  std::string precision = "graph";  // "graph" or "fp32"; others are refused with a reason
  std::string device = "cpu";
  std::string fallback = "reference";  // or "error"
  std::vector<std::string> disabled_passes;
  int64_t stop_after_patch = -1;
  ImportOptions import;
  // Called with a stage and how much of the build is done, 0 to 1; false cancels.
  std::function<bool(std::string_view stage, double done)> progress;
};

// All stages: import, passes, lowering with packed weights. Throws the classes of base/errors.inc.
Plan build_file(const std::string& path, const BuildOptions& options);
Plan build_bytes(std::span<const std::byte> model, const BuildOptions& options);
// The same from a graph: for tests, and for graphs that were made by hand.
Plan build_graph(Graph graph, const BuildOptions& options);
// The graph after the passes, as text.
std::string graph_text(const std::string& path, const BuildOptions& options);

}  // namespace planck
