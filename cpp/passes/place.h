#pragma once
// Placement: which tensors of a float graph are quantised.
// Goals: one set of decisions for `planck.build` and `planck.quantize`; every weighted op that
// stays float says why. Non-goals: thresholds of activations, which calibration and files bring.
//
// The rules: all inputs of weighted ops and none of
// their outputs; weights symmetric in s8; in the recipe for convolutional networks also the skip
// input of an Add that a convolution feeds. On the graph as it was imported, whose tensors have
// ONNX's names.
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "ir/graph.h"

namespace planck {

struct PlacementOptions {
  // "transformer": int8 in, wide out. "cnn": skip inputs too. "auto": one of the two, by what the
  // graph has more of. "all": "cnn", and nothing stays float by default. "dynamic": weights alone;
  // the grids of activations are found in each run.
  std::string recipe = "auto";
  std::string weights = "per_channel";  // or "per_tensor"
  std::string weight_method = "mse";    // or "max"
  // Patterns of node names, '*' and '?' as in file names. What `include` matches is quantised even
  // where the recipe would leave it float; `exclude` wins over it.
  std::vector<std::string> include, exclude;
  bool depthwise = false;  // quantise depthwise convolutions too
  // Where there are any, the ops with these weights and no others, whatever the recipe keeps.
  std::set<std::string> bound;
};

// An input of a node, and the ONNX node behind it as an index into Graph::sources.
struct PlacedUse {
  NodeId node = kNoNode;
  int32_t input = 0;
  int32_t source = -1;
};

// A tensor and those of its readers that read it quantised.
struct PlacedTensor {
  ValueId value = kAbsent;
  std::string name;
  QParams grid;
  std::vector<PlacedUse> uses;
};

struct KeptFloat {
  NodeId node = kNoNode;
  std::string reason;
};

struct Placement {
  std::string recipe;  // never "auto"
  std::vector<PlacedTensor> activations, weights;
  std::vector<NodeId> quantised;  // weighted ops
  std::vector<KeptFloat> kept;    // in the order of the graph
};

using Grids = std::map<std::string, QParams>;  // by tensor name; weights may be among them

// Errors: UsageError (an unknown recipe or method; a pattern that matches no node, with the nearest
// names; a graph with QuantizeLinear or DequantizeLinear nodes), CalibrationError (grids that cover
// no input of a weighted op, with the nearest names; a grid that does not fit its weight),
// PrecisionError (no op is left to quantise, with the reasons).
Placement place(const Graph& imported, const Grids& grids, const PlacementOptions& options);

// Inserts the QuantizeLinear and DequantizeLinear nodes: one pair for a tensor, whose ONNX nodes
// are those that it serves. Not for the recipe "dynamic".
void apply(Graph& g, const Placement& placement);

// The integers of a weight, as a tensor of its shape.
Tensor quantised_weight(const Graph& g, const PlacedTensor& weight);

// What the graph has of QuantizeLinear, DequantizeLinear and ops on integers; else null.
const Node* first_quantised_node(const Graph& g);

}  // namespace planck
