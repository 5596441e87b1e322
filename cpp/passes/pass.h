#pragma once
// Passes: each reads a const graph and proposes one patch at a time; the driver applies them.
// Goals: every pass is named, timed, verified, counted, stoppable and switchable without knowing.
// Non-goals: parallel passes, passes that change a graph themselves.
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "ir/graph.h"
#include "ir/patch.h"
#include "ir/pattern.h"

namespace planck {

struct PassOptions {
  std::set<std::string, std::less<>> disabled;  // passes and fusions to skip, by name
  int64_t stop_after = -1;   // apply only the first N patches; -1: the knob stop_after_patch
  bool verify_each = false;  // the whole graph after every patch; or the knob verify_patches
  // Called before each pass with the number of passes done and their total; false cancels
  // (CancelledError). Empty: nobody asks.
  std::function<bool(std::string_view pass, size_t done, size_t total)> progress;
};

// What passes did, and what they refused to do and why.
struct PassReport {
  struct Row {
    std::string pass;
    int64_t patches = 0;
    double ms = 0;
  };
  struct Refused {
    std::string pass, node, reason;  // node: its ONNX names
    auto operator<=>(const Refused&) const = default;
  };
  std::vector<Row> rows;
  std::vector<Refused> refusals;  // each once, in the order of the pipeline and of the nodes
  int64_t patches = 0;

  void refuse(std::string_view pass, const Graph& g, const Node& n, const std::string& reason);
};

struct Pass {
  std::string name;
  // The next patch at or after node `from`, or nothing up to the end of the graph.
  std::function<std::optional<Patch>(const Graph& g, NodeId from, PassReport& report)> next;
};

// Repeats the pass in place until a whole scan proposes nothing. Throws InternalError where a
// pass does not end; errors carry "in patch N" and "in pass NAME".
void run_pass(Graph& g, const Pass& pass, const PassOptions& options, PassReport& report);

// All passes of pipeline(). UsageError for a name in `disabled` that no pass has.
void run_pipeline(Graph& g, const PassOptions& options, PassReport& report);

// The recipe (passes/pipeline.cpp), with fresh state for one run.
std::vector<Pass> pipeline();
std::vector<std::string> pass_names();  // each once, in order

// A pass that asks `rewrite` about each node: a patch, a refusal with its reason, or nothing.
using Rewrite = std::optional<Outcome> (*)(const Graph& g, const Node& n);
Pass node_pass(std::string name, Rewrite rewrite);

// A fusion: a formula matched at each node, then a check and a replacement. A refusal without a
// text means that the match is not what the fusion is about, and is not reported.
using FusionRewrite = Outcome (*)(const Graph& g, const Match& m);
Pass fusion_pass(std::string name, Pat formula, FusionRewrite rewrite);

// Ends a file of passes/fusions: pattern() and rewrite() are what it defines.
#define PLANCK_FUSION(name) \
  Pass fusion_##name() { return fusion_pass(#name, pattern(), rewrite); }

}  // namespace planck
