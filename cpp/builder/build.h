#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/guard.h"
#include "importer/importer.h"
#include "passes/place.h"
#include "plan/plan.h"

namespace planck {

struct BuildOptions {
  std::string precision = "graph";  // "graph", "fp32", "fp32-fast" or "int8"; others are refused
  std::string device = "cpu";
  std::string fallback = "reference";  // or "error"
  std::vector<std::string> disabled_passes;
  int64_t stop_after_patch = -1;
  Grids scales;  // for "int8": of activations and perhaps weights, by ONNX tensor name
  PlacementOptions placement;
  std::map<std::string, int64_t> dims;  // extents of symbolic dimensions, by their ONNX names
  std::map<std::string, Tensor> initializers;  // in place of the model's, of the same type
  std::set<std::string> fed_initializers;      // those among the inputs that every run is to give
  // ONNX tensors that the plan gives after the model's outputs, in this order; what they are made
  // of is fused no further than they allow.
  std::vector<std::string> extra_outputs;
  Limits limits;                         // build_timeout too
  bool inspectable = true;               // with the source model, for comparisons and taps
  std::string external_data_dir;         // for build_bytes; a file's own folder otherwise
  std::shared_ptr<const Cancel> cancel;  // from any thread
  // Called with a stage and how much of the build is done, 0 to 1: where a stage begins, and every
  // 20 ms or so inside it. False cancels.
  std::function<bool(std::string_view stage, double done)> progress;
};

// All stages: import, passes, lowering with packed weights. Throws the classes of base/errors.inc;
// CancelledError and TimeoutError come within 100 ms.
Plan build_file(const std::string& path, const BuildOptions& options);
Plan build_bytes(std::span<const std::byte> model, const BuildOptions& options);
// The same from a graph: for tests, and for graphs that were made by hand.
Plan build_graph(Graph graph, const BuildOptions& options);
// The imported graph, with its halves as f32, and what "int8" would quantise in it.
struct PlacedModel {
  Graph graph;
  Placement placement;
  std::map<std::string, DType> halves;  // tensors of the model in half precision, by name
};
PlacedModel place_file(const std::string& path, const BuildOptions& options);
PlacedModel place_bytes(std::span<const std::byte> model, const BuildOptions& options);
// The number of axes of every named tensor of the imported graph, those of sub-graphs left out.
std::map<std::string, int64_t> tensor_ranks(std::span<const std::byte> model,
                                            const BuildOptions& options);
// The graph after the passes, as text.
std::string graph_text(const std::string& path, const BuildOptions& options);

}  // namespace planck
