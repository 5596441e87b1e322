#pragma once
// From a symbolic step to jobs: what a backend does when a binding is made. Addresses are not
// known yet; each pointer inside a kernel's arguments is a relocation, set before every run.
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/job.h"
#include "plan/plan.h"

namespace planck {

struct BoundValue {
  DType dtype = DType::f32;
  Shape shape;
  std::vector<int64_t> strides;  // elements
  int64_t offset = 0;            // elements
  int32_t buffer = -1;
  bool late = false;  // only the step that makes it will know its shape

  int64_t rank() const { return static_cast<int64_t>(shape.size()); }
  int64_t count() const;
  // As rows x columns; the row stride is that of the innermost stepped leading axis.
  int64_t columns() const { return shape.empty() ? 1 : shape.back(); }
  int64_t rows() const;
  int64_t row_stride() const;
  // Of [images, rows, columns, channels]: whether the places of an image are neighbours, one
  // channel after the other.
  bool has_planes() const;
  // Whether the elements of a row lie apart.
  bool has_gaps() const { return !shape.empty() && shape.back() > 1 && strides.back() != 1; }
};

struct Relocation {
  void** slot;    // inside a kernel's arguments
  int32_t value;  // plan value whose first element it shall point at
};

struct BoundStep {
  std::vector<Job> jobs;
  std::vector<std::shared_ptr<void>> args;  // keeps what jobs point at
  std::vector<Relocation> relocations;
  int64_t scratch_bytes = 0;
  double flops = 0;  // of products only: a multiplication and an addition are two
  // Values whose shape the step finds out, with what it makes of them in a run.
  struct Late {
    int32_t value;
    Tensor* made;  // in args
  };
  std::vector<Late> late;

  // Makes an argument struct that lives as long as the step.
  template <class Args>
  Args& make(Args initial = {}) {
    auto owned = std::make_shared<Args>(std::move(initial));
    args.push_back(owned);
    return *owned;
  }
  template <class T>
  void relocate(T*& slot, int32_t value) {
    if (value >= 0)
      relocations.push_back(
          {reinterpret_cast<void**>(const_cast<std::remove_const_t<T>**>(&slot)), value});
  }
};

struct BindContext {
  const Plan& plan;
  const std::vector<BoundValue>& values;
  const Bindings& bindings;

  const BoundValue& at(int32_t id) const { return values[static_cast<size_t>(id)]; }
  std::string nodes_text(const Step& step) const;  // for errors at run time
  // Inference takes unequal symbols as equal; here the numbers are known. RunError unless the
  // value (absent is fine) broadcasts to the shape.
  void expect_broadcast(const Step& step, int32_t id, std::span<const int64_t> shape) const;
};

// The ONNX nodes that a step covers, shortened after three.
std::string step_names(const Plan& plan, const Step& step);

using BindStep = BoundStep (*)(const BindContext&, const Step&);

BoundStep bind_cpu(const BindContext& context, const Step& step);        // backends/cpu
BoundStep bind_reference(const BindContext& context, const Step& step);  // backends/reference
// For a step of a loaded plan: UnsupportedError for an op that is unknown, CorruptError for
// attributes that it does not have or another number of operands.
void check_reference(const Step& step);

}  // namespace planck
