#pragma once
// What the rules of placement ask about a graph.
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "passes/place.h"

namespace planck {

// Facts of a whole graph, computed once.
class PlaceFacts {
 public:
  explicit PlaceFacts(const Graph& g);

  // Whether nothing that a run brings goes into the value.
  bool is_fixed(ValueId v) const;
  // Whether a weighted op lies on some way from the inputs to the value.
  bool behind_weights(ValueId v) const;
  const std::string& name_of(const Node& n) const;

 private:
  const Graph& graph_;
  std::vector<bool> fixed_, behind_;
};

bool is_weighted_op(const Node& n);  // MatMul, Gemm, Conv, ConvTranspose

// A constant that reaches a weighted op, perhaps through views of it. One that is stored in half
// precision is taken as the result of the Cast that makes it f32.
struct WeightPath {
  ValueId weight = kAbsent;
  PlacedUse first;    // who reads the weight
  int64_t axis = -1;  // of the weight: along the channels of the op's result
};
// The constant itself or the f16 or bf16 one that a Cast to f32 makes the value of; else kAbsent.
ValueId stored_weight(const Graph& g, ValueId v);
// The path of the op's weight, or why the op has none that int8 could use.
std::variant<WeightPath, std::string> weight_path(const Graph& g, const Node& n);

// Which input is multiplied by the weight.
inline constexpr int32_t kDataInput = 0, kWeightInput = 1;

// Why the op had better stay float, for reasons of accuracy or speed; empty if there is none.
std::string why_float(const Graph& g, const PlaceFacts& facts, const Node& n, bool depthwise);

// The ONNX node that the node is, as an index into Graph::sources; -1 where it is none or several.
int32_t source_of(const Graph& g, const Node& n);

// The value itself or, through ops that move, widen or name its numbers only, what it was made of.
ValueId same_numbers(const Graph& g, ValueId v);

// The convolution whose result the value is, through steps with constants that fuse into it and
// that nobody else reads; else null.
const Node* convolution_of(const Graph& g, const PlaceFacts& facts, ValueId v);
// Weighted ops in a row above the convolution, up to a tensor with several readers.
int branch_length(const Graph& g, const Node& conv);

}  // namespace planck
