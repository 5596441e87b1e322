#pragma once
// Tensors of a model that calibration looks at, and how a plan gives them.
#include <string>
#include <vector>

#include "builder/build.h"
#include "ir/graph.h"

namespace planck {

// A float tensor that is no constant, by its ONNX name.
struct Activation {
  std::string name;
  DType dtype = DType::f32;
  bool input = false;     // of the model: found among the feeds
  bool product = false;   // input or output of a product, or what a recipe wants beside it
  bool channels = false;  // input of a matrix product: ranges along its last axis are of use
  bool windows = false;   // input of a convolution: its channels are axis 1
  int64_t group = -1;     // tensors that have to share a grid: of a Concat, of a MaxPool
};

// In the order in which the model makes them. `others`: named tensors of other types.
struct Activations {
  std::vector<Activation> floats;
  std::vector<std::string> others;
};
Activations activations_of(const Graph& g);
// The same of a model as build_file and build_bytes import it.
Activations activations_of_file(const std::string& path, const BuildOptions& options);
Activations activations_of_bytes(std::span<const std::byte> model, const BuildOptions& options);

// Makes tensors outputs of the graph as well, after its own. UsageError names one that is not there
// with those nearest to it.
void add_extra_outputs(Graph& g, const std::vector<std::string>& names);

}  // namespace planck
