#pragma once
// Every tensor of the original model, next to a reference, while the plan stays as it is.
//
// A tensor that the plan holds somewhere is read there. One that vanished inside a fused step is
// evaluated again by the references of its ONNX nodes, from the nearest tensors that the plan does
// hold, and rounded to its storage type. Memory is bounded: plan and reference advance step by step
// and every tensor is dropped after its last reader.
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "runtime/metrics.h"
#include "runtime/session.h"

namespace planck {

struct TensorFacts {
  std::string name;           // of the ONNX tensor
  std::string node, op_type;  // that produces it
  int32_t step = -1;          // of the plan; -1: no step computes it
  std::string kernel;
  bool held = false;  // the plan holds it; else it was evaluated again
  static void fields(auto& s, auto& visit) {
    visit("name", s.name);
    visit("node", s.node);
    visit("op_type", s.op_type);
    visit("step", s.step);
    visit("kernel", s.kernel);
    visit("held", s.held);
  }
};

struct TensorRow {
  TensorFacts facts;
  DType dtype = DType::f32;
  Shape shape;
  ErrorSums cumulative;  // the plan's own run against the reference
  bool isolated_known = false;
  ErrorSums isolated;  // this step alone, fed with the reference's inputs
  double scale2 = 0;   // sum of squares that the error is held against, if not the tensor's own
};

struct InspectOptions {
  int threads = 0;
  bool isolated = true;
  Denormals denormals = Denormals::compute;  // as the plan's runs have it; never in the reference
  // Called for each tensor that is done; false cancels. Fraction of the steps.
  std::function<bool(double)> progress;
};

// The reference's tensor of that name; false if it has none.
using ReferenceTensors = std::function<bool(const std::string& name, Wide& tensor)>;

// One sample. Without `reference` the model itself is evaluated in double. Inputs in the plan's
// order. Errors: UsageError for a plan without its source graph, FeedError, CancelledError.
std::vector<TensorRow> compare_tensors(const Plan& plan, std::vector<Tensor> inputs,
                                       const ReferenceTensors* reference,
                                       const InspectOptions& options);

// The tensors that `wanted` names (null: all), as the plan computes them, in the plan's order.
using TapSink = std::function<void(const TensorFacts& facts, const Tensor& tensor)>;
void tap_tensors(const Plan& plan, std::vector<Tensor> inputs,
                 const std::function<bool(const std::string&)>& wanted, const TapSink& sink,
                 const InspectOptions& options);

// Names of all tensors that can be tapped, in the model's order.
std::vector<TensorFacts> tensor_facts(const Plan& plan);

}  // namespace planck
